# shellcheck shell=sh
# What a NixOS machine runs and boots; put before every script that asks for it.

# The toplevel a link leads to; nothing where there is none.
toplevel() {
    [ ! -e "$1" ] || readlink -f "$1"
}

# The number of the generation a profile stands at.
generation() {
    link=$(readlink "$1") || return 0
    link=${link##*/}
    number=${link#"${1##*/}-"}
    number=${number%-link}
    case $number in '' | *[!0-9]*) ;; *) echo "$number" ;; esac
}

# The first toplevel that a boot menu's text on standard input names.
named_toplevel() {
    sed -n 's|.*init=\(/nix/store/[^ "/]*\)/init.*|\1|p' | head -n 1
}

# The toplevel that a boot menu starts by itself.
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

# The toplevel that the machine boots next; nothing where no boot menu can be read. Where there
# are several, one is left over from an earlier boot loader: NixOS writes the one in use.
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

# A profile was set whose boot entry has not been written yet: named by this file until it is.
boot_unfinished() {
    echo /var/lib/nix-ops/boot-unfinished
}

# A system that has been booted for the first time, or will be, and has to be reached to stay: a line
# "TOPLEVEL OLD GENERATION SECONDS PROFILE", the boot guard's (boot_guard.sh).
trial() {
    echo /var/lib/nix-ops/trial
}

# How the last activation ended, also where nobody was there to see it: a line
# "UUID TOPLEVEL ACTION EXIT-CODE TIME ROLLED-BACK", the UUID that of the deployment it was of, the exit code - where
# it has not ended, or was killed.
last_activation() {
    echo /var/lib/nix-ops/last-activation
}

# What the machine remembers of its deployments, each in a directory that is named by its UUID: a file for
# each revision, of which the newest counts.
records() {
    echo /var/lib/nix-ops/records
}

# The number of a record's newest revision; nothing where there is none.
newest_revision() { # UUID
    newest=
    for file in "$(records)/$1"/*.json; do
        number=${file##*/}
        number=${number%.json}
        # A number of more digits is none that a shell can count with.
        case $number in '' | *[!0-9]* | 0?* | ????????????????*) continue ;; esac
        if [ -z "$newest" ] || [ "$number" -gt "$newest" ]; then newest=$number; fi
    done
    [ -z "$newest" ] || echo "$newest"
}

# A record, as a line "record REVISION TEXT". What is no text, or endless, is no record.
record() { # UUID
    revision=$(newest_revision "$1")
    [ -z "$revision" ] ||
        echo "record $revision $(head -c 131072 "$(records)/$1/$revision.json" | tr -cd ' -~')"
}

# What runs and what boots, as lines "key value".
standing() { # PROFILE
    echo "running $(toplevel /run/current-system)"
    echo "booted $(toplevel /run/booted-system)"
    echo "profile $(toplevel "$1")"
    echo "generation $(generation "$1")"
    echo "boot_default $(boot_default)"
    [ ! -e "$(boot_unfinished)" ] || echo "boot_unfinished yes"
    [ ! -e "$(trial)" ] || echo "trial $(head -n 1 "$(trial)" | cut -d ' ' -f 1)"
    echo "boot_id $(cat /proc/sys/kernel/random/boot_id)"
    for part in kernel initrd kernel-modules systemd; do
        echo "part $part $(toplevel "/run/booted-system/$part") $(toplevel "$1/$part")"
    done
    systemctl list-units --failed --plain --no-legend --full 2>/dev/null | while read -r unit _; do
        printf 'failed %s\n' "$unit"
    done
}

# Tells a process from a later one of the same number, also after a reboot (proc(5), starttime).
identity() { # PID
    echo "$(cat /proc/sys/kernel/random/boot_id) $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20)"
}
