# shellcheck shell=sh disable=SC2154
# Marks where a script's answer begins and ends, and keeps scripts from running on another machine than the one that the
# controller means: an address can lead elsewhere from one call to the next.

# Print the mark before an answer, with the id of this boot and the id that this machine got with its first activation.
# Fail if the controller means another machine. After a reboot the machine's own id tells that it is the same one.
begin_answer() { # BOOT MACHINE
    read -r this_boot </proc/sys/kernel/random/boot_id
    this_machine=
    [ ! -r "$nix_ops_identity" ] || read -r this_machine <"$nix_ops_identity"
    # Anything else would make the mark unreadable.
    case $this_machine in *[!0-9a-f-]*) this_machine= ;; esac
    [ "${#this_machine}" -eq 36 ] || this_machine=
    echo "nix.ops answers $this_boot $this_machine"
    [ -z "$1" ] || [ "$this_boot" = "$1" ] || { [ -n "$2" ] && [ "$this_machine" = "$2" ]; }
}

# Give this machine an id that outlives reboots, unless it has one.
make_identity() {
    [ ! -s "$nix_ops_identity" ] || return 0
    mkdir -p "${nix_ops_identity%/*}" && cat /proc/sys/kernel/random/uuid >"$nix_ops_identity.new" &&
        mv "$nix_ops_identity.new" "$nix_ops_identity"
}
