# shellcheck shell=sh disable=SC2154
# Puts back or removes the keys that a deploy has replaced (old_keys.sh).
# Words: what to do, and a deployment.
#   unstarted  puts back what was replaced for an activation that has not begun. One that has begun does so itself.
#   back       puts back what a deploy has kept that succeeded.
#   forget     removes what a deploy has kept.
# Prints a line "back NAME" for each key that was put back.

# Remove names of keys from the list of those that were sent.
unlist() { # KIND
    names=$(sed -n "s/^$1 //p" "$nix_ops_old_keys")
    if [ -z "$names" ] || [ ! -f "$list" ]; then return 0; fi
    (umask 077 && echo "$names" | grep -vxF -f - -- "$list" >"$list.new")
    sync "$list.new" && mv -f "$list.new" "$list"
}

put_back() {
    unlist new
    take_keys_back >/dev/null
    restart_taken_back >&2
    for name in $taken_back; do
        echo "back $name"
    done
}

forget() {
    unlist gone
    forget_old_keys
}

main() { # unstarted|back|forget DEPLOYMENT
    list=$nix_ops_keys/$2
    trap unlock EXIT
    lock "$nix_ops_keys_lock" 60 || exit
    if [ ! -f "$nix_ops_old_keys" ] || is_activating; then exit 0; fi
    note_replacing begun
    if is_kept; then kept=kept; else kept=replaced; fi
    case $1-$kept in
        unstarted-replaced | back-kept) put_back ;;
        forget-kept) forget ;;
    esac
    note_replacing ended
}
