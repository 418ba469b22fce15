# shellcheck shell=sh
# Describes a NixOS machine as lines "key value". Changes nothing.

os_release() { # FIELD
    sed -n "s/^$1=[\"']\{0,1\}\([^\"']*\)[\"']\{0,1\}\$/\1/p" /etc/os-release 2>/dev/null
}

main() { # PROFILE [closure] [units] [record=UUID]
    profile=$1
    shift
    standing "$profile"
    ! is_activating || echo "activating yes"
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
    print_owners
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
                print_record "${wanted#record=}"
                last=$(last_activation_file)
                [ ! -r "$last" ] || echo "last_activation $(head -c 1024 "$last" | tr -cd ' -~')"
                ;;
        esac
    done
}
