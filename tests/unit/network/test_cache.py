# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An answer is given again as long as nothing that Nix read has changed, and not a moment longer."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils import nix, process
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.network import bounded, checkouts, evaluation, evaluator
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluation import evaluate, instantiate, last_inputs
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Evaluation, Network, Remembered
from networks.support import NIX_PATH, write


class Runs:
    """Evaluates as new processes do, and counts how often Nix answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.count = 0

        def spy(argv: list[str], **more: Any) -> process.Completed:
            completed = process.run(argv, **more)
            # The bounds of an evaluation that was refused are widened for another one.
            self.count += completed.exit_code == 0 and argv[0] == "nix-instantiate"
            return completed

        monkeypatch.setattr(nix, "run", spy)

    def _new_process(self) -> None:
        self._monkeypatch.setattr(evaluation, "_answers", {})
        checkouts._seen.clear()

    def evaluate(self, *files: str, env: dict[str, str] | None = None, **more: Any) -> Evaluation:
        self._new_process()
        return evaluate(Network("example", "u", files, nix_path=NIX_PATH, **more), env=env or {})

    def evaluate_with(self, network: Network, remembered: dict[str, Remembered]) -> Evaluation:
        self._new_process()
        return evaluate(network, remembered=remembered)

    def in_the_same_process(self, *files: str) -> Evaluation:
        return evaluate(Network("example", "u", files, nix_path=NIX_PATH))


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    (tmp_path / ".cache").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NIX_PATH", raising=False)
    # The tests' files are older than their evaluation, if only by a moment.
    monkeypatch.setattr(bounded, "_TICK", 0)
    yield Runs(monkeypatch)


OWNER = "machine.deployment.owners = [ ({}) ];"


def owner_of(answer: Evaluation) -> str:
    return answer.definitions["machine"].owners[0]


def test_nothing_changed_asks_nix_once(tmp_path: Path, runs: Runs) -> None:
    files = write(tmp_path, n="{ " + OWNER.format('"a"') + " }")
    first = runs.evaluate(*files)
    second = runs.evaluate(*files)
    assert runs.count == 1
    assert (first.definitions, first.derivations) == (second.definitions, second.derivations)


@pytest.mark.parametrize("file", ["activation/boot_guard.sh", "activation/shared.sh", "machine/places.sh"])
def test_own_files_of_another_release_ask_nix_anew(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    for name in ("network", "activation", "machine"):
        shutil.copytree(Path(evaluator.NIX).parent / name, tmp_path / "own" / name)
    monkeypatch.setattr(evaluator, "NIX", str(tmp_path / "own" / "network"))
    files = write(tmp_path, n="{ machine = { }; }")
    first = runs.evaluate(*files)
    with (tmp_path / "own" / file).open("a") as script:
        script.write("true\n")
    second = runs.evaluate(*files)
    assert runs.count == 2
    assert second.derivations != first.derivations


@pytest.mark.parametrize(
    "reading",
    [
        "import ./read",
        "builtins.readFile ./read",
        "(builtins.readFile (./read))",
        "with builtins; readFile ./read",
        'builtins.readFile (./. + "/read")',
        'builtins.readFile (toString ./. + "/read")',
        'builtins.readFile "${toString ./.}/read"',
        'let name = "re" + "ad"; in builtins.readFile (./. + "/${name}")',
        "let read = builtins.readFile; in read ./read",
        "let inherit (builtins) readFile; in readFile ./read",
        'builtins.${"readFile"} ./read',
        "let b = builtins; in b.readFile ./read",
        'builtins.concatStringsSep "" (map builtins.readFile [ ./read ])',
        'builtins.hashFile "sha256" ./read',
        '"${./read}"',
        '"${builtins.path { path = ./read; name = "x"; }}"',
        "''${./read}''",
        "builtins.readFile <here/read>",
        'if builtins.pathExists ./read then builtins.readFile ./read else ""',
        'toString (builtins.length (builtins.split "b" (builtins.readFile ./read)))',
    ],
)
def test_changed_file_is_never_missed(tmp_path: Path, runs: Runs, reading: str) -> None:
    read = tmp_path / "read"
    text = "{ " + OWNER.format(reading) + " }"
    files = write(tmp_path, n=text)
    here = {"NIX_PATH": f"here={tmp_path}"}
    read.write_text('"a"', encoding="utf-8")
    before = owner_of(runs.evaluate(*files, env=here))
    read.write_text('"bb"', encoding="utf-8")
    assert owner_of(runs.evaluate(*files, env=here)) != before


def test_changed_directory_is_never_missed(tmp_path: Path, runs: Runs) -> None:
    directory = tmp_path / "dir"
    directory.mkdir()
    for reading in ("toString (builtins.attrNames (builtins.readDir ./dir))", '"${./dir}"'):
        files = write(tmp_path, n="{ " + OWNER.format(reading) + " }")
        before = owner_of(runs.evaluate(*files))
        (directory / f"{len(reading)}").write_text("x", encoding="utf-8")
        assert owner_of(runs.evaluate(*files)) != before


def test_file_that_appears_is_not_missed(tmp_path: Path, runs: Runs) -> None:
    files = write(tmp_path, n="{ " + OWNER.format('if builtins.pathExists ./late then "late" else "early"') + " }")
    assert owner_of(runs.evaluate(*files)) == "early"
    (tmp_path / "late").touch()
    assert owner_of(runs.evaluate(*files)) == "late"


def test_changed_variable_is_not_missed(tmp_path: Path, runs: Runs) -> None:
    files = write(tmp_path, n="{ " + OWNER.format('builtins.getEnv "WHO"') + " }")
    assert [owner_of(runs.evaluate(*files, env={"WHO": who})) for who in ("a", "a", "b")] == ["a", "a", "b"]
    assert runs.count == 2


def test_time_is_not_remembered(tmp_path: Path, runs: Runs) -> None:
    files = write(tmp_path, n="{ " + OWNER.format("toString builtins.currentTime") + " }")
    runs.evaluate(*files)
    runs.evaluate(*files)
    assert runs.count == 2


def test_other_question_is_asked_anew(tmp_path: Path, runs: Runs) -> None:
    files = write(tmp_path, n='{ who ? "x" }: { ' + OWNER.format("who") + " }")
    assert owner_of(runs.evaluate(*files, arguments={"who": "a"})) == "a"
    assert owner_of(runs.evaluate(*files, arguments={"who": "b"})) == "b"
    runs.evaluate(*files, arguments={"who": "a"}, options={"max-call-depth": "9999"})
    assert runs.count == 3


def test_changed_nixpkgs_is_not_missed(tmp_path: Path, runs: Runs) -> None:
    checkout = tmp_path / "nixpkgs"
    for made in ("nixos/lib", "lib"):
        (checkout / made).mkdir(parents=True)
    (checkout / "lib/default.nix").write_text(f"import {NIX_PATH[0].removeprefix('nixpkgs=')}/lib", encoding="utf-8")
    (checkout / "default.nix").write_text(f"import {NIX_PATH[0].removeprefix('nixpkgs=')}", encoding="utf-8")
    (checkout / "version").write_text("a", encoding="utf-8")
    (checkout / "nixos/lib/eval-config.nix").write_text(
        "args: let made = import "
        + NIX_PATH[0].removeprefix("nixpkgs=")
        + "/nixos/lib/eval-config.nix args; in made // { config = made.config // { deployment = made.config.deployment"
        ' // { owners = [ (builtins.readFile (../../. + "/ver${"sion"}")) ]; }; }; }',
        encoding="utf-8",
    )
    (tmp_path / "project").mkdir()
    files = write(tmp_path / "project", n=f"{{ network.nixpkgs = {checkout}; machine = {{ }}; }}")
    assert owner_of(runs.evaluate(*files)) == "a"
    assert owner_of(runs.evaluate(*files)) == "a"
    assert runs.count == 1
    (checkout / "version").write_text("b", encoding="utf-8")
    assert owner_of(runs.evaluate(*files)) == "b"


def test_a_checkout_is_looked_through_by_the_names_of_last_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    checkout = tmp_path / "nixpkgs"
    (checkout / "below/empty").mkdir(parents=True)
    for name in ("a", "below/b"):
        (checkout / name).write_text("one", encoding="utf-8")
    real = str(checkout)
    listed: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))  # type: ignore[func-returns-value]

    def is_same(digest: str) -> bool:
        # As in a new process.
        checkouts._seen.clear()
        return checkouts.is_same(real, digest)

    def changes(change: Callable[[], object]) -> None:
        digest, changed = checkouts.look(real)
        listed.clear()
        assert is_same(digest)
        assert not listed
        # The clock of file systems ticks in steps.
        clock = tmp_path / "clock"
        clock.touch()
        while clock.stat().st_ctime <= changed:
            clock.touch()
        change()
        assert not is_same(digest)
        assert listed

    changes(lambda: (checkout / "below/b").write_text("two", encoding="utf-8"))
    changes((checkout / "below/empty/c").touch)
    # A name that has appeared since is known from then on.
    changes(lambda: (checkout / "below/empty/c").write_text("three", encoding="utf-8"))
    changes((checkout / "below/b").unlink)
    changes(lambda: (checkout / "a").chmod(0o600))
    changes(lambda: (checkout / "below/empty").rename(checkout / "below/other"))
    digest, _changed = checkouts.look(real)
    for kept in (tmp_path / "cache/nix.ops/listings").iterdir():
        kept.write_bytes(b"/nowhere\0")
    assert is_same(digest)


def test_derivation_that_is_gone_is_made_again(tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    files = write(tmp_path, n="{ " + OWNER.format('"a"') + " }")
    gone = runs.evaluate(*files).derivations["machine"].drv_path
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: str(path) != gone and exists(path))
    runs.evaluate(*files)
    assert runs.count == 2


def test_edit_within_a_run_is_seen(tmp_path: Path, runs: Runs) -> None:
    files = write(tmp_path, n="{ " + OWNER.format('"a"') + " }")
    runs.evaluate(*files)
    runs.in_the_same_process(*files)
    assert runs.count == 1
    write(tmp_path, n="{ " + OWNER.format('"b"') + " }")
    assert owner_of(runs.in_the_same_process(*files)) == "b"


def test_file_newer_than_the_evaluation_is_not_trusted(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "_TICK", 3600)
    files = write(tmp_path, n="{ " + OWNER.format('"a"') + " }")
    runs.evaluate(*files)
    runs.evaluate(*files)
    assert runs.count == 2


def test_broken_memory_is_no_answer(tmp_path: Path, runs: Runs) -> None:
    files = write(tmp_path, n="{ " + OWNER.format('"a"') + " }")
    runs.evaluate(*files)
    for kept in (tmp_path / ".cache").rglob("*"):
        if kept.is_file():
            kept.write_text("{", encoding="utf-8")
    assert owner_of(runs.evaluate(*files)) == "a"


def test_place_that_can_not_be_written_to_is_no_error(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    files = write(tmp_path, n="{ " + OWNER.format('"a"') + " }")
    assert owner_of(runs.evaluate(*files)) == "a"


KEY = "ssh-ed25519 " + "A" * 68 + " nix.ops key of machine in example"
INPUTS = {"machine": Remembered("22.11", KEY), "other": Remembered("23.05")}


def network(*files: str) -> Network:
    return Network("example", "u", files, nix_path=NIX_PATH)


def kept_inputs(cache: Path) -> list[Path]:
    return list((cache / "nix.ops" / "inputs").glob("*"))


def test_inputs_of_the_last_derivations_are_the_guess_at_the_next(tmp_path: Path, runs: Runs) -> None:
    files = write(tmp_path, n="{ machine = { }; other = { }; }")
    example = network(*files)
    assert last_inputs(example) is None
    wanted = instantiate(example, ["machine", "other"], remembered=INPUTS)
    assert last_inputs(example) == INPUTS
    assert runs.count == 1
    # As the next process does: the inventory guesses, and the build finds the answer.
    runs.evaluate_with(example, last_inputs(example) or {})
    assert runs.count == 2
    assert instantiate(example, ["machine", "other"], remembered=INPUTS) == wanted
    assert runs.count == 2
    # A wrong guess is none of the answer's business.
    renewed = Remembered("22.11", KEY.replace("A", "B"))
    newer = instantiate(example, ["machine"], remembered={"machine": renewed})
    assert runs.count == 3
    assert newer["machine"] != wanted["machine"]
    # Those of a machine that was not asked for stay.
    assert last_inputs(example) == {"machine": renewed, "other": INPUTS["other"]}
    instantiate(example, ["machine"])
    assert last_inputs(example) == {"other": INPUTS["other"]}


def test_inputs_are_kept_for_each_network_and_readable_by_the_user_alone(tmp_path: Path, runs: Runs) -> None:
    files = write(tmp_path, n="{ who }: { machine = { }; }")
    secret = Network("example", "u", tuple(files), arguments={"who": "hunter2"}, nix_path=NIX_PATH)
    instantiate(secret, ["machine"], remembered=INPUTS)
    (kept,) = kept_inputs(tmp_path / ".cache")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "hunter2" not in kept.read_text(encoding="utf-8")
    assert last_inputs(secret) == last_inputs(network(*files)) == INPUTS
    for other in (
        Network("other", "u", tuple(files)),
        Network("example", "v", tuple(files)),
        Network("example", "u", (*files, "/more.nix")),
        Network("example", "u", flake="/flake"),
    ):
        assert last_inputs(other) is None


def test_inputs_with_which_nothing_was_evaluated_are_no_guess(tmp_path: Path, runs: Runs) -> None:
    files = write(tmp_path, n='{ machine = throw "never"; }')
    with pytest.raises(OpsError, match="never"):
        instantiate(network(*files), ["machine"], remembered=INPUTS)
    assert last_inputs(network(*files)) is None


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        "[]",
        "7",
        "\x00",
        '{"machine": 7}',
        '{"machine": {"stateVersion": 22, "sshPublicKey": ["a"]}}',
        '{"machine": {"stateVersion": "new", "sshPublicKey": "a\\nb"}}',
        json.dumps({"machine": {"sshPublicKey": KEY + "\n"}}),
        '{"machine": {"other": "22.11"}}',
    ],
)
def test_garbage_is_no_guess(tmp_path: Path, runs: Runs, garbage: str) -> None:
    files = write(tmp_path, n="{ machine = { }; other = { }; }")
    instantiate(network(*files), ["machine"], remembered=INPUTS)
    (kept,) = kept_inputs(tmp_path / ".cache")
    kept.write_text(garbage, encoding="utf-8")
    assert not last_inputs(network(*files))
    instantiate(network(*files), ["machine"], remembered=INPUTS)
    assert last_inputs(network(*files)) == INPUTS


def test_what_the_network_says_itself_wins_over_what_is_remembered(tmp_path: Path, runs: Runs) -> None:
    files = write(
        tmp_path,
        n="""{
          defaults = { config, ... }: {
            deployment.owners = [ config.system.stateVersion ] ++ config.users.users.root.openssh.authorizedKeys.keys;
          };
          machine = { };
          plain = { system.stateVersion = "23.11"; users.users.root.openssh.authorizedKeys.keys = [ "own" ]; };
          perhaps = { lib, ... }: { system.stateVersion = lib.mkDefault "23.11"; };
          alone = { lib, ... }: { users.users.root.openssh.authorizedKeys.keys = lib.mkForce [ "own" ]; };
        }""",
    )
    inputs = Remembered("22.11", "of the deployment")
    names = ("machine", "plain", "perhaps", "alone")
    answer = evaluate(network(*files), remembered=dict.fromkeys(names, inputs))
    owners = {name: (one.owners[0], set(one.owners[1:])) for name, one in answer.definitions.items()}
    assert owners == {
        "machine": ("22.11", {"of the deployment"}),
        "plain": ("23.11", {"own", "of the deployment"}),
        "perhaps": ("23.11", {"of the deployment"}),
        "alone": ("22.11", {"own"}),
    }
    assert set(answer.derivations) == set(names)
