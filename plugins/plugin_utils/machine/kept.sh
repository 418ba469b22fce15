# shellcheck shell=sh disable=SC2034,SC2154
# Reads, moves and removes what the collection keeps on a machine (places.sh). Until the next change it may still be
# where version 0.1.0 put it. Controllers and boot guards of that version go on writing there, so both places are read.

# Return whether a toplevel is the one that runs.
runs() { # TOPLEVEL
    [ "$(readlink -f /run/current-system)" = "$1" ]
}

# Set revision and record_file to the newest revision of a record and its file; both are empty if the record is missing.
find_record() { # UUID
    revision='' record_file=''
    for file in "$nix_ops_records/$1"/*.json "$nix_ops_old_records/$1"/*.json; do
        number=${file##*/}
        number=${number%.json}
        # Shells can't compare longer numbers.
        case $number in '' | *[!0-9]* | 0?* | ????????????????*) continue ;; esac
        if [ -z "$revision" ] || [ "$number" -gt "$revision" ]; then revision=$number record_file=$file; fi
    done
}

# Print a deployment's record as a line "record REVISION TEXT". The text is limited in length and to printable ASCII.
print_record() { # UUID
    find_record "$1"
    [ -z "$revision" ] || echo "record $revision $(head -c 131072 "$record_file" | tr -cd ' -~')"
}

# Print a line "owner UUID" for each deployment that has a record here, at most 1000.
print_owners() {
    count=0
    for directory in "$nix_ops_records"/*/ "$nix_ops_old_records"/*/; do
        directory=${directory%/}
        name=${directory##*/}
        # Anything else would make the whole answer invalid.
        case $name in *[!0-9a-f-]*) continue ;; esac
        if [ "${#name}" -ne 36 ] || [ "$count" -ge 1000 ]; then continue; fi
        # A deployment may have records in both places.
        case $directory in "$nix_ops_old_records"/*) [ ! -d "$nix_ops_records/$name" ] || continue ;; esac
        find_record "$name"
        [ -n "$revision" ] || continue
        echo "owner $name"
        count=$((count + 1))
    done
}

# Print the time in a file like last-activation; 0 if the file is missing.
time_of() { # FILE
    seconds=$(head -c 1024 "$1" 2>/dev/null | head -n 1 | cut -d ' ' -f 5)
    case $seconds in '' | *[!0-9]* | ????????????????*) seconds=0 ;; esac
    echo "$seconds"
}

# Set last_activation to the file with the result of the last activation. If both have the same time, an old boot guard
# may have added to its copy.
find_last_activation() {
    last_activation=$nix_ops_last_activation
    if [ -e "$nix_ops_old_last_activation" ] &&
        [ "$(time_of "$nix_ops_old_last_activation")" -ge "$(time_of "$nix_ops_last_activation")" ]; then
        last_activation=$nix_ops_old_last_activation
    fi
}

# Return whether the profile was set and its boot entry has not been written since.
is_boot_unfinished() {
    [ -e "$nix_ops_boot_unfinished" ] || [ -e "$nix_ops_old_boot_unfinished" ]
}

finish_boot() {
    rm -f "$nix_ops_boot_unfinished" "$nix_ops_old_boot_unfinished"
}

# Set trial_file and trial_toplevel to the trial of the system that runs, or else to any other; both are empty without
# a trial.
find_trial() {
    trial_file='' trial_toplevel=''
    for file in "$nix_ops_trial" "$nix_ops_old_trial"; do
        [ -r "$file" ] || continue
        read -r on_trial _ <"$file" || :
        if [ -z "$trial_file" ] || runs "$on_trial"; then trial_file=$file trial_toplevel=$on_trial; fi
    done
}

forget_trial() {
    rm -f "$nix_ops_trial" "$nix_ops_old_trial"
}

# Copy a file. The copy is complete and on the disk before it has its name.
copy_durably() { # FROM TO TEMPORARY
    if ! cp "$1" "$3" || ! sync "$3" || ! mv "$3" "$2" || ! sync "${2%/*}"; then
        rm -f "$3"
        return 1
    fi
}

move_file() { # FROM TO
    [ -e "$1" ] || return 0
    copy_durably "$1" "$2" "$2.new" && rm -f "$1"
}

# Move a deployment's record from the old place. The newest revision stays in one of the places all the time.
move_record() { # UUID
    set -- "$1" "$nix_ops_old_records/$1"/*.json
    find_record "$1"
    case $record_file in
        "$nix_ops_old_records"/*)
            mkdir -p "$nix_ops_records/$1" || return 1
            # Another run may be moving the same.
            copy_durably "$record_file" "$nix_ops_records/$1/$revision.json" "$nix_ops_records/$1/new.$$" || return 1
            ;;
    esac
    directory=$nix_ops_old_records/$1
    shift
    # Only what was there before the copy: a controller of version 0.1.0 may have written a newer revision meanwhile.
    rm -f "$@"
    find "$directory" -name 'new.*' -mmin +60 -exec rm -f {} + 2>/dev/null
    rmdir "$directory" 2>/dev/null || :
}

# Move the records that version 0.1.0 left behind. Each is copied first and removed then, so a second try continues.
move_records() (
    # The boot guard of version 0.1.0 needs its files until it has ended.
    [ ! -e "$nix_ops_old_trial" ] || exit 0
    umask 077
    for directory in "$nix_ops_old_records"/*/; do
        [ -d "$directory" ] || continue
        directory=${directory%/}
        move_record "${directory##*/}" || exit
    done
    rmdir "$nix_ops_old_records" 2>/dev/null || :
)

# Move all that version 0.1.0 left behind. For the activation job alone: its lock keeps other jobs from writing.
move_kept() (
    [ -d "$nix_ops_old_kept" ] && [ ! -e "$nix_ops_old_trial" ] || exit 0
    umask 077
    mkdir -p "$nix_ops_kept" && move_records || exit
    find_last_activation
    if [ "$last_activation" = "$nix_ops_old_last_activation" ]; then
        move_file "$nix_ops_old_last_activation" "$nix_ops_last_activation" || exit
    fi
    move_file "$nix_ops_old_boot_unfinished" "$nix_ops_boot_unfinished" || exit
    move_file "$nix_ops_old_trial_failed" "$nix_ops_trial_failed" || exit
    rm -f "$nix_ops_old_last_activation"
    rmdir "$nix_ops_old_kept" 2>/dev/null || :
)
