# shellcheck shell=sh disable=SC2154
# Writes a revision of a deployment's record. It never replaces one: if another run was faster, it prints that run's
# record.
# Standard input: the record. Prints "written yes" or "record REVISION TEXT".

main() { # UUID REVISION
    # What can't be moved yet is still read where it is.
    [ ! -d "$nix_ops_old_records" ] || is_activating || move_records || :
    directory=$nix_ops_records/$1
    umask 077
    mkdir -p "$directory" || exit
    new=$directory/new.$$
    # A record is there whole or not at all, also after a power cut.
    if ! cat >"$new" || ! sync "$new"; then
        rm -f "$new"
        exit 1
    fi
    find_record "$1"
    if [ "${revision:-0}" -ge "$2" ]; then
        rm -f "$new"
        print_record "$1"
        return
    fi
    # Only one run gets the name (link(2)).
    if ! ln "$new" "$directory/$2.json"; then
        rm -f "$new"
        [ -e "$directory/$2.json" ] || exit 1
        print_record "$1"
        return
    fi
    rm -f "$new"
    echo "written yes"
    for file in "$directory"/*; do
        number=${file##*/}
        case ${number%.json} in
            # Left by a run that was killed. A run that is still writing is done within an hour.
            new.*) find "$file" -mmin +60 -exec rm -f {} + 2>/dev/null || : ;;
            '' | *[!0-9]* | ????????????????*) rm -f "$file" ;;
            *) [ "${number%.json}" -ge "$2" ] || rm -f "$file" ;;
        esac
    done
}
