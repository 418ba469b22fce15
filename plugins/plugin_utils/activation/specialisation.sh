# shellcheck shell=sh
# Prints "path PATH" for a specialisation of a system in this machine's store, and "name NAME" for each that the system has.

main() { # TOPLEVEL NAME
    directory=$1/specialisation
    [ -d "$directory" ] || return 0
    find "$directory" -mindepth 1 -maxdepth 1 | sed 's|.*/|name |'
    [ ! -d "$directory/$2" ] || echo "path $(readlink -f "$directory/$2")"
}
