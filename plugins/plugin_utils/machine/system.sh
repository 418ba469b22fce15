# shellcheck shell=sh disable=SC2154
# Reads what a NixOS machine runs and boots. Each deploy asks all machines, so this starts few processes.

# A line break.
nl='
'

reboot_parts='kernel initrd kernel-modules systemd'

# Print the toplevel a link leads to; nothing if it is missing.
toplevel() { # LINK
    [ ! -e "$1" ] || readlink -f "$1"
}

# Set resolved to the toplevels that links lead to, one a line, an empty line for a missing one. The links have no spaces.
resolve() { # LINK...
    existing=''
    for link; do
        [ ! -e "$link" ] || existing="$existing $link"
    done
    # shellcheck disable=SC2086
    found=$([ -z "$existing" ] || readlink -f -- $existing)$nl
    resolved=''
    for link; do
        case "$existing " in
            *" $link "*)
                resolved=$resolved${found%%"$nl"*}$nl
                found=${found#*"$nl"}
                ;;
            *) resolved=$resolved$nl ;;
        esac
    done
}

# Set toplevel to the first line of resolved, and take it from there.
take_resolved() {
    toplevel=${resolved%%"$nl"*}
    resolved=${resolved#*"$nl"}
}

# Print the number of the generation a profile stands at.
generation() { # PROFILE
    link=$(readlink "$1") || return 0
    link=${link##*/}
    number=${link#"${1##*/}-"}
    number=${number%-link}
    case $number in '' | *[!0-9]*) ;; *) echo "$number" ;; esac
}

# Print which boot loader a toplevel installs: grub, systemd-boot, extlinux or init-script. Print nothing for any other
# and for none.
loader_of() { # TOPLEVEL
    # switch-to-configuration has the path of the program that writes the boot menu, as text or in a compiled wrapper.
    found=$(grep -aoE -m 1 '/nix/store/[0-9a-z]{32}-[^ /]*(grub|systemd-boot|extlinux|init-script)' \
        "$1/bin/switch-to-configuration" 2>/dev/null)
    case ${found%%"$nl"*} in
        *[!a-z]grub) echo grub ;;
        *[!a-z]systemd-boot) echo systemd-boot ;;
        *[!a-z]extlinux) echo extlinux ;;
        *[!a-z]init-script) echo init-script ;;
    esac
}

# Print the first toplevel that a boot menu on standard input names.
named_toplevel() {
    sed -n '\|init=/nix/store/[^ "/]*/init|{s|.*init=\(/nix/store/[^ "/]*\)/init.*|\1|p;q;}'
}

# Print the entry that systemd-boot starts by default, out of the files of entries that match the pattern of loader.conf(5).
# A count of tries in a name, as in nixos-generation-5+3-1.conf, is no part of it; a bad entry, with no tries left, is last.
default_entry() { # LOADER-DIRECTORY
    pattern=''
    while read -r key value || [ -n "$key" ]; do
        [ "$key" != default ] || pattern=$value
    done <"$1/loader.conf"
    matches=''
    for file in "$1"/entries/*.conf /boot/loader/entries/*.conf "${1%/*}"/EFI/Linux/*.efi; do
        [ -f "$file" ] || continue
        name=${file##*/} left=1
        count=${name##*+}
        count=${count%.*}
        case $name in
            *+[0-9]*)
                case $count in *[!0-9-]*) continue ;; esac
                name=${name%+*}.${name##*.}
                [ "${count%-*}" -gt 0 ] || left=0
                ;;
        esac
        # shellcheck disable=SC2254
        case $name in
            $pattern | $pattern.conf | $pattern.efi) matches=$matches$left/$name/$file$nl ;;
        esac
    done
    case $matches in
        # NixOS names one entry.
        *"$nl"?*) printf '%s' "$matches" | last_entry ;;
        *) printf '%s' "${matches#*/*/}" ;;
    esac
}

# Print the file of the entry that systemd-boot puts first, out of lines "LEFT/NAME/FILE".
last_entry() {
    while IFS=/ read -r left name file; do
        echo "$left 0$(echo "$name" | tr -cd '0-9' | head -c 15) $file"
    done | sort -k 1,1nr -k 2,2nr | sed -n '1s/^[01] [0-9]* //p'
}

# Print the toplevel that a boot menu starts by default; nothing if that can't be told.
# GRUB and extlinux: NixOS lists the default first.
default_of() { # MENU
    case $1 in
        */loader.conf)
            entry=$(default_entry "${1%/*}")
            # What is in an image of EFI can't be read.
            case $entry in *.conf) named_toplevel <"$entry" ;; esac
            ;;
        */grub.cfg)
            # The user may have chosen another default, or put entries before those of NixOS.
            ! grep -E '^[[:space:]]*set default=' "$1" | grep -vqE '=("?0"?|"?\$\{next_entry\}"?)$' || return 0
            sed -n '/^menuentry/,/^}/{p;/^}/q;}' "$1" | named_toplevel
            ;;
        */init) sed -n 's|^exec \(/nix/store/[^ "/]*\)/init.*|\1|p' "$1" | head -n 1 ;;
        *) named_toplevel <"$1" ;;
    esac
}

# Set menu to the file that exists, or to the newest of several. GRUB may have its menu on several disks.
find_menu() { # FILE...
    menu='' several=''
    for file; do
        [ -r "$file" ] || continue
        several=$menu menu=$file
    done
    [ -z "$several" ] || menu=$(
        for file; do
            [ ! -r "$file" ] || echo "$(stat -c %Y "$file") $file"
        done | sort -rn | sed -n '1s/^[0-9]* //p'
    )
}

