#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# pytest.sh PATH…: tests the collection as a user gets it, built and installed, with this Debian's pair.
set -eu
. "$(dirname -- "$0")/common.sh"

"$tools/venv.sh"
PATH=$venv/bin:$PATH
work=$checkout/.cache/$release
collections=$work/collections
rm -rf "$work"
mkdir -p "$collections"
cd "$checkout"
quietly ansible-galaxy collection build --output-path "$work"
quietly ansible-galaxy collection install --offline --no-deps -p "$collections" "$work"/nix-ops-*.tar.gz

export ANSIBLE_COLLECTIONS_PATH="$collections" PYTHONPATH="$collections:$tools/startup" PYTHONDONTWRITEBYTECODE=1
# No cache of the world's is asked, and the group of build users is not needed by root alone.
export NIX_CONFIG='substituters =
build-users-group =
sandbox = false'
# A socket's path has little room, and each worker's directories are deeper than those of a run without.
temporary=$(mktemp --directory)
code=0
# While one test waits for a machine another goes on, with a fleet of its own; the tests of a file share machines.
python -m pytest --numprocesses=3 --dist=loadfile --durations=20 --basetemp="$temporary" --junitxml="$work/junit.xml" "$@" || code=$?
# What is there of a failure says more of it.
[ "$code" != 0 ] || rm -rf "$temporary"

core=$(ansible --version | sed -n '1s/.*core \(.*\)\].*/\1/p')
python=$(python -c 'import platform; print(platform.python_version())')
nix=$(nix-store --version | sed 's/.* //')
if [ "$code" = 0 ]; then outcome=passed; else outcome=failed; fi
printf 'pair: ansible-core %s, Python %s, Nix %s, on Debian %s: %s\n' \
    "$core" "$python" "$nix" "$(os_release VERSION_ID)" "$outcome" | tee "$work/pair"
exit "$code"
