# shellcheck shell=sh
# Prints the result of an activation: what runs and what boots, whether it was rolled back, and the ends of the journals
# of failed units; for each unit that failed whether it counts. Removes the activation's directory.

main() { # DIRECTORY PROFILE
    standing "$2"
    [ ! -f "$1/rolled_back" ] || echo "rolled_back $(cat "$1/rolled_back")"
    [ ! -f "$1/failed" ] || grep -E '^(own|foreign) ' "$1/failed" || :
    # Services write the journal, so it comes last and with its length.
    if [ -f "$1/journal" ]; then
        echo "journal $(head -c 65536 "$1/journal" | wc -c)"
        head -c 65536 "$1/journal"
    fi
    rm -rf -- "$1"
}
