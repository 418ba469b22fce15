# shellcheck shell=sh
# Prints "boot_id ID", which tells this machine from others.

main() {
    echo "boot_id $(cat /proc/sys/kernel/random/boot_id)"
}
