# shellcheck shell=sh
# Exports the store paths on standard input to a new file that all may read, as the store.
# main FILE

main() {
    umask 022
    xargs nix-store --export >"$1"
}
