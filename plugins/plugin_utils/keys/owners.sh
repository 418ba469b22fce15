# shellcheck shell=sh
# Part of the activation of a machine with keys: gives the keys that are there to users that have just been made.

set_key_owner() { # PATH USER GROUP PERMISSIONS
    if [ -f "$1" ] && [ ! -L "$1" ] && ! { chown -- "$2:$3" "$1" && chmod -- "$4" "$1"; }; then
        echo "warning: the key $1 could not be given to $2:$3" >&2
    fi
}

[ -d /run/keys ] || mkdir -m 0750 /run/keys
chown root:keys /run/keys || :
