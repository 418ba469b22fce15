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

# The toplevel that the machine boots next; nothing where its boot menu can't be read.
# systemd-boot: loader.conf(5) of systemd; GRUB and extlinux: NixOS lists the default first.
boot_default() {
    for boot in /boot /efi /boot/efi; do
        [ -r "$boot/loader/loader.conf" ] || continue
        entry=$(sed -n 's/^default[[:space:]][[:space:]]*//p' "$boot/loader/loader.conf" | tail -n 1)
        for file in "$boot/loader/entries/$entry" "$boot/loader/entries/$entry.conf"; do
            [ ! -f "$file" ] || named_toplevel <"$file"
        done
        return 0
    done
    for file in /boot/grub/grub.cfg /boot/extlinux/extlinux.conf; do
        if [ -r "$file" ]; then
            named_toplevel <"$file"
            return 0
        fi
    done
}

# What runs and what boots, as lines "key value".
standing() { # PROFILE
    echo "running $(toplevel /run/current-system)"
    echo "booted $(toplevel /run/booted-system)"
    echo "profile $(toplevel "$1")"
    echo "generation $(generation "$1")"
    echo "boot_default $(boot_default)"
    systemctl list-units --failed --plain --no-legend --full 2>/dev/null | while read -r unit _; do
        printf 'failed %s\n' "$unit"
    done
}
