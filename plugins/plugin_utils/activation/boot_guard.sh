# shellcheck shell=sh disable=SC2154
# Run by nix-ops-boot-guard.service when a machine boots a new system for the first time. If nobody acknowledges the boot
# in time, the machine goes back to the system it booted before. It is part of every toplevel.

read -r new old generation allowed profile <"$nix_ops_trial" || :
# Seconds for each part of writing the old boot entry. A boot loader that hangs must not keep the machine from saying so.
limit=600
# The PATH of a unit has hardly anything.
PATH=$PATH:$old/sw/bin:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin
export PATH

# The journal may have stopped already.
say() {
    echo "$*" >&2 || :
}

runs_new() {
    [ "$(readlink -f /run/current-system)" = "$new" ]
}

# Another system was chosen in the boot menu.
if ! runs_new || [ "$(readlink -f /run/booted-system)" != "$new" ]; then exit 0; fi

boot=$(cat /proc/sys/kernel/random/boot_id)
begun=$(sed -n 2p "$nix_ops_trial")
case $begun in
    '')
        rm -f "$nix_ops_trial_failed"
        { echo "$boot" >>"$nix_ops_trial" && sync "$nix_ops_trial"; } || :
        ;;
    "$boot") ;;
    # It went down before it was acknowledged. Another wait could end the same way.
    *) allowed=0 ;;
esac
# The system before may not be a generation, or its generation was deleted.
{ mkdir -p "${nix_ops_root_trial%/*}" && ln -sfn "$old" "$nix_ops_root_trial"; } || :

end=$(($(uptime_in_seconds) + allowed))
while [ ! -L "$nix_ops_boot_decision" ] && [ "$(uptime_in_seconds)" -lt "$end" ]; do
    sleep 0.5
done
# Another system was activated meanwhile, so the machine can be reached.
if ! runs_new; then
    rm -f "$nix_ops_trial" "$nix_ops_root_trial"
    exit 0
fi
decide "$nix_ops_boot_decision" undo
if [ "$(readlink "$nix_ops_boot_decision")" = keep ]; then
    rm -f "$nix_ops_trial" "$nix_ops_root_trial" "$nix_ops_boot_decision"
    exit 0
fi

# The old system's boot menu may be on a file system that the new one does not mount.
mount_boot() {
    for point in /boot /boot/efi /efi; do
        mountpoint -q "$point" || within 60 mount -T "$old/etc/fstab" "$point"
    done 2>/dev/null
}

go_back() {
    mount_boot || :
    touch "$nix_ops_boot_unfinished" && set_generation "$profile" "$generation" "$old" "$limit" &&
        within "$limit" env NIXOS_NO_CHECK=1 "$old/bin/switch-to-configuration" boot && rm -f "$nix_ops_boot_unfinished"
}

remember_return() {
    read -r deployment toplevel action code time _ <"$nix_ops_last_activation" && [ "$toplevel" = "$new" ] &&
        echo "$deployment $toplevel $action $code $time reboot" >"$nix_ops_last_activation.new" &&
        mv "$nix_ops_last_activation.new" "$nix_ops_last_activation"
}

say "nobody got in within $allowed seconds after the reboot; going back to $old"
if ! said=$(go_back 2>&1); then
    say "$said"
    say "the boot entry of $old could not be written; the machine is left as it is"
    rm -f "$nix_ops_root_trial"
    mv "$nix_ops_trial" "$nix_ops_trial_failed"
    exit 1
fi
say "$said"
remember_return || :
rm -f "$nix_ops_trial" "$nix_ops_root_trial"
# A file system that does not answer must not keep the machine from booting back.
within 60 sync || :
systemctl reboot -i || systemctl reboot --force
