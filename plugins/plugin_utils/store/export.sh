# shellcheck shell=sh
# Exports the store paths on standard input to a new file that everybody may read, like the store.

main() { # FILE
    umask 022
    # All in one call: nix-store --import reads only the first of several exports.
    set -f
    # shellcheck disable=SC2046 # store paths have no white space
    nix-store --export $(cat) >"$1"
}
