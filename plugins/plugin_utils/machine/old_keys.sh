# shellcheck shell=sh disable=SC2154
# Keeps the keys that a deploy has replaced, beside the new ones, until its activation has ended: a machine that goes back
# to its old system gets its old keys back. Needs lock.sh and lines.sh. The file nix_ops_old_keys has a line for each: "changed NAME PATH", or
# "new NAME PATH" for a key that the deployment had not sent before. With the line "kept", the new system stays, and the old
# keys are there for a deploy that takes back what it has activated; then "gone NAME PATH" is a key that was removed.

old_directory=$nix_ops_keys_directory/.nix-ops-old

# Set `old` to the place of a replaced key. Keys in /run/keys have a directory for it, so that one process keeps all of them.
name_old() { # PATH
    old=${1%/*}/.${1##*/}.nix-ops-old
    if [ "${1%/*}" = "$nix_ops_keys_directory" ]; then old=$old_directory/${1##*/}; fi
}

# Keep keys that are about to be replaced. Keys that an earlier deploy without an activation has kept stay as they are.
keep_old_keys() { # LINES-"NAME PATH" LINES-OF-SENT-KEYS
    sent=$nl$2$nl
    known=$nl$(cat "$nix_ops_old_keys" 2>/dev/null)$nl
    kept='' files=''
    each_line "$1" keep_old_key && write_kept
}

keep_old_key() { # NAME PATH
    case $known in *"${nl}changed $1 $2$nl"* | *"${nl}new $1 $2$nl"*) return ;; esac
    if [ -f "$2" ] && [ ! -L "$2" ]; then
        kept="${kept}changed $1 $2$nl"
        keep_file "$2"
        return
    fi
    case $sent in *"$nl$1 $2$nl"*) ;; *) kept="${kept}new $1 $2$nl" ;; esac
}

# Keep keys that are about to be removed.
keep_gone_keys() { # LINES-"NAME PATH"
    kept='' files=''
    each_line "$1" keep_gone_key && write_kept
}

keep_gone_key() { # NAME PATH
    [ -f "$2" ] && [ ! -L "$2" ] || return 0
    kept="${kept}gone $1 $2$nl"
    keep_file "$2"
}

keep_file() { # PATH
    if [ "${1%/*}" = "$nix_ops_keys_directory" ]; then
        files="$files $1"
    else
        name_old "$1"
        ln -f -- "$1" "$old" 2>/dev/null || cp -p -- "$1" "$old"
    fi
}

write_kept() {
    if [ -n "$files" ]; then
        { [ -d "$old_directory" ] || mkdir -m 0700 "$old_directory"; } &&
            with_words "$files $old_directory/" ln -f -- || return
    fi
    printf %s "$kept" >>"$nix_ops_old_keys"
}

is_kept() {
    grep -qx kept "$nix_ops_old_keys" 2>/dev/null
}

# Keep the replaced keys though the new system stays.
keep_on() {
    [ ! -f "$nix_ops_old_keys" ] || is_kept || echo kept >>"$nix_ops_old_keys"
}

# Remove the replaced keys.
forget_old_keys() {
    [ -f "$nix_ops_old_keys" ] || return 0
    files=''
    each_line "$(cat "$nix_ops_old_keys")" add_old
    with_words "$files" on_any_disk rm -f -- || :
    end_old_keys
}

add_old() { # KIND [NAME PATH]
    [ -n "${3-}" ] || return 0
    name_old "$3"
    files="$files $old"
}

end_old_keys() {
    rm -f "$nix_ops_old_keys"
    rmdir "$old_directory" 2>/dev/null || :
}

# Run a command on files. A file system of a network may hang, and must not keep the machine from going back.
on_any_disk() { # COMMAND...
    timeout -k 5 30 "$@"
}

# Run a function while no run sends keys. That may take a while, and must not keep the machine from going back.
undisturbed() { # FUNCTION
    if [ ! -f "$nix_ops_old_keys" ]; then
        # Nothing was replaced.
        "$@"
        return
    fi
    lock "$nix_ops_keys_lock" 20 || :
    note_replacing begun
    "$@"
    note_replacing ended
    unlock
}

# Let runs that have compared keys before, or meanwhile, compare them again.
note_replacing() { # begun|ended
    echo "$1 $$ $(cut -d ' ' -f 1 /proc/uptime)" >"$nix_ops_keys_replaced" || :
}

# Put the replaced keys back. Sets `taken_back` to their names.
take_keys_back() {
    taken_back=
    [ -f "$nix_ops_old_keys" ] || return 0
    while read -r kind name path; do
        [ -z "$path" ] || name_old "$path"
        case $kind in
            changed | gone) ! on_any_disk mv -f -T -- "$old" "$path" || taken_back="$taken_back $name" ;;
            new) on_any_disk rm -f -- "$path" || : ;;
        esac
    done <"$nix_ops_old_keys"
    end_old_keys
    [ -z "$taken_back" ] || echo "the old keys are back:$taken_back"
}

# Print the names of the keys that were replaced since the last activation. What waits for a new key starts by itself.
replaced_keys() {
    [ ! -f "$nix_ops_old_keys" ] || sed -n 's/^changed \([^ ]*\) .*/\1/p' "$nix_ops_old_keys"
}

# Restart the units of the replaced keys in an activation, while the machine still goes back by itself.
restart_replaced() {
    # The names of keys have no spaces.
    # shellcheck disable=SC2046
    restart_keys $(replaced_keys) || :
    [ -z "$restarted" ] || echo "restarted $restarted"
}

restart_taken_back() {
    # shellcheck disable=SC2086
    restart_keys $taken_back || :
}

# Restart the units of keys that are active, and so those that require them, each once. Sets `restarted` to the units.
# While the unit nix-ops-keys starts, none of them is started again: so all of them wait until each has its job.
restart_keys() { # NAME...
    restarted=
    [ "$#" -gt 0 ] && [ -d /run/systemd/system ] || return 0
    active=$(systemctl list-units --plain --no-legend --full --state=active '*-key.service' | cut -d ' ' -f 1 | tr '\n' ' ')
    for name; do
        case " $restarted " in *" $name-key.service "*) continue ;; esac
        case " $active" in *" $name-key.service "*) restarted="$restarted $name-key.service" ;; esac
    done
    [ -n "$restarted" ] || return 0
    restarted=${restarted# }
    # The names of units have no spaces.
    # shellcheck disable=SC2086
    {
        systemd-run --quiet --no-block --collect --unit="nix-ops-keys-$$" --service-type=oneshot \
            --property=Before="$restarted" "$(command -v systemctl)" restart --no-block -- $restarted ||
            systemctl restart --no-block -- $restarted || return
        timeout 60 systemctl start -- $restarted || echo "warning: not all units of keys were restarted in time" >&2
    }
}
