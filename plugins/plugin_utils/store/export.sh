# shellcheck shell=sh
# Exports the store paths on standard input to a new file that all may read, as the store.
# main FILE

main() {
    umask 022
    # All in one call: an export is one stream, and only the first of several would be imported.
    set -f
    # shellcheck disable=SC2046 # store paths have no white space
    nix-store --export $(cat) >"$1"
}
