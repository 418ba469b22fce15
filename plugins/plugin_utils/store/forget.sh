# shellcheck shell=sh
# Removes a link, and the store paths on standard input from the store.

main() { # LINK
    [ -z "$1" ] || rm -f -- "$1"
    xargs nix-store --delete >/dev/null
}
