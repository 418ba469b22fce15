# shellcheck shell=sh
# What a check asks a machine beside what it runs (describe.sh), as lines "key value". Changes nothing.

# Print what df says of local file systems: "KEY TOTAL USED AVAILABLE MOUNT". A file server that hangs is not asked.
print_disks() { # KEY OPTION-OF-DF
    timeout 20 df -P -T -l "$2" 2>/dev/null | while read -r _ kind total used available _ mount; do
        # The first line is the head. Some file systems have no numbers.
        case $total$used$available in *[!0-9]* | '') continue ;; esac
        case $kind-$mount in
            *-/run/* | *-/dev | *-/dev/* | *-/proc/* | *-/sys/*) continue ;;
            overlay-/) ;;
            # An image is always full, and a container's root is on a disk that is told as well.
            squashfs-* | iso9660-* | erofs-* | efivarfs-* | overlay-*) continue ;;
        esac
        echo "$1 $total $used $available $mount"
    done | LC_ALL=C tr -cd ' -~\n'
}

print_checkup() {
    echo "clock $(date +%s)"
    read -r one five fifteen _ </proc/loadavg
    echo "load $one $five $fifteen"
    echo "processors $(nproc)"
    read -r uptime _ </proc/uptime
    echo "uptime ${uptime%.*}"
    print_disks disk -k
    print_disks inodes -i
    timeout 20 systemctl list-units --state=activating --plain --no-legend --full 2>/dev/null | while read -r unit _; do
        printf 'starting %s\n' "$unit"
    done
}
