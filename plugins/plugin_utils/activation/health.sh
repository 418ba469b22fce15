# shellcheck shell=sh
# One look at a machine's health: whether units are active, and stay so without being started anew, and whether
# commands succeed. The answer: a line "amiss TEXT" for each that is not so.

state() { # UNIT
    systemctl show --property=ActiveState --property=SubState --property=NRestarts --property=InvocationID \
        --property=LoadState -- "$1" | sort | cut -d = -f 2- | paste -s -d ' '
}

# The words of a state are in the order of their properties: active, invocation, loaded, restarts, substate.
active() { # UNIT STATE
    case $2 in
        "active "*) return 0 ;;
        *" not-found "*) echo "amiss $1 does not exist" ;;
        *) echo "amiss $1 is ${2%% *} (${2##* })" ;;
    esac
    return 1
}

main() { # STABLE SECONDS unit=NAME|command=LINE...
    stable=$1 seconds=$2
    shift 2
    for check; do
        case $check in
            command=*)
                said=$(timeout "$seconds" /bin/sh -c "${check#*=}" 2>&1 </dev/null)
                code=$?
                command="command '$(printf '%s' "${check#*=}" | head -n 1)'"
                case $code in
                    0) ;;
                    124) printf 'amiss %s did not end in time\n' "$command" ;;
                    *)
                        # The text of a command ends the line, and has no line break of its own.
                        said=$(printf '%s\n' "$said" | tail -n 3 | paste -s -d ' ' | cut -c 1-300)
                        printf 'amiss %s: exit code %s: %s\n' "$command" "$code" "$said"
                        ;;
                esac
                ;;
        esac
    done
    watched=
    for check; do
        case $check in unit=*) ;; *) continue ;; esac
        unit=${check#*=}
        seen=$(state "$unit")
        active "$unit" "$seen" || continue
        watched="$watched
$unit $seen"
    done
    [ -n "$watched" ] || return 0
    [ "$stable" = 0 ] || sleep "$stable"
    echo "$watched" | while read -r unit seen; do
        [ -n "$unit" ] || continue
        now=$(state "$unit")
        active "$unit" "$now" || continue
        [ "${now% *}" = "${seen% *}" ] || echo "amiss $unit was started anew within $stable seconds"
    done
}
