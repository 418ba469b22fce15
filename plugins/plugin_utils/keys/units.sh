# shellcheck shell=sh disable=SC2154
# Builds the units of keys. The variable `wait` is the path of wait.sh, `keysPath` that of a file with a line for each key: its
# name, its path, and the path as a word of a command of systemd.

mkdir -p "$out/lib/systemd/system"
while read -r name path word; do
    # A restart would restart the services that require the key.
    {
        printf '[Unit]\nDescription=Wait for the key %s\n' "$name"
        # /run is mounted before every unit.
        case $path in /run/*) ;; *) printf 'RequiresMountsFor=%s\n' "$path" ;; esac
        printf '\n[Service]\nType=oneshot\nRemainAfterExit=true\nTimeoutStartSec=infinity\nX-RestartIfChanged=false\n'
        printf 'ExecStart="%s" "%s"\n' "$wait" "$word"
    } >"$out/lib/systemd/system/$name-key.service"
done <"$keysPath"
