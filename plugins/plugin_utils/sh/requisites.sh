# shellcheck shell=sh
# Prints the closures of the store paths on standard input.

main() {
    xargs nix-store --query --requisites
}
