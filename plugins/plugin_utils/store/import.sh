# shellcheck shell=sh
# Imports store paths from a file that nix-store --export wrote.

main() { # FILE
    nix-store --import <"$1" >/dev/null
}
