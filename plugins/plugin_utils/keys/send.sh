# shellcheck shell=sh disable=SC2034,SC2154
# Compares the keys of this machine with what the controller has (compare.sh), and replaces those that differ.
# Words: a deployment, look or send, strict or lenient, before, part or whole, forget, anew or on, a salt, and the sum of all keys:
# a hash of the salt and their hashes. Then eight words a key: its name, user, group, permissions, path, the salted hash of its
# content, the content's size, or - if it is not sent, and the content if it is a short text. Then w is before its size, and it is
# not among those on standard input. With - as its hash, a key is left alone; with later too, since a deploy sends it after its
# acknowledgement. With differs it is replaced without a comparison.
#   look     only compares.
#   lenient  accepts users and groups that the next activation makes. Until then the key is root's.
#   before   an activation follows: keeps the old keys, so that the machine gets them back if it goes back.
#   anew     keeps the old keys for a deploy that may take them back, instead of those that were kept before.
#   on       keeps the old keys beside those that were kept before.
#   whole    removes the keys that the deployment has sent and that are not among these.
# Standard input: the contents, one after the other.
# Prints lines:
#   added NUMBER, changed NUMBER, removed NAME, restarted UNIT
#   left NAME      a key that left the network, and is not removed now
#   lacks NUMBER   a content that is needed and was not sent; then nothing was changed
#   waits NUMBER   a key whose user or group is missing
#   activating yes an activation is at work, and nothing is sent before one
#   refused WHY NUMBER

# Set `new` to the temporary file of a key, which is on the same file system. Keys in /run/keys have a directory for it, so that
# one process gives all of them their names.
name_temporary() { # PATH
    new=${1%/*}/.${1##*/}.nix-ops-new.$me
    if [ "${1%/*}" = "$nix_ops_keys_directory" ]; then new=$new_directory/${1##*/}; fi
}

# A directory of a key may be on a file system that is mounted later.
mount_directories() {
    set -f
    # shellcheck disable=SC2046
    set -- $(lines_without - later | cut -d ' ' -f 8- | grep -v '^/run/')
    set +f
    [ "$#" -gt 0 ] && [ -d /run/systemd/system ] || return 0
    timeout 90 systemd-run --quiet --wait --collect --property=RequiresMountsFor="$*" "$(command -v sync)" --version \
        </dev/null >&2 ||
        refuse mount - "the file systems of $* could not be mounted"
}

# Remember which keys are here, so that they can be removed once they leave the network.
write_list() { # LINES-"NAME PATH"
    sorted=$(echo "$1" | sed '/^$/d' | sort -u)
    if [ -f "$list" ] && [ "$(cat "$list")" = "$sorted" ]; then return; fi
    (umask 077 && mkdir -p "${list%/*}") && printf %s "$sorted${sorted:+$nl}" >"$list.new" && sync "$list.new" &&
        mv -f "$list.new" "$list"
}

# Remove the temporary files of this run.
drop_temporary() {
    files=''
    each_line "$differing" add_temporary
    [ -z "$files" ] || with_words "$files" rm -f --
    rmdir "$new_directory" 2>/dev/null || :
}

add_temporary() { # LINE-OF-DIFFERING
    name_temporary "$7"
    files="$files $new"
}

# Remove the files that killed runs have left.
drop_abandoned() {
    set -f
    # shellcheck disable=SC2046
    set -- $(echo "$listed" | cut -d ' ' -f 2-)
    set +f
    files=''
    for path in "$@"; do
        name_old "$path"
        [ -f "$nix_ops_old_keys" ] || files="$files $old"
        [ "${path%/*}" = "$nix_ops_keys_directory" ] || drop_temporary_of_others "${path%/*}/.${path##*/}"
    done
    [ -z "$files" ] || with_words "$files" rm -rf --
    drop_temporary_of_others "$nix_ops_keys_directory/"
}

# Remove the temporary files of killed runs. Users may write to a key's directory, and make names with spaces there. If such a name
# were split into words, other files would be removed.
drop_temporary_of_others() { # BEGINNING-OF-NAME
    for other in "$1".nix-ops-new.*; do
        if [ ! -e "$other" ] || is_running "${other##*.}"; then continue; fi
        rm -rf -- "$other"
    done
}

fail_writing() { # NUMBER PATH
    drop_temporary
    refuse write "$1" "$2 could not be written"
}

make_directory() { # DIRECTORY
    [ ! -d "$1" ] || return 0
    case $1 in */.nix-ops-new.*) mkdir -m 0700 "$1" && return ;; esac
    (umask 022 && mkdir -p -- "$1") && chmod 0750 "$1" || return
    chown root:keys -- "$1" 2>/dev/null || :
}

