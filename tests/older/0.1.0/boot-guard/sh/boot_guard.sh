# shellcheck shell=sh
# What nix-ops-boot-guard.service runs on a machine that boots a new system for the first time: where nobody
# acknowledges that in time, the machine goes back to the system before. It is part of every toplevel.
# The trial, written just before the reboot: a line "TOPLEVEL OLD GENERATION SECONDS PROFILE"; then the boot that it
# is about, which is written here.

state=/var/lib/nix-ops
trial=$state/trial
last=$state/last-activation
decision=/run/nix-ops-boot-decision
root=/nix/var/nix/gcroots/nix-ops/trial

read -r new old generation seconds profile <"$trial" || :
# A unit has hardly a PATH of its own.
PATH=$PATH:$old/sw/bin:/run/current-system/sw/bin:/nix/var/nix/profiles/default/bin
export PATH

# The journal may have stopped before.
say() {
    echo "$*" >&2 || :
}

runs() {
    [ "$(readlink -f /run/current-system)" = "$new" ]
}

uptime_in_seconds() {
    read -r uptime _ </proc/uptime
    echo "${uptime%.*}"
}

# Another system was chosen in the boot menu.
if ! runs || [ "$(readlink -f /run/booted-system)" != "$new" ]; then exit 0; fi

boot=$(cat /proc/sys/kernel/random/boot_id)
begun=$(sed -n 2p "$trial")
case $begun in
    '')
        rm -f "$trial-failed"
        { echo "$boot" >>"$trial" && sync "$trial"; } || :
        ;;
    "$boot") ;;
    # It went down before anybody got in, and might do so for ever.
    *) seconds=0 ;;
esac
# The system before may be no generation, or one that is deleted meanwhile.
{ mkdir -p "${root%/*}" && ln -sfn "$old" "$root"; } || :

end=$(($(uptime_in_seconds) + seconds))
while [ ! -L "$decision" ] && [ "$(uptime_in_seconds)" -lt "$end" ]; do
    sleep 0.5
done
# Whoever has activated another system meanwhile got in.
if ! runs; then
    rm -f "$trial" "$root"
    exit 0
fi
# Whoever makes the link decides, once (symlink(2)).
ln -s undo "$decision" 2>/dev/null || :
if [ "$(readlink "$decision")" = keep ]; then
    rm -f "$trial" "$root" "$decision"
    exit 0
fi

# The old system's boot menu may be on a file system that the new one does not mount.
mount_boot() {
    for point in /boot /boot/efi /efi; do
        mountpoint -q "$point" || mount -T "$old/etc/fstab" "$point"
    done 2>/dev/null
}

set_profile() {
    if [ "$(readlink "$profile-$generation-link")" = "$old" ]; then
        nix-env --profile "$profile" --switch-generation "$generation"
    else
        nix-env --profile "$profile" --set "$old"
    fi
}

go_back() {
    mount_boot || :
    touch "$state/boot-unfinished" && set_profile &&
        NIXOS_NO_CHECK=1 "$old/bin/switch-to-configuration" boot && rm -f "$state/boot-unfinished"
}

remember() {
    read -r deployment toplevel action code time _ <"$last" && [ "$toplevel" = "$new" ] &&
        echo "$deployment $toplevel $action $code $time reboot" >"$last.new" && mv "$last.new" "$last"
}

say "nobody got in within $seconds seconds after the reboot; going back to $old"
if ! said=$(go_back 2>&1); then
    say "$said"
    say "the boot entry of $old could not be written; the machine is left as it is"
    rm -f "$root"
    mv "$trial" "$trial-failed"
    exit 1
fi
say "$said"
remember || :
rm -f "$trial" "$root"
sync
systemctl reboot -i || systemctl reboot --force
