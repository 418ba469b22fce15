# shellcheck shell=sh
# Acknowledges the first boot of a new system, over a connection of its own, or has it undone at once. That this runs
# at all proves that the machine can be reached. The answer: "decision" and the one that counts, or none if nothing waits.

main() { # keep|undo
    trial=/var/lib/nix-ops/trial
    decision=/run/nix-ops-boot-decision
    if [ -e "$trial" ] && read -r new _ <"$trial" && [ "$(toplevel /run/current-system)" = "$new" ] &&
        ln -s "$1" "$decision" 2>/dev/null; then
        # A trial that came back after a power cut would undo what was acknowledged.
        [ "$1" = undo ] || { rm -f "$trial" && sync "${trial%/*}"; } || exit
        echo "decision $1"
    else
        echo "decision $(readlink "$decision" || echo none)"
    fi
}
