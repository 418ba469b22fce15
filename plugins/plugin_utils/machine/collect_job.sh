# shellcheck shell=sh disable=SC2154
# The job of a garbage collection. It runs detached on the machine.
# sh job DIRECTORY PROFILE NUMBERS-OF-GENERATIONS...
# Before this text stand the user's variables, places.sh, kept.sh and system.sh.

directory=$1 profile=$2
shift 2
umask 022
cd / || exit 1

# Return whether a generation may be deleted. The controller has asked a while ago.
may_go() { # NUMBER
    [ -L "$profile-$1-link" ] || return 1
    found=$(readlink -f "$profile-$1-link")
    find_trial
    case $found in
        "$(toplevel "$profile")" | "$(toplevel /run/current-system)" | "$(toplevel /run/booted-system)" | \
            "$trial_toplevel" | "$(boot_default "$profile")") return 1 ;;
    esac
}

# Take deleted generations from the boot menu, unless that could change what boots.
write_menu() {
    boots=$(boot_default "$profile")
    if is_boot_unfinished || [ -n "$trial_file" ] || { [ -n "$boots" ] && [ "$boots" != "$(toplevel "$profile")" ]; }; then
        echo "the boot menu is left as it is: it does not start the profile's system"
        return 0
    fi
    [ -x "$profile/bin/switch-to-configuration" ] || return 0
    timeout -k 30 600 "$profile/bin/switch-to-configuration" boot
}

collect() { # NUMBERS...
    chosen=''
    for number; do
        ! may_go "$number" || chosen="$chosen $number"
    done
    if [ -n "$chosen" ]; then
        ! is_activating || return 75
        # shellcheck disable=SC2086
        nix-env --profile "$profile" --delete-generations $chosen || return
        # Before the collection, or the menu would offer systems that are gone.
        write_menu || return
    fi
    nix-store --quiet --gc
}

collect "$@" >"$directory/log" 2>&1
echo $? >"$directory/rc.new"
mv "$directory/rc.new" "$directory/rc"
