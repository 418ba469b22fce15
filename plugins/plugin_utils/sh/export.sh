# shellcheck shell=sh
# Exports the store paths on standard input to a new file that one user alone may read.
# main FILE USER

main() {
    umask 077
    xargs nix-store --export >"$1" && chown "$2" "$1"
}
