# shellcheck shell=sh
# Describes a NixOS machine as lines "key value". Changes nothing.

os_release() { # FIELD
    sed -n "s/^$1=[\"']\{0,1\}\([^\"']*\)[\"']\{0,1\}\$/\1/p" /etc/os-release 2>/dev/null
}

# Print the files of a toplevel's units, with those of directories such as a.service.d and b.target.wants.
print_units() { # TOPLEVEL
    for file in "$1"/etc/systemd/system/* "$1"/etc/systemd/system/*/*; do
        name=${file#"$1/etc/systemd/system/"}
        # Anything else would make the whole answer invalid.
        case $name in *[!A-Za-z0-9:_.\\@/-]*) continue ;; esac
        [ ! -f "$file" ] || echo "unit $name $(readlink -f "$file")"
    done
}

# Print a toplevel's files of /etc without the units, each with where it leads or the hash of its content.
print_files() (# TOPLEVEL
    cd "$1/etc" 2>/dev/null || exit 0
    tab=$(printf '\t')
    {
        find . -path ./systemd/system -prune -o -type l -printf '%l\t%P\n'
        find . -path ./systemd/system -prune -o -type f -exec sha256sum {} + | sed "s|  \./|$tab|"
    } | LC_ALL=C sed -n "s|^\([!-~]\{1,\}\)$tab\([ -~]\{1,\}\)\$|file \1 \2|p"
)

main() { # PROFILE [contents] [record=UUID]
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
            contents)
                nix-store --query --requisites /run/current-system | sed 's/^/closure /'
                print_units /run/current-system
                print_files /run/current-system
                ;;
            record=*)
                print_record "${wanted#record=}"
                ;;
        esac
    done
}
