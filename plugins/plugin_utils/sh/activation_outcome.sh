# shellcheck shell=sh
# What an activation left behind: the step it came to, what runs and what boots.
# main DIRECTORY PROFILE LINES

main() {
    [ ! -f "$1/step" ] || echo "step $(cat "$1/step")"
    standing "$2"
    systemctl list-units --failed --plain --no-legend --full 2>/dev/null | while read -r unit _; do
        journalctl --unit="$unit" --lines="$3" --no-pager --output=cat 2>/dev/null | while IFS= read -r line; do
            printf 'journal %s %s\n' "$unit" "$line"
        done
    done
    rm -rf -- "$1"
}
