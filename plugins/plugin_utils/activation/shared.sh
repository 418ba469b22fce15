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

# Set a profile to a toplevel, by an existing generation if that leads there.
set_generation() { # PROFILE GENERATION TOPLEVEL
    if [ "$(readlink -f "$1-$2-link")" = "$3" ]; then
        nix-env --profile "$1" --switch-generation "$2"
    else
        nix-env --profile "$1" --set "$3"
    fi
}
