# shellcheck shell=sh
# Follows and ends a job that runs on its own on this host.
# A job's directory holds: log (what it says), rc (its exit code, written last), step (where it
# is, if it has steps), and what it is alive by: unit (a systemd unit's name), or pid and identity.

alive() { # DIRECTORY
    if [ -f "$1/unit" ]; then
        # systemd does not answer while it is started anew, or the machine goes down.
        state_of_unit=$(systemctl show --property=ActiveState --value -- "$(cat "$1/unit")") || return 0
        case $state_of_unit in
            active | activating | deactivating | reloading) return 0 ;;
            *) return 1 ;;
        esac
    fi
    [ "$(identity "$(cat "$1/pid")")" = "$(cat "$1/identity")" ]
}

size() {
    stat -c %s "$1"
}

# Waits until there is more to read, the job has ended, or the time is over; then answers
# "job STATE RC STEP", STATE being running, ended, killed or gone, with - for what there is
# not, and a block "log BYTES" with the log from the offset on.
follow() { # DIRECTORY OFFSET TENTHS
    state=running rc=-
    left=$3 waited=
    while :; do
        if [ ! -d "$1" ]; then
            echo "job gone - -"
            return 0
        elif [ -f "$1/rc" ]; then
            state=ended
        # Once a second: it costs more than all the rest.
        elif [ $((left % 10)) -eq 0 ] && ! alive "$1"; then
            # It may have ended between the two looks.
            if [ -f "$1/rc" ]; then state=ended; else state=killed; fi
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
    step=-
    [ "$state" != ended ] || rc=$(cat "$1/rc")
    [ ! -f "$1/step" ] || step=$(cat "$1/step")
    bytes=$(($(size "$1/log") - $2))
    if [ "$bytes" -gt 65536 ]; then
        # The rest with the next look, so that a slow connection is not taken for a dead one.
        bytes=65536 state=running rc=-
    fi
    echo "job $state $rc $step"
    echo "log $bytes"
    tail -c +"$(($2 + 1))" "$1/log" | head -c "$bytes"
}

main() { # follow DIRECTORY OFFSET TENTHS | stop DIRECTORY
    verb=$1
    shift
    case $verb in
        follow) follow "$@" ;;
        stop)
            if [ -d "$1" ] && alive "$1"; then kill -TERM "-$(cat "$1/pid")"; fi
            rm -rf -- "$1"
            ;;
    esac
}
