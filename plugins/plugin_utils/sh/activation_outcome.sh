# shellcheck shell=sh
# What an activation left behind: what runs and what boots, whether it was undone, and the ends of the journals
# of the units that failed.

main() { # DIRECTORY PROFILE
    standing "$2"
    [ ! -f "$1/rolled_back" ] || echo "rolled_back $(cat "$1/rolled_back")"
    [ ! -f "$1/journal" ] || cat "$1/journal"
    rm -rf -- "$1"
}
