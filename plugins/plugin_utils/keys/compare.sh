# shellcheck shell=sh disable=SC2154
# Compares the keys of this machine with what the controller has. The variables `work` (a directory of its own), `list`
# (of the keys that were sent), `salt`, `tolerance` and `extent` are those of send.sh and look.sh.

refuse() { # WHY NUMBER TEXT
    # What was found is no longer true.
    echo "refused $1 $2" >"$work/answer"
    cat "$work/answer"
    echo "$3" >&2
    exit 0
}

tell() { # LINE
    echo "$1" >>"$work/answer"
}

# Return whether a key is left alone.
is_left_alone() { # HASH
    case $1 in - | later) return 0 ;; *) return 1 ;; esac
}

# Write a line a key: NUMBER NAME USER GROUP PERMISSIONS HASH SIZE PATH. A short content is a word, and becomes the variable
# content_NUMBER; then SIZE begins with w.
write_table() { # NAME USER GROUP PERMISSIONS PATH HASH SIZE CONTENT...
    number=0
    while [ "$#" -ge 8 ]; do
        eval "content_$number=\$8"
        echo "$number $1 $2 $3 $4 $6 $7 $5"
        number=$((number + 1))
        shift 8
    done >"$work/table"
}

# Print the lines of the table whose hash is none of these words. For hundreds of keys, sed and cut are quicker than `read`,
# with which some shells read one byte at a time.
lines_without() { # HASH...
    expression=''
    for one in "$@"; do
        expression="$expression/^\\([^ ]* \\)\\{5\\}$one /d;"
    done
    sed "$expression" "$work/table"
}

# Write the keys that differ to the file differing (see write_differing), and tell them.
compare() {
    : >"$work/differing"
    hashed=''
    is_all_same || { read_present && write_differing; }
}

# Return whether the contents, owners and modes of all keys are right. Usually they are, so this check starts few processes.
is_all_same() {
    lines_without - later >"$work/compared"
    if grep -q '^[^ ]* [^ ]* [^ ]* [^ ]* [^ ]* differs ' "$work/compared"; then return 1; fi
    [ -s "$work/compared" ] || return 0
    # The paths have no spaces.
    set -f
    # shellcheck disable=SC2046
    set -- $(cut -d ' ' -f 8- "$work/compared")
    set +f
    for path in "$@"; do
        [ -f "$path" ] && [ ! -L "$path" ] || return 1
    done
    sha256sum -- "$@" >"$work/hashes" 2>/dev/null || return 1
    hashed=yes
    found=$({ printf %s "$salt" && cut -c 1-64 "$work/hashes"; } | sha256sum)
    [ "${found%% *}" = "$sum" ] || return 1
    sed 's/^[^ ]* [^ ]* \([^ ]*\) \([^ ]*\) \([^ ]*\) .*/\3 \1 \2/' "$work/compared" >"$work/expected"
    stat -c '%a %U %G' -- "$@" 2>/dev/null | cmp -s - "$work/expected"
}

# Set two variables for each key that is there: found_NUMBER is its salted hash, owner_NUMBER its mode and owner. This starts few
# processes, since a machine may have hundreds of keys.
read_present() {
    mkdir "$work/hashed"
    present='' files=''
    each_line "$work/table" add_present
    [ -n "$present" ] || return 0
    # If all keys are there, they have been hashed.
    if ! { [ -n "$hashed" ] || with_words "$files" sha256sum -- >"$work/hashes"; } ||
        ! with_words "$files" stat -c '%a %U %u %G %g' -- >"$work/stats"; then
        refuse read - "keys can't be read"
    fi
    # shellcheck disable=SC2046
    set -- $(cut -c 1-64 "$work/hashes")
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
    # shellcheck disable=SC2046
    set -- $(cat "$work/stats")
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

# Write the keys that differ: NUMBER NAME OWNER PERMISSIONS SKIPPED SIZE PATH. The owner and the mode are those that the
# file gets now; SKIPPED is how many bytes of standard input come before its content.
write_differing() {
    known=' passwd:root  group:root ' skipped=0 differing=''
    each_line "$work/table" compare_key
    printf %s "$differing" >"$work/differing"
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

# Until an activation makes its user and group, the key is root's.
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

# Write the keys of the deployment as the machine remembers them: lines "NAME PATH".
write_listed() {
    cut -d ' ' -f 2,8- "$work/table" >"$work/listed"
}

# Find the keys that this deployment has sent and that are not its any more: lines "NAME PATH".
find_gone() {
    : >"$work/gone"
    [ -f "$list" ] || return 0
    # Without a pattern, that of busybox finds every line.
    if [ -s "$work/listed" ]; then grep -vxF -f "$work/listed" -- "$list"; else cat "$list"; fi >"$work/left"
    # The file may be that of a key with another name, or of another deployment.
    {
        cut -d ' ' -f 2- "$work/listed"
        for other in "${list%/*}"/*; do
            [ "$other" = "$list" ] || [ ! -f "$other" ] || cut -d ' ' -f 2- "$other"
        done
    } >"$work/kept"
    while read -r name path; do
        grep -qxF -- "$path" "$work/kept" || echo "$name $path"
    done <"$work/left" >"$work/gone"
    does=removed
    [ "$extent" = whole ] || does=left
    while read -r name path; do
        # It may never have been sent to its end, or be gone after a reboot. A link is not ours.
        if [ -e "$path" ] && [ ! -L "$path" ]; then tell "$does $name"; fi
    done <"$work/gone"
    [ "$extent" = whole ] || : >"$work/gone"
}
