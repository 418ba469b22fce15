#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Starts a live machine and deploys it, typing what a user would type.
# demo.sh        runs the demo; the machine is left running
# demo.sh clean  removes every trace of it
set -eu
checkout=$(cd -- "$(dirname -- "$0")/.." && pwd)
demo=$checkout/.demo
fleet() {
    "$checkout/tests/fleet/fleet" --fleet demo --number 249 "$@"
}

if [ "${1:-}" = clean ]; then
    fleet down --all
    rm -rf "$demo"
    echo "The demo's machine and files are gone."
    exit 0
fi

say() {
    printf '\n\033[1m# %s\033[0m\n' "$*"
}
run() {
    printf '\n\033[1m$ %s\033[0m\n' "$*"
    "$@"
}

PATH=$checkout/.venv/bin:$PATH
# The example is evaluated with the miniature of nixpkgs that the tests use too, which needs
# no download; at home this is a channel or a path of yours.
NIX_PATH=nixpkgs=$checkout/tests/nixpkgs
NIX_CONFIG="substituters ="
ANSIBLE_COLLECTIONS_PATH=$demo/collections
export PATH NIX_PATH NIX_CONFIG ANSIBLE_COLLECTIONS_PATH

say "A NixOS machine somewhere: here a small one, started for the demo"
rm -rf "$demo"
mkdir -p "$demo"
fleet up target
fleet reset target
cd "$demo"
cp "$checkout"/examples/*.nix "$checkout"/examples/*.yml .
cat >ansible.cfg <<END
[ssh_connection]
ssh_args = -F $(fleet ssh-config) -o ControlMaster=auto -o ControlPersist=60s
END

say "The collection, installed as from a registry"
(cd "$checkout" && run ansible-galaxy collection build --force --output-path "$demo")
run ansible-galaxy collection install --no-deps -p collections nix-ops-*.tar.gz

say "Where the machine is, and what it shall be"
run cat target.nix config.nix target.network.yml deploy.yml
run ansible-inventory -i target.network.yml --graph

say "Deploy it"
run ansible-playbook -i target.network.yml deploy.yml

say "Deploy it again: nothing has changed"
run ansible-playbook -i target.network.yml deploy.yml

say "Change one line"
run sed -i 's/Hello, world!/Hello, everybody!/' config.nix

say "Preview"
run ansible-playbook -i target.network.yml deploy.yml --check --diff

say "Deploy the change: one unit is restarted, the other goes on"
run ansible-playbook -i target.network.yml deploy.yml

say "What the machine runs now"
run ansible -i target.network.yml target -m nix.ops.nixos_info

say "The machine goes on running"
echo "  log in:            $checkout/tests/fleet/fleet --fleet demo ssh target"
echo "  play with it:      cd $demo, edit config.nix, and deploy with"
echo "                     NIX_PATH=$NIX_PATH NIX_CONFIG='$NIX_CONFIG' ANSIBLE_COLLECTIONS_PATH=$ANSIBLE_COLLECTIONS_PATH $checkout/.venv/bin/ansible-playbook -i target.network.yml deploy.yml"
echo "  remove every trace: make demo-clean"
