#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ansible-test sanity with this Debian's pair.
set -eu
. "$(dirname -- "$0")/common.sh"

"$tools/venv.sh"
# ansible-test wants a directory of this name that no Git checkout has around it.
tree=$cache/sanity-$release/ansible_collections/nix/ops
rm -rf "$tree"
mkdir -p "$tree"
cd "$checkout"
git -c safe.directory="$checkout" ls-files --cached --others --exclude-standard -z >"$cache/sanity-$release/files"
tar --create --null --ignore-failed-read --files-from="$cache/sanity-$release/files" 2>/dev/null |
    tar --extract --directory="$tree"

# It keeps its venvs and a pip bootstrap, which it would fetch from a server of its own, in the home directory.
home=$cache/sanity-$release/home
mkdir -p "$home/.config" "$home/.ansible/test/cache"
ln -sfn "$HOME/.config/pip" "$home/.config/pip"
ln -sfn "$HOME/.pip" "$home/.pip"
pip=$(sed -n "s/^ *pip='\([0-9.]*\)',.*/\1/p" "$venv"/lib/python3*/site-packages/ansible_test/_internal/python_requirements.py | tr . _)
cp "$tools/get_pip.py" "$home/.ansible/test/cache/get_pip_$pip.py"

cd "$tree"
export HOME="$home" PATH="$venv/bin:$PATH"
python=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
set -- --local --python "$python" --color no "$@"
quietly ansible-test sanity --prime-venvs "$@"
quietly ansible-test sanity "$@"
