# shellcheck shell=sh disable=SC2034
# Every place on a machine that the collection uses. All scripts get this file, the activation job and the boot guard too.
# boot-guard.nix and host.py read it as well: one NAME=VALUE a line, without quotes or expansions.

# Must outlive a reboot. It is on the store's file system, as /var/lib may be emptied at boot. For root alone.
nix_ops_kept=/nix/var/nix/nix-ops
# The machine's id, which tells it from others after a reboot.
nix_ops_identity=/nix/var/nix/nix-ops/identity
# A directory for each deployment, named by its UUID, with a file for each revision. The newest revision counts.
nix_ops_records=/nix/var/nix/nix-ops/records
# The result of the last activation: "UUID TOPLEVEL ACTION EXIT-CODE TIME ROLLED-BACK". UUID is the deployment's, or -.
# EXIT-CODE is - while the activation runs and after it was killed.
nix_ops_last_activation=/nix/var/nix/nix-ops/last-activation
# Exists from before the profile is set until its boot entry is written.
nix_ops_boot_unfinished=/nix/var/nix/nix-ops/boot-unfinished
# A system that stays only if its first boot is acknowledged: "TOPLEVEL OLD GENERATION SECONDS PROFILE". The boot guard
# adds a second line, the id of that boot.
nix_ops_trial=/nix/var/nix/nix-ops/trial
nix_ops_trial_failed=/nix/var/nix/nix-ops/trial-failed
# A file for each deployment, named by its UUID: its keys on the machine, as lines "NAME PATH".
nix_ops_keys=/nix/var/nix/nix-ops/keys

# Where version 0.1.0 keeps the same. Its boot guard, part of older generations, knows only these.
nix_ops_old_kept=/var/lib/nix-ops
nix_ops_old_records=/var/lib/nix-ops/records
nix_ops_old_last_activation=/var/lib/nix-ops/last-activation
nix_ops_old_boot_unfinished=/var/lib/nix-ops/boot-unfinished
nix_ops_old_trial=/var/lib/nix-ops/trial
nix_ops_old_trial_failed=/var/lib/nix-ops/trial-failed

# For this boot only. The directory of an activation is this and its id.
nix_ops_activations=/run/nix-ops
nix_ops_boot_decision=/run/nix-ops-boot-decision
# The keys that are in no other directory. Only root can write to it.
nix_ops_keys_directory=/run/keys
nix_ops_keys_work=/run/nix-ops-keys
# The lock of those who replace keys (lock.sh), and who replaced keys last.
nix_ops_keys_lock=/run/nix-ops-keys-lock
nix_ops_keys_replaced=/run/nix-ops-keys-replaced
# The keys that a deploy has replaced and that its activation may put back (old_keys.sh).
nix_ops_old_keys=/run/nix-ops-old-keys

# Keep what each deployment copied last from being collected; the name ends in the deployment's UUID. Version 0.1.0 has
# one for all deployments.
nix_ops_root_copied=/nix/var/nix/gcroots/nix-ops/copied-
nix_ops_old_root_copied=/nix/var/nix/gcroots/nix-ops/copied
# Keep the system to return to from being collected.
nix_ops_root_before=/nix/var/nix/gcroots/nix-ops/before
nix_ops_root_trial=/nix/var/nix/gcroots/nix-ops/trial

# systemd runs a unit once at a time, so the name of this one is the lock of activations.
nix_ops_activation_unit=nix-ops-activation.service
nix_ops_guard_unit=nix-ops-boot-guard.service
