# shellcheck shell=sh
# Prints "path PATH" for each path in the closures of the store paths on standard input.

main() {
    paths=$(xargs nix-store --query --requisites) || exit
    printf '%s\n' "$paths" | sed 's/^/path /'
}
