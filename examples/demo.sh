#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Starts a live machine and deploys these examples to it, typing what a user would type.
# demo.sh        runs the demo; the machine is left running
# demo.sh clean  removes every trace of it
set -eu
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
demo=$checkout/.demo
# Where the machine is kept; a shell that has read the demo's environment knows these by other names.
state=${FLEET_STATE_HOME:-${XDG_STATE_HOME:-$HOME/.local/state}}
cache=${FLEET_CACHE_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}}
# The address that target.nix says belongs to the fleet with this number.
number=$(sed -n 's/.*targetHost = "198\.18\.\([0-9]*\)\.10".*/\1/p' "$checkout/examples/target.nix")

fleet() {
    XDG_STATE_HOME=$state XDG_CACHE_HOME=$cache "$checkout/tests/fleet/fleet" --fleet demo "$@"
}

remove_all() {
    for socket in "$demo"/cp/*; do
        # Else ssh would wait a minute for the machine to come back.
        [ ! -S "$socket" ] || ssh -O exit -o ControlPath="$socket" target 2>/dev/null || :
    done
    fleet down --all
    [ ! -d "$state/nix-ops-fleet" ] || rmdir --ignore-fail-on-non-empty "$state/nix-ops-fleet"
    [ ! -d /nix/var/nix/gcroots/auto ] || find /nix/var/nix/gcroots/auto -lname "$demo/*" -delete
    rm -rf "$demo"
}

if [ "${1-}" = clean ]; then
    remove_all
    cat <<'END'
The demo's machine, network and files are gone. What stays, and what removes it:
  roots to start machines from   tests/fleet/fleet purge
  the virtual environment        make clean
  what was built                 nix-collect-garbage
  packages of Debian             apt-get remove
END
    exit 0
fi

say() {
    printf '\n\033[1;36m# %s\033[0m\n' "$*"
}
run() {
    printf '\n\033[1m$'
    for word; do
        case $word in
            *[!A-Za-z0-9_./=:,@+-]*) printf " '%s'" "$word" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
    printf '\033[0m\n'
    "$@"
}
die() {
    echo "The demo went wrong: $1" >&2
    exit 1
}
# The last recap has to say this of the machine.
expect() {
    grep 'target  *: ok=' "$ANSIBLE_LOG_PATH" | tail -n 1 | grep -q "$1 .*unreachable=0 .*failed=0" ||
        die "the recap should say $1."
}
# The last list has to have so many machines.
expect_listed() {
    grep '| target | A first network |' "$ANSIBLE_LOG_PATH" | tail -n 1 | grep -q "|  *$1 |[^|]*|\$" ||
        die "the list should say $1."
}
# The last table of machines has to say this of the machine.
expect_info() {
    grep '^.*| target | ' "$ANSIBLE_LOG_PATH" | tail -n 1 | grep -q "| *$1 *|" ||
        die "the information should say $1."
}
main_pids() {
    ssh -F "$ssh_config" target systemctl show --property=MainPID --value greeter clock | xargs
}

remove_all
mkdir "$demo"
cd "$demo"

say "A NixOS machine somewhere in the world. Here it is a small one, started for the demo"
fleet --number "$number" up target
ssh_config=$(fleet ssh-config)
# To the demo's user the machine is as new as any other.
sed "/StrictHostKeyChecking/d; s|UserKnownHostsFile .*|UserKnownHostsFile $demo/known_hosts|" "$ssh_config" >reach

cp "$checkout"/examples/*.nix "$checkout"/examples/*.yml .
# How to reach the demo's machine, at home a matter of ~/.ssh. And the examples are evaluated with the
# miniature of nixpkgs that the tests use, which needs no download; at home this is a channel or a path.
cat >environment <<END
export ANSIBLE_SSH_ARGS='-F $demo/reach -o ControlMaster=auto -o ControlPersist=60s'
export ANSIBLE_SSH_CONTROL_PATH_DIR='$demo/cp'
export NIX_PATH='nixpkgs=$checkout/tests/nixpkgs'
export NIX_CONFIG='substituters =
build-users-group =
sandbox = false'
export PATH='${VENV:-$checkout/.venv}/bin':"\$PATH"
export ANSIBLE_CONFIG='$demo/ansible.cfg' ANSIBLE_COLLECTIONS_PATH='$demo/collections' ANSIBLE_HOME='$demo/ansible'
export XDG_CACHE_HOME='$demo/cache' XDG_STATE_HOME='$demo/state'
export FLEET_CACHE_HOME='$cache' FLEET_STATE_HOME='$state'
END
# shellcheck source=/dev/null
. ./environment
export ANSIBLE_LOG_PATH="$demo/log"

say "Install the collection"
(cd "$checkout" && ansible-galaxy collection build --output-path "$demo") >build.log || die "$(cat build.log)"
run ansible-galaxy collection install --offline nix-ops-*.tar.gz

say "Where the machine is, and what it shall be"
run cat target.nix
run cat config.nix

say "Create a deployment of the two files"
# A configuration of your own in your home would be left alone, and this shows what is written where there is none.
(
    HOME=$demo
    run ansible-playbook nix.ops.create -e deployment=target -e '{"networks": ["target.nix", "config.nix"]}'
)
[ -e ansible.cfg ] || die "no ansible.cfg was written, because there is one in /etc/ansible."
run cat target.network.yml
run cat ansible.cfg

say "List the deployments: none of its machines was deployed yet"
run ansible-playbook nix.ops.list
expect_listed 0

say "Deploy it: its host key is not known yet, so it is shown, and nothing is sent to the machine"
run cat deploy.yml
run ansible-playbook deploy.yml && die "a host key was accepted unseen."

say "On its console, the machine shows the same fingerprint"
run ssh-keygen -lf "${ssh_config%/*}/machines/target/host_key.pub"

say "Deploy it, and accept the host key"
run ansible-playbook deploy.yml -e deploy_accept_new_host_keys=true
expect changed=[1-9]

say "List the deployments: one machine"
run ansible-playbook nix.ops.list
expect_listed 1

say "Ask the machine how it stands"
run ansible-playbook nix.ops.info
expect_info Up-to-date

say "Deploy it again: nothing has changed, so nothing is done"
run ansible-playbook deploy.yml
expect changed=0
before=$(main_pids)

say "Change one line"
run sed -i 's/Hello, world!/Hello, everybody!/' config.nix
run diff "$checkout/examples/config.nix" config.nix || :

say "Preview the change: the machine is not touched"
run ansible-playbook deploy.yml --check --diff
[ "$(main_pids)" = "$before" ] || die "the preview has touched the machine."

say "Deploy it: one unit is restarted, the others go on"
run ansible-playbook deploy.yml
expect changed=[1-9]
after=$(main_pids)
echo "Process IDs of greeter and clock: before $before, now $after."
[ "${before% *}" != "${after% *}" ] || die "greeter should have been restarted."
[ "${before#* }" = "${after#* }" ] || die "clock should not have been restarted."

say "What the machine runs now"
run ansible-playbook nix.ops.info
expect_info Up-to-date

say "The machine goes on running"
cat <<END
  Log in:              ssh -F $ssh_config target
  Go on deploying:     cd $demo && . ./environment
                       edit config.nix
                       ansible-playbook deploy.yml
  Remove every trace:  make demo-clean
END
