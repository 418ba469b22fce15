# shellcheck shell=sh disable=SC2154
# Describes a NixOS machine as lines "key value". Changes nothing.

# Print the release of NixOS. os-release(5): values are quoted or not.
print_release() {
    id='' version=''
    while IFS='=' read -r key value || [ -n "$key" ]; do
        value=${value#[\"\']}
        value=${value%[\"\']}
        case $key in ID) id=$value ;; VERSION_ID) version=$value ;; esac
    done </etc/os-release
    [ "$id" != nixos ] || echo "release $version"
}

# Print the generations of a profile, each with its time and where it leads.
print_generations() { # PROFILE
    # One process for all of them: a machine may have hundreds.
    find "${1%/*}" -maxdepth 1 -type l -name "${1##*/}-*-link" -printf '%f %T@ %l\n' 2>/dev/null |
        sed -n "s|^${1##*/}-\([0-9]\{1,\}\)-link \([0-9]\{1,\}\)[.0-9]* |generation_entry \1 \2 |p"
}

# Print the newest generations of a profile: "generation_details NUMBER KERNEL PARTS VERSION". PARTS need a reboot. A missing
# value is -.
print_details() { # PROFILE
    for link in "$1"-*-link; do
        number=${link#"$1"-}
        number=${number%-link}
        case $number in '' | *[!0-9]*) ;; *) echo "$number" ;; esac
    done | sort -rn | head -n 200 | while read -r number; do
        link=$1-$number-link kernel=- version=-
        for modules in "$link"/kernel-modules/lib/modules/*; do
            [ ! -d "$modules" ] || kernel=${modules##*/}
        done
        # Anything else would make the whole answer invalid.
        case $kernel in *[!A-Za-z0-9._+-]*) kernel=- ;; esac
        [ ! -r "$link/nixos-version" ] || read -r version <"$link/nixos-version" || :
        parts=$(print_other_parts "$link")
        printf 'generation_details %s %.100s %s %.200s\n' "$number" "$kernel" "${parts:--}" "${version:--}"
    done | tr -cd '\n -~'
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

# Print the keys that a deployment has sent, and whether they are there.
print_keys() { # UUID
    [ -r "$nix_ops_keys/$1" ] || return 0
    while read -r name path; do
        if [ -e "$path" ]; then echo "key $name"; else echo "key_missing $name"; fi
    done <"$nix_ops_keys/$1"
}

main() { # PROFILE [contents] [generations] [record=UUID] [checkup] [keys]
    profile=$1
    shift
    standing "$profile"
    ! is_activating || echo "activating yes"
    echo "system_state ${system_state:-$(systemctl is-system-running 2>/dev/null)}"
    if [ -r /run/current-system/nixos-version ]; then
        # The file has no end of line.
        read -r version </run/current-system/nixos-version || :
        echo "nixos_version $version"
    fi
    [ ! -r /etc/os-release ] || print_release
    echo "nix_store $(command -v nix-store)"
    print_generations "$profile"
    print_owners
    for wanted; do
        case $wanted in
            generations) print_details "$profile" ;;
            contents)
                nix-store --query --requisites /run/current-system | sed 's/^/closure /'
                print_units /run/current-system
                print_files /run/current-system
                ;;
            record=*)
                print_record "${wanted#record=}"
                print_keys "${wanted#record=}"
                ;;
            # checkup.sh, which is sent only then.
            checkup) print_checkup ;;
            # look.sh, likewise.
            keys) print_compared_keys ;;
        esac
    done
}
