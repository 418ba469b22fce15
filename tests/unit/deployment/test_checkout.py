# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Git revisions of a network: what is checked out, and whether a machine was deployed from a later one."""

from __future__ import annotations

import os
import subprocess

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import checkout
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.checkout import Relation
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.state import Activated
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

TOPLEVEL = "/nix/store/" + "a" * 32 + "-nixos-system-target"


def git(directory, *words):
    """Run Git as a person would."""
    person = ("-c", "user.name=Alice", "-c", "user.email=alice@example.org")
    argv = ["git", *person, "-C", str(directory), *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def commit(directory, text):
    """Commit a change of the network, and return the commit."""
    (directory / "net").mkdir(exist_ok=True)
    (directory / "net/config.nix").write_text(text)
    git(directory, "add", "--all")
    git(directory, "commit", "--quiet", f"--message={text}")
    return git(directory, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init", "--quiet", "--initial-branch=main", "work")
    return tmp_path / "work"


def found_in(directory):
    """The work tree around a directory that has one."""
    found = checkout.find(str(directory))
    assert found is not None
    return found


def deployed(revision, **other):
    """An activation of a system of this commit."""
    return Activated(TOPLEVEL, "switch", 2, 0, 50, revision=revision, **other)


def test_what_is_checked_out(repository, tmp_path, monkeypatch):
    assert checkout.find(str(repository)) is None
    assert checkout.find(str(tmp_path)) is None
    first = commit(repository, "one")
    (repository / "notes").write_text("not tracked")
    # As in a hook of another repository.
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    found = found_in(repository / "net")
    assert (found.revision, found.modified) == (first, False)
    (repository / "net/config.nix").write_text("two")
    assert found_in(repository / "net").modified


def test_the_configuration_of_a_repository_runs_no_program(repository):
    commit(repository, "one")
    program = repository / "program"
    program.write_text(f"#!/bin/sh\ntouch {repository}/ran\n")
    program.chmod(0o755)
    git(repository, "config", "core.fsmonitor", str(program))
    assert checkout.find(str(repository)) is not None
    assert not (repository / "ran").exists()


def test_a_later_revision_is_told_from_others(repository):
    first = commit(repository, "one")
    second = commit(repository, "two")
    git(repository, "switch", "--quiet", "--create", "side", first)
    aside = commit(repository, "three")
    git(repository, "switch", "--quiet", "--detach", first)
    found = found_in(repository)
    relations = {one: checkout.relation(found, one) for one in (first, second, aside, "0" * 40)}
    assert list(relations.values()) == [Relation.NOT_LATER, Relation.LATER, Relation.LATER, Relation.UNKNOWN]
    git(repository, "switch", "--quiet", "main")
    found = found_in(repository)
    assert {checkout.relation(found, one) for one in (first, second, aside)} == {Relation.NOT_LATER}


def test_a_shallow_clone_knows_no_earlier_commits(repository, tmp_path):
    first = commit(repository, "one")
    commit(repository, "two")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{repository}", "shallow")
    assert checkout.relation(found_in(tmp_path / "shallow"), first) is Relation.NOT_LATER


def test_an_older_revision_is_refused(repository):
    first = commit(repository, "one")
    second = commit(repository, "two")
    git(repository, "switch", "--quiet", "--detach", first)
    found = found_in(repository)
    for known in (None, deployed(None), deployed(first)):
        checkout.check(found, known, "target")
    checkout.check(None, deployed(second), "target")
    later = f"a later revision, {second[:8]} with changes by bob@desk; {first[:8]} is checked out here"
    with pytest.raises(OpsError, match=later):
        checkout.check(found, deployed(second, modified=True, origin="bob@desk"), "target")
    with pytest.raises(OpsError, match=f"a revision that is not in this repository, {'0' * 8}; {first[:8]} is"):
        checkout.check(found, deployed("0" * 40), "target")


def test_who_deploys(monkeypatch):
    assert checkout.origin({"awx_job_id": 12, "awx_user_name": "al\x1bice"}) == "al?ice in job 12"
    assert checkout.origin({"tower_job_id": 12}) == "a schedule in job 12"
    monkeypatch.setenv("LOGNAME", "alice")
    assert checkout.origin({}) == f"alice@{os.uname().nodename}"
    assert len(checkout.origin({"awx_job_id": 1, "awx_user_name": "x" * 300})) == 100


def test_a_revision_that_a_machine_names_is_not_fetched(repository, tmp_path):
    commit(repository, "one")
    git(repository, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "--quiet", "--filter=blob:none", f"file://{repository}", "partial")
    script = tmp_path / "upload-pack"
    script.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexit 1\n")
    script.chmod(0o755)
    git(tmp_path / "partial", "config", "remote.origin.uploadpack", str(script))
    assert checkout.relation(found_in(tmp_path / "partial"), "1" * 40) is Relation.UNKNOWN
    assert not (tmp_path / "asked").exists()
