# shellcheck shell=sh disable=SC2154
# Reads what a NixOS machine runs and boots.

# Print the toplevel a link leads to; nothing if it is missing.
toplevel() { # LINK
    [ ! -e "$1" ] || readlink -f "$1"
}

# Print a line for each link with the toplevel it leads to, an empty one if it is missing. The links have no spaces.
toplevels() { # LINK...
    existing=''
    for link; do
        [ ! -e "$link" ] || existing="$existing $link"
    done
    # One process for all of them: a deploy asks many machines.
    # shellcheck disable=SC2086
    readlink -f -- $existing | {
        for link; do
            found=''
            [ ! -e "$link" ] || read -r found
            echo "$found"
        done
    }
}

# Print the number of the generation a profile stands at.
generation() { # PROFILE
    link=$(readlink "$1") || return 0
    link=${link##*/}
    number=${link#"${1##*/}-"}
    number=${number%-link}
    case $number in '' | *[!0-9]*) ;; *) echo "$number" ;; esac
}

# Print the first toplevel that a boot menu on standard input names.
named_toplevel() {
    sed -n 's|.*init=\(/nix/store/[^ "/]*\)/init.*|\1|p' | head -n 1
}

# Print the toplevel that a boot menu starts by default.
# systemd-boot: loader.conf(5) of systemd; GRUB and extlinux: NixOS lists the default first.
default_of() { # MENU
    case $1 in
        */loader.conf)
            entry=$(sed -n 's/^default[[:space:]][[:space:]]*//p' "$1" | tail -n 1)
            for file in "${1%/*}/entries/$entry" "${1%/*}/entries/$entry.conf"; do
                [ ! -f "$file" ] || named_toplevel <"$file"
            done
            ;;
        *) named_toplevel <"$1" ;;
    esac
}

# Print the toplevel that the machine boots next; nothing if no boot menu can be read. The newest of several menus
# counts: the others are left over from earlier boot loaders.
boot_default() {
    for menu in /boot/loader/loader.conf /efi/loader/loader.conf /boot/efi/loader/loader.conf \
        /boot/grub/grub.cfg /boot/extlinux/extlinux.conf; do
        [ ! -r "$menu" ] || echo "$(stat -c %Y "$menu") $menu"
    done | sort -rn | while read -r _ menu; do
        found=$(default_of "$menu")
        if [ -n "$found" ]; then
            echo "$found"
            break
        fi
    done
}

# Print what runs and what boots, as lines "key value".
standing() { # PROFILE
    toplevels /run/current-system /run/booted-system "$1" | {
        for key in running booted profile; do
            read -r found
            echo "$key $found"
        done
    }
    echo "generation $(generation "$1")"
    echo "boot_default $(boot_default)"
    ! is_boot_unfinished || echo "boot_unfinished yes"
    find_trial
    [ -z "$trial_file" ] || echo "trial $trial_toplevel"
    last=$(last_activation_file)
    [ ! -r "$last" ] || echo "last_activation $(head -c 1024 "$last" | tr -cd ' -~')"
    read -r boot_id </proc/sys/kernel/random/boot_id
    echo "boot_id $boot_id"
    set -- "$1" kernel initrd kernel-modules systemd
    toplevels "/run/booted-system/$2" "$1/$2" "/run/booted-system/$3" "$1/$3" \
        "/run/booted-system/$4" "$1/$4" "/run/booted-system/$5" "$1/$5" | {
        shift
        for part; do
            read -r booted
            read -r next
            echo "part $part $booted $next"
        done
    }
    systemctl list-units --failed --plain --no-legend --full 2>/dev/null | while read -r unit _; do
        printf 'failed %s\n' "$unit"
    done
}

# Return whether an activation is at work.
is_activating() {
    case $(systemctl show --property=ActiveState --value "$nix_ops_activation_unit" 2>/dev/null) in
        active | activating | deactivating) return 0 ;;
        *) return 1 ;;
    esac
}

# Print what tells a process from a later one with the same number, also after a reboot (proc(5), starttime).
identity() { # PID
    echo "$(cat /proc/sys/kernel/random/boot_id) $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20)"
}
