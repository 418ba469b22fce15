#!/bin/sh
# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Every check of the text that needs no run of it, ansible-test's aside (sanity.sh).
set -u
. "$(dirname -- "$0")/common.sh"

PATH=$venv/bin:$PATH
collections=$checkout/.cache/typing
mkdir -p "$collections/ansible_collections/nix"
ln -sfn "$checkout" "$collections/ansible_collections/nix/ops"
export ANSIBLE_COLLECTIONS_PATH="$collections:$venv/collections"
cd "$checkout" || exit 1

failed=
check() {
    "$@" || failed="$failed
    $*"
}

check ruff check --quiet .
check ruff format --check --quiet .
check mypy --no-error-summary "$collections/ansible_collections/nix/ops/plugins" tests extensions
find .ci meta plugins roles tests examples -name '*.sh' -o -path .ci/run >"$collections/scripts"
check xargs shellcheck <"$collections/scripts"
check yamllint --strict .
check ansible-lint --offline --profile production -q --nocolor
check antsibull-changelog lint
check antsibull-docs lint-collection-docs --plugin-docs .

[ -z "$failed" ] || die "Failed:$failed"
