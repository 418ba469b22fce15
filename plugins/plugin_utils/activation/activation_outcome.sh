# shellcheck shell=sh
# What an activation left behind: what runs and what boots, whether it was undone, and the ends of the journals
# of the units that failed.

main() { # DIRECTORY PROFILE
    standing "$2"
    [ ! -f "$1/rolled_back" ] || echo "rolled_back $(cat "$1/rolled_back")"
    # Services wrote the journal: it comes last, and with its length.
    if [ -f "$1/journal" ]; then
        echo "journal $(head -c 65536 "$1/journal" | wc -c)"
        head -c 65536 "$1/journal"
    fi
    rm -rf -- "$1"
}
