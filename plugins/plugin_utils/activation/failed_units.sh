# shellcheck shell=sh
# Tells which failed units count against a system. Users of a machine start and end units too: their service managers,
# instances of templates, mounts. If those counted, any of them could keep the machine from being deployed.
# The output of the switch alone does not decide: programs of users write to it as well.

# Print the end of the journal; nothing if it can't be read.
journal_end() {
    timeout 30 journalctl --lines=0 --show-cursor --no-pager 2>/dev/null | sed -n 's/^-- cursor: //p'
}

# Wait until the journal has written all messages so far. On a busy machine it lags behind.
await_journal() {
    timeout 30 journalctl --sync >/dev/null 2>&1 || :
}

# Print the values of UNIT in systemd's own entries since then that match.
print_units_since() { # END-OF-JOURNAL MATCH...
    since=$1
    shift
    # The field _PID can't be forged (systemd.journal-fields(7)). --after-cursor of systemd 252 leaves out the first entry
    # that matches, so the entry at the end itself is removed here.
    timeout 30 journalctl --cursor="$since" --no-pager --output=export --output-fields=UNIT _PID=1 "$@" 2>/dev/null |
        sed "/^__CURSOR=$since\$/,/^\$/d" | sed -n 's/^UNIT=//p'
}

# Print the units that are in a failed state.
print_failed_states() {
    systemctl list-units --all --full --plain --no-legend --no-pager 2>/dev/null |
        while read -r unit load active substate _; do
            case $load,$active,$substate in
                bad-setting,* | error,* | *,failed,*) echo "$unit" ;;
                *,auto-restart*)
                    [ "$(systemctl show --property=ExecMainStatus --value -- "$unit")" = 0 ] || echo "$unit"
                    ;;
            esac
        done
}

# Print the units that a switch says have failed. A user can forge them, but only make up a few that count for nothing.
print_told() { # OUTPUT
    sed -n 's/^warning: the following units failed: //p' "$1" | sed 's/, */\n/g' | grep -xE '[A-Za-z0-9:_.\\@-]{1,255}' | head -n 100
}

# Print what kind of unit each unit is that failed in a switch: "own UNIT", or "foreign UNIT" if it does not count.
print_failed_units() { # OUTPUT END-OF-JOURNAL TOPLEVEL...
    output=$1 end=$2
    shift 2
    {
        print_failed_states | sort_units "$@"
        # A unit may be in the same state as before, for example if a reload failed.
        [ -z "$end" ] || print_units_since "$end" JOB_TYPE=start JOB_TYPE=restart JOB_TYPE=reload \
            JOB_RESULT=failed JOB_RESULT=timeout JOB_RESULT=dependency JOB_RESULT=assert | sort_units "$@"
        # A unit may be up again. MESSAGE_ID is that of "Failed with result" (sd-messages.h, UNIT_FAILURE_RESULT).
        print_told "$output" | sort_units "$@" | while read -r kind unit; do
            if [ "$kind" = foreign ] || [ -z "$end" ] ||
                print_units_since "$end" MESSAGE_ID=d9b373ed55a64feb8242e02dbe79a49c | grep -qxF -- "$unit"; then
                echo "$kind $unit"
            fi
        done
    } | sort -u
}

# Return whether a system names a unit: by a file, or by the name in what another unit wants or requires.
names_unit() { # TOPLEVEL UNIT
    units=$1/etc/systemd/system
    for file in "$units/$2" "$units"/*.wants/"$2" "$units"/*.requires/"$2" "$units"/*.upholds/"$2"; do
        if [ -e "$file" ] || [ -L "$file" ]; then return 0; fi
    done
    cat "$units"/* "$units"/*.d/* 2>/dev/null |
        sed -nE 's/^(Wants|Requires|Requisite|BindsTo|Upholds)=//p' | tr -s ' ' '\n' | grep -qxF -- "$2"
}

# Return whether systemd made a unit of the system's fstab and the like. Units that users make are elsewhere.
is_generated() { # UNIT
    case $(systemctl show --property=FragmentPath --value -- "$1" 2>/dev/null) in
        /run/systemd/generator/* | /run/systemd/generator.early/* | /run/systemd/generator.late/*) return 0 ;;
        *) return 1 ;;
    esac
}

# Read units, one a line. Print a line "own UNIT" for those that count, and "foreign UNIT" for the others.
sort_units() { # TOPLEVEL...
    while read -r failed; do
        kind=foreign
        ! is_generated "$failed" || kind=own
        for toplevel; do
            ! names_unit "$toplevel" "$failed" || kind=own
        done
        echo "$kind $failed"
    done
}
