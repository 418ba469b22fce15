# shellcheck shell=sh
# Answers a waiting activation over a new connection. The connection itself proves that the machine can be reached.
# Ends with 73 if the answer can't be written (sysexits.h, EX_CANTCREAT).

main() { # DIRECTORY reached|keep|undo|reboot
    case $2-$(cat "$1/step" 2>/dev/null) in
        reached-acknowledge) touch "$1/reached" ;;
        # Only one caller can make the link (symlink(2)).
        keep-acknowledge | keep-check | undo-acknowledge | undo-check) ln -s "$2" "$1/decision" || [ -L "$1/decision" ] ;;
        reboot-reboot) touch "$1/reboot" ;;
    esac || return 73
}
