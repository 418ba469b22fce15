# shellcheck shell=sh
# Describes a NixOS machine as lines "key value".
# main PROFILE [closure] [units] [record=UUID]

os_release() { # FIELD
    sed -n "s/^$1=[\"']\{0,1\}\([^\"']*\)[\"']\{0,1\}\$/\1/p" /etc/os-release 2>/dev/null
}

main() {
    profile=$1
    shift
    standing "$profile"
    case $(systemctl show --property=ActiveState --value nix-ops-activation.service 2>/dev/null) in
        active | activating | deactivating) echo "activating yes" ;;
    esac
    echo "system_state $(systemctl is-system-running 2>/dev/null)"
    [ ! -r /run/current-system/nixos-version ] || echo "nixos_version $(cat /run/current-system/nixos-version)"
    # os-release(5): quoted or not.
    [ "$(os_release ID)" != nixos ] || echo "release $(os_release VERSION_ID)"
    echo "nix_store $(command -v nix-store)"
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
            record=*)
                record "${wanted#record=}"
                [ ! -r "$(last_activation)" ] ||
                    echo "last_activation $(head -c 1024 "$(last_activation)" | tr -cd ' -~')"
                ;;
        esac
    done
}
