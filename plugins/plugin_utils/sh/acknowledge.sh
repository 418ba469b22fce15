# shellcheck shell=sh
# Decides, over a connection of its own, what becomes of an activation that waits for that. That this runs at all
# proves that the machine can be reached. The answer: the decision that counts, or "none" where nothing waits.

main() { # DIRECTORY keep|undo
    if [ "$(cat "$1/step" 2>/dev/null)" = acknowledge ]; then
        ln -s "$2" "$1/decision" 2>/dev/null || :
    fi
    readlink "$1/decision" || echo none
}
