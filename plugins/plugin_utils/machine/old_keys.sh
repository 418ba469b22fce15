# shellcheck shell=sh disable=SC2154
# Keeps the keys that a deploy has replaced, beside the new ones, until its activation has ended: a machine that goes back
# to its old system gets its old keys back. Needs lock.sh. The file nix_ops_old_keys has a line for each: "changed NAME PATH", or
# "new NAME PATH" for a key that the deployment had not sent before. With the line "kept", the new system stays, and the old
# keys are there for a deploy that takes back what it has activated; then "gone NAME PATH" is a key that was removed.

# Set `old` to the place of a replaced key.
name_old() { # PATH
    old=${1%/*}/.${1##*/}.nix-ops-old
}

# Keep a key that is about to be replaced. The first one counts, if several deploys came to no activation.
keep_old_key() { # NAME PATH LIST-OF-SENT-KEYS
    name_old "$2"
    if [ -e "$nix_ops_old_keys" ] && grep -qxF -e "changed $1 $2" -e "new $1 $2" "$nix_ops_old_keys"; then return; fi
    if [ -f "$2" ] && [ ! -L "$2" ]; then
        ln -f -- "$2" "$old" 2>/dev/null || cp -p -- "$2" "$old" || return
        echo "changed $1 $2" >>"$nix_ops_old_keys"
    elif ! grep -qxF -- "$1 $2" "$3"; then
        echo "new $1 $2" >>"$nix_ops_old_keys"
    fi
}

# Keep a key that is about to be removed.
keep_gone_key() { # NAME PATH
    name_old "$2"
    ln -f -- "$2" "$old" 2>/dev/null || cp -p -- "$2" "$old" || return
    echo "gone $1 $2" >>"$nix_ops_old_keys"
}

is_kept() {
    grep -qx kept "$nix_ops_old_keys" 2>/dev/null
}

keep_old_keys() {
    [ ! -f "$nix_ops_old_keys" ] || is_kept || echo kept >>"$nix_ops_old_keys"
}

# Remove the replaced keys.
forget_old_keys() {
    [ -f "$nix_ops_old_keys" ] || return 0
    set --
    while read -r _ _ path; do
        [ -z "$path" ] || name_old "$path"
        [ -z "$path" ] || set -- "$@" "$old"
    done <"$nix_ops_old_keys"
    on_any_disk rm -f -- "$@" || :
    rm -f "$nix_ops_old_keys"
}

# Run a command on files. A file system of a network may hang, and must not keep the machine from going back.
on_any_disk() { # COMMAND...
    timeout -k 5 30 "$@"
}

# Run a function while no run sends keys. That may take a while, and must not keep the machine from going back.
undisturbed() { # FUNCTION
    lock "$nix_ops_keys_lock" 20 || :
    "$@"
    unlock
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
    rm -f "$nix_ops_old_keys"
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
