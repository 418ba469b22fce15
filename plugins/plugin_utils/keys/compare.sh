# shellcheck shell=sh disable=SC2154
# Compares the keys of this machine with what the controller has. The variables `work` (a directory of its own), `list`
# (of the keys that were sent), `salt`, `tolerance` and `extent` are those of send.sh and look.sh. Tables are in variables, not in
# files, since /run may be full.

refuse() { # WHY NUMBER TEXT
    echo "refused $1 $2"
    echo "$3" >&2
    exit 0
}

tell() { # LINE
    answer=$answer$1$nl
}

# Return whether a hash says to leave its key alone.
is_left_alone() { # HASH
    case $1 in - | later) return 0 ;; *) return 1 ;; esac
}

# Set `table` to one line for each key: NUMBER NAME USER GROUP PERMISSIONS HASH SIZE PATH. If the content comes as a word, set the
# variable content_NUMBER to it. Its SIZE begins with w.
set_table() { # NAME USER GROUP PERMISSIONS PATH HASH SIZE CONTENT...
    table='' number=0
    while [ "$#" -ge 8 ]; do
        eval "content_$number=\$8"
        table="$table$number $1 $2 $3 $4 $6 $7 $5$nl"
        number=$((number + 1))
        shift 8
    done
}

# Print the table without the lines that have one of these hashes. A machine may have hundreds of keys, and sed is faster than a
# loop with `read`.
lines_without() { # HASH...
    expression=''
    for one in "$@"; do
        expression="$expression/^\\([^ ]* \\)\\{5\\}$one /d;"
    done
    printf %s "$table" | sed "$expression"
}

# Set `answer` to the lines for the controller, and `differing` to one line for each key that differs: NUMBER NAME OWNER PERMISSIONS
# SKIPPED SIZE PATH. OWNER and PERMISSIONS are those of the new file. SKIPPED is the number of bytes on standard input to skip before
# the content.
compare() {
    answer='' differing='' hashes=''
    is_all_same || {
        read_present
        known=' passwd:root  group:root ' skipped=0
        each_line "$table" compare_key
    }
}

# Return whether the contents, owners and modes of all keys are right. Usually they are, so this check starts few processes.
is_all_same() {
    case $table in *' differs '*) return 1 ;; esac
    compared=$(lines_without - later)
    [ -n "$compared" ] || return 0
    # The paths have no spaces.
    set -f
    # shellcheck disable=SC2046
    set -- $(echo "$compared" | cut -d ' ' -f 8-)
    set +f
    for path in "$@"; do
        [ -f "$path" ] && [ ! -L "$path" ] || return 1
    done
    hash_files "$*" 2>/dev/null || return 1
    found=$(printf '%s%s\n' "$salt" "$hashes" | sha256sum)
    [ "${found%% *}" = "$sum" ] || return 1
    expected=$(echo "$compared" | sed 's/^[^ ]* [^ ]* \([^ ]*\) \([^ ]*\) \([^ ]*\) .*/\3 \1 \2/')
    [ "$(stat -c '%a %U %G' -- "$@" 2>/dev/null)" = "$expected" ]
}

# Set `hashes` to the hashes of files, a line each.
hash_files() { # PATHS
    hashed=$(with_words "$1" sha256sum --) || return
    hashes=$(echo "$hashed" | cut -c 1-64)
}

# For each key whose file exists, set found_NUMBER to its salted hash, and owner_NUMBER to its mode and owner. Start few processes,
# since a machine may have hundreds of keys.
read_present() {
    mkdir "$work/hashed"
    present='' files=''
    each_line "$table" add_present
    [ -n "$present" ] || return 0
    # If no file is missing, is_all_same has hashed them already.
    if ! { [ -n "$hashes" ] || hash_files "$files"; } ||
        ! stats=$(with_words "$files" stat -c '%a %U %u %G %g' --); then
        refuse read - "keys can't be read"
    fi
    # shellcheck disable=SC2086
    set -- $hashes
    for number in $present; do
        printf '%s%s' "$salt" "$1" >"$work/hashed/$number"
        shift
    done
    # shellcheck disable=SC2046
    set -- $(cd "$work/hashed" && with_words "$present" sha256sum --)
    while [ "$#" -gt 0 ]; do
        eval "found_$2=\$1"
        shift 2
    done
    # shellcheck disable=SC2086
    set -- $stats
    for number in $present; do
        eval "owner_$number=\"\$1 \$2 \$3 \$4 \$5\""
        shift 5
    done
}