# Print the toplevel that the machine boots next; nothing if that is not known: if its menu can't be read, or may be left
# over from an earlier boot loader.
boot_default() { # PROFILE
    loader=$(loader_of "$1")
    case $loader in
        grub) find_menu /boot*/grub/grub.cfg /boot/*/grub/grub.cfg ;;
        systemd-boot) find_menu /boot*/loader/loader.conf /boot/*/loader/loader.conf /efi*/loader/loader.conf ;;
        extlinux) find_menu /boot*/extlinux/extlinux.conf ;;
        init-script) menu=/sbin/init ;;
        *) find_menu /boot*/loader/loader.conf /boot/*/loader/loader.conf /efi*/loader/loader.conf \
            /boot*/grub/grub.cfg /boot*/extlinux/extlinux.conf ;;
    esac
    [ -r "$menu" ] || return 0
    found=$(default_of "$menu")
    if [ -n "$loader" ] || [ "$found" = "$(toplevel "$1")" ]; then echo "$found"; fi
}

# Print the parts that only a reboot replaces, of the booted system and of another one: "part NAME BOOTED OTHER". Missing
# parts, as in a container, are left empty.
print_parts() { # TOPLEVEL
    # shellcheck disable=SC2046
    resolve $(part_links "$1")
    print_resolved_parts
}

# Print the links to these parts, both systems' link of a part one after the other.
part_links() { # TOPLEVEL
    for part in $reboot_parts; do
        echo "/run/booted-system/$part $1/$part"
    done
}

print_resolved_parts() {
    for part in $reboot_parts; do
        take_resolved
        booted=$toplevel
        take_resolved
        echo "part $part $booted $toplevel"
    done
}

# Print the parts of a toplevel that only a reboot replaces, with commas between them. A part that one of the systems lacks
# does not count (description.py: differs).
print_other_parts() { # TOPLEVEL
    print_parts "$1" | {
        parts=''
        while read -r _ name booted next; do
            # If either part is missing, read leaves the second variable empty.
            [ -z "$next" ] || [ "$booted" = "$next" ] || parts=$parts,$name
        done
        echo "${parts#,}"
    }
}

has_other_parts() { # TOPLEVEL
    [ -n "$(print_other_parts "$1")" ]
}

# Print what runs and what boots, as lines "key value".
standing() { # PROFILE
    # shellcheck disable=SC2046
    resolve /run/current-system /run/booted-system "$1" $(part_links "$1")
    for key in running booted profile; do
        take_resolved
        echo "$key $toplevel"
    done
    print_resolved_parts
    echo "generation $(generation "$1")"
    echo "boot_default $(boot_default "$1")"
    ! is_boot_unfinished || echo "boot_unfinished yes"
    find_trial
    [ -z "$trial_file" ] || echo "trial $trial_toplevel"
    find_last_activation
    [ ! -r "$last_activation" ] || echo "last_activation $(head -c 1024 "$last_activation" | tr -cd ' -~')"
    read -r boot_id </proc/sys/kernel/random/boot_id
    echo "boot_id $boot_id"
    print_failed_units
}

# Print the failed units, and set system_state to the state of the whole system (systemctl(1), is-system-running).
print_failed_units() {
    system_state=''
    said=$(systemctl show --property=SystemState,NFailedUnits 2>/dev/null)
    case $said in
        *SystemState=*)
            system_state=${said#*SystemState=}
            system_state=${system_state%%"$nl"*}
            ;;
    esac
    # Most machines have no failed units, and need no second question.
    case $nl$said$nl in *"${nl}NFailedUnits=0$nl"*) return 0 ;; esac
    systemctl list-units --failed --plain --no-legend --full 2>/dev/null | while read -r unit _; do
        printf 'failed %s\n' "$unit"
    done
}

# Return whether the next boot of a system finds what is written to a directory now.
outlives_reboot() { # DIRECTORY TOPLEVEL
    [ "$(stat -f -c %T "$1")" != tmpfs ] || return 1
    # Without the store's own file system, nothing boots.
    [ "$(stat -c %d "$1")" != "$(stat -c %d "$2")" ] || return 0
    point=$(stat -c %m "$1")
    while read -r _ where kind _; do
        if [ "$where" = "$point" ]; then
            case $kind in tmpfs | ramfs | overlay) return 1 ;; *) return 0 ;; esac
        fi
    done <"$2/etc/fstab"
    return 1
} 2>/dev/null

# Return whether an activation is at work.
is_activating() {
    # systemd keeps a file of each transient unit as long as it knows the unit.
    [ -e "/run/systemd/transient/$nix_ops_activation_unit" ] || return 1
    case $(systemctl show --property=ActiveState --value "$nix_ops_activation_unit" 2>/dev/null) in
        active | activating | deactivating) return 0 ;;
        *) return 1 ;;
    esac
}

# Print the directory of the activation that is at work; nothing if it has just ended.
at_work() {
    command=$(systemctl show --property=ExecStart --value "$nix_ops_activation_unit")
    for attempt in "$nix_ops_activations"-*; do
        case $command in *" $attempt/job "*) ;; *) continue ;; esac
        [ -e "$attempt/rc" ] || echo "$attempt"
    done
}

# Print what tells a process from a later one with the same number, also after a reboot (proc(5), starttime).
identity() { # PID
    echo "$(cat /proc/sys/kernel/random/boot_id) $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d ' ' -f 20)"
}
