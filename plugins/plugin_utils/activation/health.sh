# shellcheck shell=sh
# Checks a machine's health once: whether commands succeed, and whether units are active and stay so without a restart.
# Prints a line "amiss TEXT" for each check that fails.

# Print the state of a unit in one line: active, invocation, loaded, restarts, substate.
state() { # UNIT
    systemctl show --property=ActiveState --property=SubState --property=NRestarts --property=InvocationID \
        --property=LoadState -- "$1" | sort | cut -d = -f 2- | paste -s -d ' '
}

uptime_in_seconds() {
    read -r seconds_up _ </proc/uptime
    echo "${seconds_up%.*}"
}

check_active() { # UNIT STATE
    case $2 in
        "active "*) return 0 ;;
        *" not-found "*) echo "amiss $1 does not exist" ;;
        *) echo "amiss $1 is ${2%% *} (${2##* })" ;;
    esac
    return 1
}

main() { # STABLE SECONDS unit=NAME|command=LINE...
    stable=$1 end=$(($(uptime_in_seconds) + $2))
    shift 2
    for check; do
        case $check in
            command=*)
                left=$((end - $(uptime_in_seconds)))
                [ "$left" -gt 0 ] || left=1
                said=$(timeout --kill-after=5 "$left" /bin/sh -c "${check#*=}" 2>&1 </dev/null)
                code=$?
                command="command '$(printf '%s' "${check#*=}" | head -n 1)'"
                case $code in
                    0) ;;
                    124 | 137) printf 'amiss %s did not end in time\n' "$command" ;;
                    *)
                        # Without line breaks: each line of the answer is one check.
                        said=$(printf '%s\n' "$said" | tail -n 3 | paste -s -d ' ' | cut -c 1-300)
                        printf 'amiss %s: exit code %s%s\n' "$command" "$code" "${said:+: $said}"
                        ;;
                esac
                ;;
        esac
    done
    watched=
    for check; do
        case $check in unit=*) ;; *) continue ;; esac
        unit=${check#*=}
        before=$(state "$unit")
        check_active "$unit" "$before" || continue
        watched="$watched
$unit $before"
    done
    [ -n "$watched" ] || return 0
    [ "$stable" = 0 ] || sleep "$stable"
    echo "$watched" | while read -r unit before; do
        [ -n "$unit" ] || continue
        now=$(state "$unit")
        check_active "$unit" "$now" || continue
        [ "${now% *}" = "${before% *}" ] || echo "amiss $unit was restarted within $stable seconds"
    done
}
