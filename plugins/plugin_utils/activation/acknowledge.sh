# shellcheck shell=sh
# Answers, over a connection of its own, an activation that waits for that. That this runs at all proves that the
# machine can be reached.

main() { # DIRECTORY reached|keep|undo|reboot
    case $2-$(cat "$1/step" 2>/dev/null) in
        reached-acknowledge) : >"$1/reached" ;;
        keep-acknowledge | keep-check | undo-acknowledge | undo-check) ln -s "$2" "$1/decision" 2>/dev/null || : ;;
        reboot-reboot) : >"$1/reboot" ;;
    esac
}
