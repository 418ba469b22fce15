# shellcheck shell=sh
# The beginning of every script that goes to a host.

# Sessions of sudo, doas or a container may lack the directories of NixOS.
PATH=${PATH:+$PATH:}/run/wrappers/bin:/nix/var/nix/profiles/default/bin:/run/current-system/sw/bin
export PATH

# In a container the store belongs to the daemon outside. NixOS sets this in login shells only.
if [ -z "${NIX_REMOTE-}" ] && [ -S /nix/var/nix/daemon-socket/socket ] &&
    [ -d /nix/var/nix/db ] && [ ! -w /nix/var/nix/db ]; then
    NIX_REMOTE=daemon
    export NIX_REMOTE
fi
