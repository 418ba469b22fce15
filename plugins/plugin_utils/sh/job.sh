# shellcheck shell=sh
# Follows and ends a job that runs on its own on this host.
# A job's directory holds: log (what it says), rc (its exit code, written last), and what it
# is alive by: unit (a systemd unit's name) or pid.

alive() { # DIRECTORY
    if [ -f "$1/unit" ]; then
        # systemd does not answer while it is started anew, or the machine goes down.
        state_of_unit=$(systemctl show --property=ActiveState --value -- "$(cat "$1/unit")") || return 0
        case $state_of_unit in
            active | activating | deactivating | reloading) return 0 ;;
            *) return 1 ;;
        esac
    fi
    kill -0 "$(cat "$1/pid")" 2>/dev/null
}

size() {
    stat -c %s "$1"
}

# Waits until there is more to read, the job has ended, or the time is over; then answers
# one line "STATE BYTES", STATE being running, ended RC, killed or gone, and the log from
# the offset on.
follow() { # DIRECTORY OFFSET TENTHS
    state=running
    left=$3 waited=
    while :; do
        if [ ! -d "$1" ]; then
            echo "gone 0"
            return 0
        elif [ -f "$1/rc" ]; then
            state="ended $(cat "$1/rc")"
        # Once a second: it costs more than all the rest.
        elif [ $((left % 10)) -eq 0 ] && ! alive "$1"; then
            # It may have ended between the two looks.
            if [ -f "$1/rc" ]; then state="ended $(cat "$1/rc")"; else state=killed; fi
        fi
        bytes=$(size "$1/log")
        if [ "$state" != running ] || [ -n "$waited" ] || [ "$left" -le 0 ]; then
            break
        fi
        # One more moment: a line seldom comes alone, and each answer is a round trip.
        [ "$bytes" -le "$2" ] || waited=yes
        left=$((left - 1))
        sleep 0.1
    done
    echo "$state $((bytes - $2))"
    tail -c +"$(($2 + 1))" "$1/log" | head -c "$((bytes - $2))"
}

main() { # follow DIRECTORY OFFSET TENTHS | forget DIRECTORY | stop DIRECTORY
    verb=$1
    shift
    case $verb in
        follow) follow "$@" ;;
        forget) rm -rf -- "$1" ;;
        stop)
            if [ -d "$1" ] && alive "$1"; then kill -TERM "-$(cat "$1/pid")"; fi
            rm -rf -- "$1"
            ;;
    esac
}
