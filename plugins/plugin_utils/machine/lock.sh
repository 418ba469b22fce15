# shellcheck shell=sh
# A lock that is free again once its holder is gone. Machines may lack flock.
# A lock is a symbolic link to its holder, "PID-START". If the holder is gone, the process that makes the link LOCK.HOLDER is
# the next holder. Only one can make it. A holder that is done removes LOCK first, so that all that follows from it is void.

# Set `start` to the start time of a process (proc(5), starttime). Fail if the process is gone.
find_start() { # PID
    { read -r line <"/proc/$1/stat"; } 2>/dev/null || return 1
    # shellcheck disable=SC2086
    set -- ${line##*) }
    start=${20}
    [ "$1" != Z ]
}

is_running() { # PID-START
    find_start "${1%-*}" && [ "$start" = "${1#*-}" ]
}

# Take a lock if it is free. Sets lock_links to the links to remove for it.
take_lock() { # LOCK
    if ln -s -n "$me" "$1" 2>/dev/null; then
        lock_links=$1
        return 0
    fi
    first=$(readlink "$1") || return 1
    links=$1 holder=$first
    while ! is_running "$holder"; do
        next=$1.$holder
        links="$links $next"
        if ln -s -n "$me" "$next" 2>/dev/null; then
            # The holder before may have been about to remove the lock.
            if [ "$(readlink "$1")" = "$first" ]; then
                lock_links=$links
                return 0
            fi
            rm -f "$next"
            return 1
        fi
        holder=$(readlink "$next") || return 1
    done
    return 1
}

# Wait for a lock.
lock() { # LOCK SECONDS
    find_start "$$" || return
    me=$$-$start tries=$(($2 * 5))
    until take_lock "$1"; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.2
    done
}

# Free the lock that was taken, if one was.
unlock() {
    # In this order. The names have no spaces.
    # shellcheck disable=SC2086
    [ -z "${lock_links-}" ] || rm -f -- $lock_links
    lock_links=''
}
