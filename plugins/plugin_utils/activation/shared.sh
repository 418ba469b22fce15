# shellcheck shell=sh
# What the activation job and the boot guard share.

# The kernel's clock, which nobody sets.
uptime_in_seconds() {
    read -r seconds _ </proc/uptime
    echo "${seconds%.*}"
}

# Decide between keep and undo, unless that is decided already: only one caller can make the link (symlink(2)).
decide() { # LINK keep|undo
    ln -s "$2" "$1" 2>/dev/null || :
}

# Run a command. If it has not ended after so many seconds, end it and return 124.
within() { # SECONDS COMMAND...
    overdue=$(($(uptime_in_seconds) + $1))
    # Busybox has no --kill-after.
    timeout -k 30 "$@"
    set -- $?
    # timeout(1) returns 137 if it had to kill the command, and that of Busybox the code of the command that it ended.
    case $1 in 137 | 143) [ "$(uptime_in_seconds)" -lt "$overdue" ] || return 124 ;; esac
    return "$1"
}

# Set a profile to a toplevel, by an existing generation if that leads there. nix-env may have to wait for locks.
set_generation() { # PROFILE GENERATION TOPLEVEL SECONDS
    if [ "$(readlink -f "$1-$2-link")" = "$3" ]; then
        within "$4" nix-env --profile "$1" --switch-generation "$2"
    else
        within "$4" nix-env --profile "$1" --set "$3"
    fi
}
