# shellcheck shell=sh disable=SC2154
# Part of the activation of a machine with keys: gives the keys that are there to users that have just been made.

# Print a line for each file that is there: its mode, user, group, kind and path. One process for hundreds of keys.
describe_keys() { # PATH...
    LC_ALL=C stat -c '%a %U %G %F %n' -- "$@" 2>/dev/null || :
}

# The variable `described` is what describe_keys has printed.
set_key_owner() { # PATH USER GROUP PERMISSIONS
    case "
$described
" in *"
${4#0} $2 $3 regular file $1
"*) return 0 ;; esac
    [ -f "$1" ] && [ ! -L "$1" ] || return 0
    # A user who can write to the directory could put a link there meanwhile.
    # shellcheck disable=SC2094
    {
        [ "$(stat -c %d:%i -- "$1")" = "$(stat -L -c %d:%i /proc/self/fd/9)" ] &&
            chown -- "$2:$3" /proc/self/fd/9 && chmod -- "$4" /proc/self/fd/9
    } 9<"$1" || echo "warning: the key $1 could not be given to $2:$3" >&2
}

[ -d /run/keys ] || mkdir -m 0750 /run/keys
chown root:keys /run/keys || :
