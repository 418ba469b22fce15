# shellcheck shell=sh
# Writes a revision of what the machine remembers of a deployment. It never replaces one: where another run was
# faster, the answer is that run's record.
# Standard input of main: the record. The answer: "written yes", or "record REVISION TEXT".

main() { # UUID REVISION
    directory=$(records)/$1
    umask 077
    mkdir -p "$directory" || exit
    new=$directory/new.$$
    # A record is there whole or not at all, also after a power cut.
    if ! cat >"$new" || ! sync "$new"; then
        rm -f "$new"
        exit 1
    fi
    newest=$(newest_revision "$1")
    if [ "${newest:-0}" -ge "$2" ]; then
        rm -f "$new"
        record "$1"
        return
    fi
    # The name of a file is taken by one alone (link(2)).
    if ! ln "$new" "$directory/$2.json"; then
        rm -f "$new"
        [ -e "$directory/$2.json" ] || exit 1
        record "$1"
        return
    fi
    rm -f "$new"
    echo "written yes"
    for file in "$directory"/*; do
        number=${file##*/}
        case ${number%.json} in
            # What another run was writing when it was killed; one that still writes may be done meanwhile.
            new.*) find "$file" -mmin +60 -exec rm -f {} + 2>/dev/null || : ;;
            '' | *[!0-9]* | ????????????????*) rm -f "$file" ;;
            *) [ "${number%.json}" -ge "$2" ] || rm -f "$file" ;;
        esac
    done
}
