# shellcheck shell=sh disable=SC2154
# Reboots a NixOS machine. Refuses while an activation is at work, and holds the lock of activations meanwhile.
# Prints "rebooting yes" or "refused REASON".

refuse() { # REASON TEXT
    echo "refused $1"
    echo "$2" >&2
    exit 0
}

# If the machine does not go down, the lock ends by itself.
hold_lock() { # HOLDER
    systemd-run --quiet --unit="$nix_ops_activation_unit" --collect --service-type=exec \
        --description="nix.ops reboot by $1" --setenv=PATH="$PATH" /bin/sh -c 'exec sleep 600' 2>&1
}

# Reboot without ending any service. The answer has to be on its way first.
reboot_hard() {
    # shellcheck disable=SC2016
    setsid /bin/sh -c 'sleep 1; timeout 10 sync; timeout 10 systemctl reboot --force --force; echo b >/proc/sysrq-trigger' \
        </dev/null >/dev/null 2>&1 &
}

main() { # soft|hard HOLDER
    [ "$(id -u)" = 0 ] || refuse root "it needs root: set become"
    if ! said=$(hold_lock "$2"); then
        if is_activating; then
            refuse busy "$(systemctl show --property=Description --value "$nix_ops_activation_unit")"
        fi
        # systemd itself may hang.
        [ "$1" = hard ] || refuse start "$said"
    fi
    if [ "$1" = hard ]; then
        reboot_hard
    elif ! said=$(systemctl reboot 2>&1); then
        systemctl stop "$nix_ops_activation_unit"
        refuse start "$said"
    fi
    echo "rebooting yes"
}
