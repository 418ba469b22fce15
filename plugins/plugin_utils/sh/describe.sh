# shellcheck shell=sh
# Describes a NixOS machine as lines "key value".
# main PROFILE [closure] [units]

main() {
    profile=$1
    shift
    standing "$profile"
    echo "boot_id $(cat /proc/sys/kernel/random/boot_id)"
    echo "system_state $(systemctl is-system-running 2>/dev/null)"
    [ ! -r /run/current-system/nixos-version ] || echo "nixos_version $(cat /run/current-system/nixos-version)"
    echo "nix_store $(command -v nix-store)"
    for part in kernel initrd kernel-modules systemd; do
        echo "part $part $(toplevel "/run/booted-system/$part") $(toplevel "$profile/$part")"
    done
    for link in "$profile"-*-link; do
        [ -L "$link" ] || continue
        number=${link#"$profile"-}
        number=${number%-link}
        echo "generation_entry $number $(stat -c %Y "$link") $(readlink "$link")"
    done
    for wanted; do
        case $wanted in
            closure)
                nix-store --query --requisites /run/current-system | sed 's/^/closure /'
                ;;
            units)
                for unit in /run/current-system/etc/systemd/system/*; do
                    [ ! -f "$unit" ] || echo "unit ${unit##*/} $(readlink -f "$unit")"
                done
                ;;
        esac
    done
}