# Make an empty file that is not there yet.
create() { # FILE
    set -C
    # A special builtin would end the shell if it can't be made.
    true >"$1"
    set -- $?
    set +C
    return "$1"
}

# Write the new contents beside the keys: owner and mode are right before the first byte. Few processes: a machine may
# have hundreds of keys.
stage() {
    each_line "$differing" create_new
    set_owners
    each_line "$differing" write_new
    check_sizes
}

create_new() { # LINE-OF-DIFFERING
    name_temporary "$7"
    { make_directory "${7%/*}" && make_directory "${new%/*}" && create "$new"; } || fail_writing "$1" "$7"
}

write_new() { # LINE-OF-DIFFERING
    number=$1 owner=$3 permissions=$4 size=$6 path=$7
    name_temporary "$path"
    if ! take "$5" /dev/null 2>"$work/said" || ! write_content 2>"$work/said"; then
        cat "$work/said" >&2
        fail_writing "$number" "$path"
    fi
}

# Users can write only to directories outside of /run/keys. There they could put a link in the place of the new file.
write_content() {
    case $path in
        "$nix_ops_keys_directory"/*) take "$size" "$new" ;;
        *) { is_open && chown -- "$owner" /proc/self/fd/9 && chmod -- "$permissions" /proc/self/fd/9 &&
            take "$size" /proc/self/fd/9; } 9<>"$new" ;;
    esac
}

# Return whether descriptor 9 is the new file itself.
is_open() {
    [ "$(stat -c %d:%i -- "$new")" = "$(stat -L -c %d:%i /proc/self/fd/9)" ]
}

# Write so many bytes of standard input, or the content that came as a word, to a file. printf is a part of the shell.
take() { # SIZE FILE
    case $1 in
        w*)
            eval "content=\$content_$number"
            printf %s "$content" >"$2"
            return
            ;;
    esac
    [ "$1" = 0 ] || dd bs="$1" count=1 iflag=fullblock of="$2" conv=notrunc
}

# Set the owners and modes of the new files in /run/keys. Start two processes for all files with the same owner and mode.
set_owners() {
    left=$(printf %s "$differing" | cut -d ' ' -f 3,4 | sort -u)
    while [ -n "$left" ]; do
        owner_and_mode=${left%%"$nl"*}
        left=${left#"$owner_and_mode"}
        left=${left#"$nl"}
        files=''
        each_line "$differing" add_of_owner
        [ -z "$files" ] || {
            with_words "$files" chown -- "${owner_and_mode% *}" && with_words "$files" chmod -- "${owner_and_mode#* }"
        } || fail_writing - "the files of ${owner_and_mode% *}"
    done
}

add_of_owner() { # LINE-OF-DIFFERING
    [ "$3 $4" = "$owner_and_mode" ] || return 0
    case $7 in "$nix_ops_keys_directory"/*) add_temporary "$@" ;; esac
}

# Fail unless all contents have arrived completely. Write those outside of /run to their disks.
check_sizes() {
    [ -n "$differing" ] || return 0
    files=''
    each_line "$differing" add_temporary
    sizes=$(with_words "$files" stat -c %s --) || fail_writing - keys
    files=''
    each_line "$differing" check_size
    [ -z "$files" ] || with_words "$files" sync || fail_writing - "$files"
}

check_size() { # LINE-OF-DIFFERING
    found=${sizes%%"$nl"*}
    sizes=${sizes#*"$nl"}
    [ "$found" = "${6#w}" ] || fail_writing "$1" "$7"
    case $7 in /run/*) ;; *) add_temporary "$@" ;; esac
}

place() {
    if [ "$extent" = before ] || [ "$keeps" != forget ]; then
        keep_old_keys "$(printf %s "$differing" | cut -d ' ' -f 2,7-)" "$before" || fail_writing - keys
    fi
    files=''
    each_line "$differing" rename_new
    [ -z "$files" ] || with_words "$files $nix_ops_keys_directory/" mv -f -- ||
        fail_writing - "keys in $nix_ops_keys_directory"
    remove
    drop_temporary
    tell_units
}

# Rename a new file to its key. Those in /run/keys are only collected: one process renames all of them.
rename_new() { # LINE-OF-DIFFERING
    name_temporary "$7"
    if [ "${new%/*}" = "$new_directory" ]; then
        files="$files $new"
    else
        mv -f -T -- "$new" "$7" || fail_writing "$1" "$7"
    fi
}

# Remove the keys that are gone.
remove() {
    [ "$keeps" = forget ] || keep_gone_keys "$gone" || fail_writing - keys
    files=''
    each_line "$gone" add_removed
    [ -z "$files" ] || with_words "$files" rm -f --
}

add_removed() { # NAME PATH
    name_temporary "$2"
    files="$files $new"
    [ -L "$2" ] || files="$files $2"
}

# Let the unit nixops-keys start once all keys in /run/keys are there. What a switch starts may wait for it, so that it does
# not wait for keys that come later.
tell_units() {
    set -f
    # shellcheck disable=SC2046
    set -- $(lines_without later | cut -d ' ' -f 8-)
    set +f
    for path in "$@"; do
        case $path in "$nix_ops_keys_directory"/*) [ -e "$path" ] || return 0 ;; esac
    done
    case $table in
        *" $nix_ops_keys_directory/"*) [ -e "$nix_ops_keys_directory/done" ] || : >"$nix_ops_keys_directory/done" ;;
    esac
}

restart() {
    # shellcheck disable=SC2046
    restart_keys $(printf %s "$differing" | cut -d ' ' -f 2) $(is_activating || is_kept || replaced_keys)
    for unit in $restarted; do
        tell "restarted $unit"
    done
    [ -z "$gone" ] ||
        with_words "$(printf %s "$gone" | sed 's/ .*/-key.service/')" timeout 60 systemctl stop -- 2>/dev/null || :
}

