# shellcheck shell=sh disable=SC2154
# Starts a garbage collection on this machine, detached from the connection that asks for it.
# Standard input: the job. Prints "directory NAME", or "refused REASON" (busy, root, nix, room).

refuse() { # REASON
    echo "refused $1"
    exit 0
}

main() { # PROFILE NUMBERS-OF-GENERATIONS...
    [ "$(id -u)" = 0 ] || refuse root
    command -v nix-store >/dev/null || refuse nix
    # What an activation needs is not a generation yet.
    ! is_activating || refuse busy
    umask 077
    directory=$(mktemp -d "${TMPDIR:-/tmp}/nix-ops-gc.XXXXXX") || refuse room
    if ! cat >"$directory/job" || ! : >"$directory/log"; then
        rm -rf -- "$directory"
        refuse room
    fi
    setsid /bin/sh "$directory/job" "$directory" "$@" </dev/null >/dev/null 2>&1 &
    echo $! >"$directory/pid"
    identity $! >"$directory/identity"
    echo "directory $directory"
}