add_present() { # LINE-OF-TABLE
    if is_left_alone "$6" || [ -L "$8" ]; then return; fi
    if [ -d "$8" ]; then refuse directory "$1" "$8 is a directory"; fi
    if [ "$6" = differs ] || [ ! -f "$8" ]; then return; fi
    present="$present $1" files="$files $8"
}

# Set `mode` to a mode as stat prints it.
set_mode() { # PERMISSIONS
    mode=$1
    case $1 in
        *[!0-7]*)
            : >"$work/mode" && chmod -- "$1" "$work/mode" && mode=$(stat -c %a "$work/mode")
            rm -f "$work/mode"
            ;;
    esac
}

# Return whether a user or a group is there; remembers those that are.
is_known() { # passwd|group NAME
    case $known in *" $1:$2 "*) return 0 ;; esac
    case $2 in *[!0-9]*) getent "$1" "$2" >/dev/null || grep -q "^$2:" "/etc/$1" || return 1 ;; esac
    known="$known $1:$2 "
}

compare_key() { # LINE-OF-TABLE
    number=$1 name=$2 user=$3 group=$4 permissions=$5 hash=$6 size=$7 path=$8
    ! is_left_alone "$hash" || return 0
    if ! is_known passwd "$user"; then
        accept_missing user "$user"
    elif ! is_known group "$group"; then
        accept_missing group "$group"
    fi
    set_mode "$permissions"
    if [ ! -e "$path" ] && [ ! -L "$path" ]; then
        tell "added $number"
    elif is_same; then
        case $size in - | w*) ;; *) skipped=$((skipped + size)) ;; esac
        return
    else
        tell "changed $number"
    fi
    case $size in
        w*) differing="$differing$number $name $user:$group $permissions 0 $size $path$nl" ;;
        *)
            differing="$differing$number $name $user:$group $permissions $skipped $size $path$nl"
            skipped=0
            ;;
    esac
}

# Give a key to root until an activation creates its user and group.
accept_missing() { # user|group NAME
    [ "$tolerance" = lenient ] || refuse "$1" "$number" "the $1 $2 of $path is missing"
    user=root group=root permissions=600
    tell "waits $number"
}

is_same() {
    eval "found=\${found_$number-} owner=\${owner_$number-}"
    [ -n "$found" ] || return 1
    # shellcheck disable=SC2086
    set -- $owner
    [ "$found" = "$hash" ] && [ "$1" = "$mode" ] && { [ "$2" = "$user" ] || [ "$3" = "$user" ]; } &&
        { [ "$4" = "$group" ] || [ "$5" = "$group" ]; }
}

# Set `listed` to the keys of the deployment, as lines "NAME PATH". The machine remembers them in this form.
set_listed() {
    listed=$(printf %s "$table" | cut -d ' ' -f 2,8-)
}

# Set `gone` to the keys that the deployment has sent and no longer has, as lines "NAME PATH".
find_gone() {
    gone=''
    [ -f "$list" ] || return 0
    # Without a pattern, the grep of busybox prints every line.
    if [ -n "$listed" ]; then left=$(echo "$listed" | grep -vxF -f - -- "$list"); else left=$(cat "$list"); fi
    [ -n "$left" ] || return 0
    # Keep files that are now those of a key with another name, or of another deployment.
    kept=$nl$(echo "$listed" | cut -d ' ' -f 2-)$nl
    for other in "${list%/*}"/*; do
        [ "$other" = "$list" ] || [ ! -f "$other" ] || kept=$kept$(cut -d ' ' -f 2- "$other")$nl
    done
    does=removed
    [ "$extent" = whole ] || does=left
    each_line "$left" add_gone
    [ "$extent" = whole ] || gone=''
}

add_gone() { # NAME PATH
    case $kept in *"$nl$2$nl"*) return ;; esac
    gone="$gone$1 $2$nl"
    # The file is missing after an interrupted sending, or after a reboot. A symbolic link was not made by a sending.
    if [ -e "$2" ] && [ ! -L "$2" ]; then tell "$does $1"; fi
}
