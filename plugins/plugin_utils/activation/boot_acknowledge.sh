# shellcheck shell=sh disable=SC2154
# Acknowledges the first boot of a new system over a new connection, or has the machine boot back at once. The connection
# itself proves that the machine can be reached.
# Prints "decision" and the decision that counts, or none if no boot guard waits. Ends with 73 if the decision can't be
# written (sysexits.h, EX_CANTCREAT).

main() { # keep|undo
    find_trial
    waits=
    if [ -n "$trial_file" ] && runs "$trial_toplevel"; then waits=yes; fi
    if [ -n "$waits" ] && ln -s "$1" "$nix_ops_boot_decision" 2>/dev/null; then
        # After a power cut the trial would undo what was acknowledged.
        [ "$1" = undo ] || { rm -f "$trial_file" && sync "${trial_file%/*}"; } || exit
        echo "decision $1"
    elif [ -n "$waits" ] && [ ! -L "$nix_ops_boot_decision" ]; then
        echo "$nix_ops_boot_decision could not be written" >&2
        exit 73
    else
        echo "decision $(readlink "$nix_ops_boot_decision" || echo none)"
    fi
}
