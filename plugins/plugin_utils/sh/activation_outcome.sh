# shellcheck shell=sh
# What an activation left behind: what runs and what boots, and the ends of the journals of the
# units that have failed.
# main DIRECTORY PROFILE LINES [FAILED-UNIT-OF-NO-INTEREST]...

main() {
    directory=$1 profile=$2 lines=$3
    shift 3
    standing "$profile"
    systemctl list-units --failed --plain --no-legend --full 2>/dev/null | while read -r unit _; do
        for before; do
            [ "$before" != "$unit" ] || continue 2
        done
        journalctl --unit="$unit" --lines="$lines" --no-pager --output=cat 2>/dev/null | while IFS= read -r line; do
            printf 'journal %s %s\n' "$unit" "$line"
        done
    done
    rm -rf -- "$directory"
}
