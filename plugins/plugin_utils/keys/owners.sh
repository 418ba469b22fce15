# shellcheck shell=sh
# Part of the activation of a machine with keys: gives the keys that are there to users that have just been made.

set_key_owner() { # PATH USER GROUP PERMISSIONS
    [ -f "$1" ] && [ ! -L "$1" ] || return 0
    # A user who can write to the directory could put a link there meanwhile.
    # shellcheck disable=SC2094
    {
        [ "$(stat -c %d:%i -- "$1")" = "$(stat -L -c %d:%i /proc/self/fd/9)" ] &&
            chown -- "$2:$3" /proc/self/fd/9 && chmod -- "$4" /proc/self/fd/9
    } 9<"$1" || echo "warning: the key $1 could not be given to $2:$3" >&2
}

# Set the owners and modes that differ. This starts few processes, since a machine may have hundreds of keys. The subshell
# keeps its variables from the rest of the activation.
set_key_owners() ( # FILE-WITH-LINES-"regular file PERMISSIONS USER GROUP PATH"
    list=$1
    # The paths have no spaces.
    set -f
    # shellcheck disable=SC2046
    set -- $(cut -d ' ' -f 6- "$list")
    right=$(LC_ALL=C stat -c '%F %a %U %G %n' -- "$@" 2>/dev/null) || :
    [ -n "$right" ] || return 0
    grep -vxF -e "$right" -- "$list" | while read -r _ _ permissions user group path; do
        set_key_owner "$path" "$user" "$group" "$permissions"
    done
)
