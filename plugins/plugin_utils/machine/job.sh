# shellcheck shell=sh
# Follows and stops a job that runs detached on this host.
# A job's directory holds: log (its output), rc (its exit code, written last), step (its current step, if it has steps),
# and what tells whether it is alive: unit (the name of a systemd unit), or pid and identity.

is_alive() { # DIRECTORY
    if [ -f "$1/unit" ]; then
        # systemd does not answer while it restarts or the machine goes down.
        state_of_unit=$(systemctl show --property=ActiveState --value -- "$(cat "$1/unit")") || return 0
        case $state_of_unit in
            active | activating | deactivating | reloading) return 0 ;;
            *) return 1 ;;
        esac
    fi
    [ "$(identity "$(cat "$1/pid")")" = "$(cat "$1/identity")" ]
}

size() { # FILE
    stat -c %s "$1"
}

# Return whether the job waits for the controller in another step than the one that the controller knows.
is_waited_for() { # DIRECTORY STEP
    { read -r now <"$1/step"; } 2>/dev/null || return 1
    case $now in "$2") return 1 ;; acknowledge | reboot) return 0 ;; *) return 1 ;; esac
}

# Wait until there is new output, the job has ended or waits for the controller, or the time is over. Set state to running,
# ended or killed; fail if files of the job are missing. File descriptor 3 reads the log.
await_output() { # DIRECTORY OFFSET TENTHS STEP
    head -c "$2" <&3 >/dev/null
    left=$3 more=
    while :; do
        if [ ! -f "$1/log" ] || { [ ! -f "$1/unit" ] && [ ! -f "$1/pid" ]; }; then
            return 1
        elif [ -f "$1/rc" ]; then
            state=ended
        # Only once a second: this costs more than the rest of the loop.
        elif [ $((left % 10)) -eq 0 ] && ! is_alive "$1"; then
            # It may have ended between the two checks.
            if [ -f "$1/rc" ]; then state=ended; else state=killed; fi
        fi
        if [ "$state" != running ] || [ "$more" = 0 ] || [ "$left" -le 0 ] || is_waited_for "$1" "$4"; then
            return 0
        fi
        # Wait on for half a second: lines seldom come alone, and each answer is a round trip.
        if [ -n "$more" ]; then
            more=$((more - 1))
        # The last line may have no end yet.
        elif IFS= read -r line <&3 || [ -n "$line" ]; then
            more=4
        fi
        left=$((left - 1))
        sleep 0.1
    done
}

# Wait for news of a job. Then print "job STATE RC STEP" and the log from the offset on, as a block "log BYTES". STATE is
# running, ended, killed or gone (without its files); a missing RC or STEP is -.
follow() { # DIRECTORY OFFSET TENTHS STEP
    state=running rc=-
    if ! await_output "$@" 2>/dev/null 3<"$1/log"; then
        echo "job gone - -"
        return 0
    fi
    # Read the step after the size. With an older step than the lines, the controller would wait for more lines.
    bytes=$(($(size "$1/log") - $2))
    step=-
    [ "$state" != ended ] || rc=$(cat "$1/rc")
    # On a full file system this file stays empty.
    [ ! -s "$1/step" ] || step=$(cat "$1/step")
    if [ "$bytes" -gt 65536 ]; then
        # Leave the rest to the next call, or a slow connection would count as dead.
        bytes=65536 state=running rc=-
    fi
    echo "job $state $rc $step"
    echo "log $bytes"
    tail -c +"$(($2 + 1))" "$1/log" | head -c "$bytes"
}

main() { # follow DIRECTORY OFFSET TENTHS STEP | stop DIRECTORY
    verb=$1
    shift
    case $verb in
        follow) follow "$@" ;;
        stop)
            if [ -d "$1" ] && is_alive "$1"; then kill -TERM "-$(cat "$1/pid")"; fi
            rm -rf -- "$1"
            ;;
    esac
}
