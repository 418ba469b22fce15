#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Starts a live machine and deploys these examples to it, typing what a user would type.
# demo.sh        runs the demo; the machine is left running
# demo.sh clean  removes it, and names what stays
set -eu
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
demo=$checkout/.demo
# Where the machine is kept. A shell that has read the demo's environment has another HOME.
home=$(getent passwd "$(id -u)" | cut -d : -f 6)
state=${XDG_STATE_HOME:-$home/.local/state}
cache=${XDG_CACHE_HOME:-$home/.cache}
# The address that target.nix says belongs to the fleet with this number.
number=$(sed -n 's/.*targetHost = "198\.18\.\([0-9]*\)\.10".*/\1/p' "$checkout/examples/target.nix")

fleet() {
    XDG_STATE_HOME=$state XDG_CACHE_HOME=$cache "$checkout/tests/fleet/fleet" --fleet demo "$@"
}

remove_all() {
    for socket in "$demo"/me/.ansible/cp/*; do
        # Else ssh would wait a minute for the machine to come back.
        [ ! -S "$socket" ] || ssh -O exit -o ControlPath="$socket" target 2>/dev/null || :
    done
    agent=$(sed -n 's/^SSH_AGENT_PID=\([0-9]*\);.*/\1/p' "$demo/agent.sh" 2>/dev/null) || :
    # Another process may have this number after a reboot.
    if [ -n "$agent" ] && tr '\0' ' ' <"/proc/$agent/cmdline" 2>/dev/null | grep -qF "$demo/agent"; then
        kill "$agent"
    fi
    # Without these, no machine can have been started.
    if command -v nix-store >/dev/null && command -v systemd-nspawn >/dev/null; then
        fleet down --all
    fi
    [ ! -d "$state/nix-ops-fleet" ] || rmdir --ignore-fail-on-non-empty "$state/nix-ops-fleet"
    [ ! -d /nix/var/nix/gcroots/auto ] || find /nix/var/nix/gcroots/auto -lname "$demo/*" -delete
    rm -rf "$demo"
}

if [ "${1-}" = clean ]; then
    remove_all
    cat <<END
The demo's machine, home, network and files are gone. What stays, if the demo has brought it, and what removes it:
  $cache/nix-ops-fleet, where machines start from   tests/fleet/fleet purge
  what was built                                    nix-collect-garbage
  the group nixbld and its users                    for n in \$(seq 10); do userdel nixbld\$n; done; groupdel nixbld
  the lines of nix.ops.install                      an editor, in /etc/nix/nix.conf
  packages of Debian                                apt-get remove; /var/log/apt/history.log names them
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
            '' | *[!A-Za-z0-9_./=:,@+-]*) printf " '%s'" "$word" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
    printf '\033[0m\n'
    # What it prints is checked later.
    mkfifo "$demo/output"
    tee -a "$demo/log" <"$demo/output" &
    code=0
    "$@" >"$demo/output" 2>&1 || code=$?
    wait "$!"
    rm "$demo/output"
    return "$code"
}
die() {
    echo "The demo went wrong: $1" >&2
    exit 1
}
# The last recap has to say this of the machine.
expect() {
    grep 'target  *: ok=' "$demo/log" | tail -n 1 | grep -q "$1 .*unreachable=0 .*failed=0" ||
        die "the recap should say $1."
}
# The last list has to have so many machines.
expect_listed() {
    grep '| target | A first network |' "$demo/log" | tail -n 1 | grep -q "|  *$1 |[^|]*|\$" ||
        die "the list should say $1."
}
# The last table of machines has to say this of the machine.
expect_info() {
    grep '^.*| target | ' "$demo/log" | tail -n 1 | grep -q "| *$1 *|" ||
        die "the information should say $1."
}
main_pids() {
    ssh -F "$ssh_config" target systemctl show --property=MainPID --value greeter clock | xargs
}

remove_all
mkdir -p "$demo/me"
cd "$demo"

say "What the demo needs of this computer"
cat <<'END'
It downloads packages of Debian where they are missing, ansible-core from PyPI (10 MB), and once a small Debian to
start the machine from (100 MB). Nix and ssh come later, as a user installs them. Nothing else is fetched.
END
"$checkout/tests/tools/packages.sh" <<'LIST'
ip iproute2
mkfs.ext4 e2fsprogs
mmdebstrap mmdebstrap
systemd-nspawn systemd-container
unshare util-linux
/etc/ssl/certs/ca-certificates.crt ca-certificates
/usr/share/keyrings/debian-archive-keyring.gpg debian-archive-keyring
- python3-venv
- busybox-static
LIST

say "The demo's own home, so that it leaves yours alone. These are all variables that it sets"
cat >environment <<END
export HOME='$demo/me'
unset XDG_CACHE_HOME XDG_CONFIG_HOME XDG_STATE_HOME NIX_PATH ANSIBLE_CONFIG
# ssh looks for keys in the home that /etc/passwd names. An agent offers those of the demo.
export SSH_AUTH_SOCK='$demo/agent'
END
run cat environment
# shellcheck source=/dev/null
. ./environment

say "Before you start: Ansible and the collection"
run python3 -m venv ~/nix.ops
echo '. ~/nix.ops/bin/activate' >>environment
run . ~/nix.ops/bin/activate
run pip install --quiet --disable-pip-version-check ansible-core
cd "$checkout"
run ansible-galaxy collection install .
cd "$demo"

say "Before you start: Nix, ssh and nixpkgs. At home nixpkgs is a channel; here it is the miniature that the tests use"
run ansible-playbook nix.ops.install -e "install_nixpkgs=$checkout/tests/nixpkgs"

say "Before you start: an SSH key"
run mkdir -m 700 ~/.ssh
run ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519
ssh-agent -a "$demo/agent" >agent.sh
run ssh-add ~/.ssh/id_ed25519

cp "$checkout"/examples/*.nix "$checkout"/examples/*.yml .
create() {
    run ansible-playbook nix.ops.create -e deployment=target -e '{"networks": ["target.nix", "config.nix"]}'
}
if ! unshare --mount true 2>/dev/null; then
    say "Create a deployment of the two files"
    create
    say "The demo ends here: no machine can be started in this chroot, because its root is not a mount point"
    cat <<'END'
  See all of it:       mount --bind DIRECTORY DIRECTORY before chroot DIRECTORY, or use systemd-nspawn
  Remove it:           make demo-clean
END
    exit 0
fi

say "A NixOS machine somewhere in the world. Here it is a small one, started for the demo"
fleet --number "$number" up target
ssh_config=$(fleet ssh-config)
ssh -F "$ssh_config" target 'cat >>.ssh/authorized_keys' <~/.ssh/id_ed25519.pub
echo "root accepts your key there."

say "Where the machine is, and what it shall be"
run cat target.nix
run cat config.nix

say "Create a deployment of the two files"
create
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
  Remove it:           make demo-clean
END
