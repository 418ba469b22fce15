# shellcheck shell=sh
# Answers "path PATH" for the closures of the store paths on standard input.

main() {
    paths=$(xargs nix-store --query --requisites) || exit
    printf '%s\n' "$paths" | sed 's/^/path /'
}
