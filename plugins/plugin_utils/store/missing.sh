# shellcheck shell=sh disable=SC2154
# Prints "boot_id ID", and "missing PATH" for each store path on standard input that this host lacks. Given a link, first
# makes it a GC root of the path: the path is kept from its arrival on.

main() { # [LINK PATH]
    command -v nix-store >/dev/null || {
        echo "nix-store is not on the PATH ($PATH) of $(id -un)" >&2
        exit 127
    }
    if [ $# -eq 2 ]; then
        case $1 in
            "$nix_ops_root_copied"*)
                # Another deployment may still need what is not activated yet.
                [ "$(readlink -f "$nix_ops_old_root_copied")" = "$(readlink -f /run/current-system)" ] &&
                    rm -f "$nix_ops_old_root_copied"
                ;;
        esac
        mkdir -p "${1%/*}" && ln -sfn "$2" "$1" || exit 1
    fi
    lacking=$(xargs nix-store --check-validity --print-invalid) || exit
    echo "boot_id $(cat /proc/sys/kernel/random/boot_id)"
    printf '%s\n' "$lacking" | sed -n 's/^./missing &/p'
}