settle() {
    if [ "$keeps" = forget ]; then forget_old_keys; else keep_on; fi
}

# Replace the keys that differ, and remove those that are gone.
bring() {
    # What an earlier deploy has kept is of no use any more.
    if [ "$keeps" != on ] && is_kept; then forget_old_keys; fi
    before=''
    [ ! -f "$list" ] || before=$(cat "$list")
    if ! write_list "$listed$nl$before"; then
        drop_temporary
        refuse room - "$list could not be written"
    fi
    drop_abandoned
    place
    if [ "$extent" = whole ] && [ "$keeps" = forget ]; then write_list "$listed" || :; fi
    # Before an activation nothing is restarted: until its job is at work, the machine would not go back by itself.
    [ "$extent" = before ] || restart </dev/null >&2
    [ "$extent" = before ] || is_activating || settle
    # Left by runs that were killed. They have no contents.
    find "${nix_ops_keys_work%/*}" -maxdepth 1 -name "${nix_ops_keys_work##*/}.*" -mmin +60 -exec rm -rf -- {} +
}

# Read the contents, and then replace keys unless another run has done so meanwhile. No run waits for a connection of another
# one, which may hang.
send() {
    stage
    if ! lock "$nix_ops_keys_lock" 100; then
        drop_temporary
        refuse busy - "keys are being sent by another run"
    fi
    # A run that was killed has left some keys old and some new.
    case $(last_replaced) in begun*) note_replacing ended ;; esac
    if [ -n "$differing" ] && [ "$(last_replaced)" != "$replaced" ]; then
        drop_temporary
        answer=$(printf %s "$differing" | sed 's/^\([0-9]*\) .*/lacks \1/')
        return 0
    fi
    note_replacing begun
    bring
    note_replacing ended
}

# Print who replaced keys last.
last_replaced() {
    cat "$nix_ops_keys_replaced" 2>/dev/null
}

main() { # DEPLOYMENT look|send strict|lenient before|part|whole forget|anew|on SALT SUM KEYS...
    list=$nix_ops_keys/$1 action=$2 tolerance=$3 extent=$4 keeps=$5 salt=$6 sum=$7
    shift 7
    find_start "$$" || exit
    me=$$-$start
    new_directory=$nix_ops_keys_directory/.nix-ops-new.$me
    umask 077
    work=$(mktemp -d "$nix_ops_keys_work.XXXXXXXX") || {
        echo "refused room -"
        exit 0
    }
    trap 'unlock; rm -rf -- "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    [ "$(id -u)" = 0 ] || refuse root - "it needs root: set become"
    set_table "$@"
    set_listed
    if [ "$extent" = before ] && is_activating; then
        echo "activating yes"
        exit 0
    fi
    [ "$action" = look ] || mount_directories
    replaced=$(last_replaced)
    compare
    find_gone
    lacks=''
    if [ "$action" = send ]; then
        lacks=$(printf %s "$differing" | sed -n 's/^\([0-9]*\) \([^ ]* \)\{4\}- .*/lacks \1/p')
        [ -n "$lacks" ] || send
    fi
    printf '%s\n%s\n' "$answer" "$lacks" | sed '/^$/d'
}
