# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever an evaluation depends on: if it changes, the next answer is that of an empty cache.

Each way to depend on something is a network whose answer is a text, and a change that alters the text. With
NIX_OPS_REAL_NIXPKGS, the networks are evaluated with that nixpkgs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.nix.ops.plugins.plugin_utils import nix, process
from ansible_collections.nix.ops.plugins.plugin_utils.network import (
    bounded,
    checkouts,
    evaluation,
    settings,
)
from ansible_collections.nix.ops.plugins.plugin_utils.network.evaluation import definitions, evaluate
from ansible_collections.nix.ops.plugins.plugin_utils.network.model import Network
from networks.support import NIXPKGS

REAL = os.environ.get("NIX_OPS_REAL_NIXPKGS")

BOOTABLE = """{ defaults = {
  fileSystems."/".device = "/dev/sda1";
  boot.loader.grub.device = "/dev/sda";
  services.openssh.enable = true;
}; }"""


@dataclass(frozen=True)
class Place:
    """Where a network stands: its project, a directory elsewhere, and the home of the user."""

    project: Path
    elsewhere: Path
    home: Path

    def write(self, files: Mapping[str, str | None]) -> None:
        """Write files, make links (`-> TARGET`), and remove what is None. `out/` is elsewhere, `~/` is home."""
        for name, content in files.items():
            path = self.path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_symlink() or path.is_file():
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
            if content is not None and content.startswith("-> "):
                path.symlink_to(self.text(content.removeprefix("-> ")))
            elif content is not None:
                path.write_text(self.text(content), encoding="utf-8")

    def path(self, name: str) -> Path:
        for prefix, directory in (("out/", self.elsewhere), ("~/", self.home)):
            if name.startswith(prefix):
                return directory / name.removeprefix(prefix)
        return self.project / name

    def text(self, text: str) -> str:
        return text.replace("@out@", str(self.elsewhere)).replace("@here@", str(self.project))

    def git(self, name: str, *arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "protocol.file.allow=always"]
        subprocess.run(["git", *who, *arguments], cwd=self.path(name), check=True, capture_output=True)


Change = Mapping[str, str | None] | Callable[[Place], None]


@dataclass(frozen=True)
class Way:
    """A way to depend on something.

    :param text: an expression of the answer, with `lib` and `pkgs` in scope.
    :param before: files of the first evaluation.
    :param after: files of the next one, or a function that changes something.
    :param env: variables of the first evaluation, and of the next.
    :param network: the whole network, if the expression is not enough.
    :param repository: the directory to make a Git repository of.
    """

    text: str
    before: Mapping[str, str] = field(default_factory=dict)
    after: Change = field(default_factory=dict)
    env: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})
    network: str = "{ machine = { lib, pkgs, config, ... }: { deployment.owners = [ (@text@) ]; }; }"
    arguments: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    repository: str = ""


def reads(text: str) -> Way:
    """Return a way that reads the file `a` elsewhere."""
    return Way(text, {"out/a": '"one"'}, {"out/a": '"two"'})


def sees(text: str, name: str = "out/new", **more: Any) -> Way:
    """Return a way that sees a path appear."""
    return Way(text, {"out/old": ""}, {name: "new"}, **more)


def knows(text: str, **more: Any) -> Way:
    """Return a way that knows the variable WHO."""
    return Way(text, env=({"WHO": "one"}, {"WHO": "two"}), **more)


def _rewritten(place: Place) -> None:
    """Change a file, but neither its size nor its time stamp."""
    path = place.path("read")
    was = path.stat()
    path.write_text('"two"', encoding="utf-8")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def _replaced(place: Place) -> None:
    """Put another file in the place of a file, of the same size and time stamp."""
    path, other = place.path("read"), place.path("out/other")
    other.write_text('"two"', encoding="utf-8")
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)


def _committed(place: Place) -> None:
    place.write({"out/repository/a": '"two"'})
    place.git("out/repository", "commit", "-qam", "two")


def _executable(place: Place) -> None:
    place.path("read").chmod(0o755)


ONLY = '{ machine.deployment.owners = [ "@name@" ]; }'
REPOSITORY = {"out/repository/a": '"one"'}

WAYS: dict[str, Way] = {
    # Every reader, under every name.
    "import": reads("import @out@/a"),
    "import, of a string": reads('import "@out@/a"'),
    "import, of a directory": Way("import @out@", {"out/default.nix": '"one"'}, {"out/default.nix": '"two"'}),
    "import, of a file that reads": Way(
        "import ./reader.nix", {"reader.nix": "import @out@/a", "out/a": '"one"'}, {"out/a": '"two"'}
    ),
    "import, as a value": reads("builtins.head (map import [ @out@/a ])"),
    "builtins.import": reads("builtins.import @out@/a"),
    "builtins.readFile": reads("builtins.readFile @out@/a"),
    "builtins.readFile, of a string": reads('builtins.readFile "@out@/a"'),
    "builtins.readFile, of joined paths": reads('builtins.readFile (@out@ + "/a")'),
    "builtins.readFile, above": reads('builtins.readFile (./. + "/../elsewhere/a")'),
    "__readFile": reads("__readFile @out@/a"),
    "__readFile, as a value": reads("let read = __readFile; in read @out@/a"),
    "__readFile, with": reads("with { inherit __readFile; }; __readFile @out@/a"),
    "__readFile, of a computed path": reads('__readFile (builtins.concatStringsSep "/" [ "@out@" "a" ])'),
    "__readDir, of a computed path": sees(
        'toString (builtins.attrNames (__readDir (builtins.substring 0 (-1) "@out@")))'
    ),
    "lib.fileContents, of a computed path": reads('lib.fileContents (builtins.concatStringsSep "/" [ "@out@" "a" ])'),
    "with builtins": reads("with builtins; readFile @out@/a"),
    "with builtins, twice": reads("with builtins; with builtins; readFile @out@/a"),
    "inherit (builtins)": reads("let inherit (builtins) readFile; in readFile @out@/a"),
    "builtins, renamed": reads("let b = builtins; in b.readFile @out@/a"),
    "builtins, of builtins": reads("builtins.builtins.readFile @out@/a"),
    "builtins, by a computed name": reads('builtins."read${"File"}" @out@/a'),
    "builtins, by getAttr": reads('builtins.getAttr "readFile" builtins @out@/a'),
    "builtins, by a function": reads('let f = set: set.${"readFile"}; in f builtins @out@/a'),
    "builtins, by mapAttrs": reads("(builtins.mapAttrs (_: value: value) builtins).readFile @out@/a"),
    "a wrapper elsewhere": Way(
        "(import @out@/lib.nix).get ./read",
        {"out/lib.nix": "{ get = file: builtins.readFile file; }", "read": "one"},
        {"read": "two"},
    ),
    "scopedImport": reads("builtins.scopedImport { } @out@/a"),
    "scopedImport, with builtins of its own": Way(
        "builtins.scopedImport { builtins = { }; } ./scoped.nix",
        {"scoped.nix": "__readFile @out@/a", "out/a": "one"},
        {"out/a": "two"},
    ),
    "readDir": sees('builtins.concatStringsSep " " (builtins.attrNames (builtins.readDir @out@))'),
    "readDir, of what is above": sees(
        'builtins.concatStringsSep " " (builtins.attrNames (builtins.readDir ../.))', "../beside"
    ),
    "readDir, here": sees('builtins.concatStringsSep " " (builtins.attrNames (builtins.readDir ./.))', "new.nix"),
    "hashFile": reads('builtins.hashFile "sha256" @out@/a'),
    "path": reads('"${builtins.path { path = @out@/a; name = "x"; }}"'),
    "path, with a filter": sees('"${builtins.path { path = @out@; name = "x"; filter = _: _: true; }}"'),
    "filterSource": sees('"${builtins.filterSource (_: _: true) @out@}"'),
    "a path in a text": reads('"${@out@/a}"'),
    "a directory in a text": sees('"${@out@}"'),
    "the project in a text": sees('"${./.}"', "new"),
    "a hidden file in the project's copy": Way('"${./.}"', {".hidden": "one"}, {".hidden": "two"}),
    "a file's mode": Way('"${./read}"', {"read": "one"}, _executable),
    "fromTOML": Way(
        "(builtins.fromTOML (builtins.readFile @out@/a)).a", {"out/a": 'a = "one"'}, {"out/a": 'a = "two"'}
    ),
    "lib.fileContents": reads("lib.fileContents @out@/a"),
    "lib.importJSON": reads("lib.importJSON @out@/a"),
    "keyFiles": Way(
        "builtins.toJSON config.users.users.root.openssh.authorizedKeys",
        {"out/admin.pub": "ssh-ed25519 one"},
        {"out/admin.pub": "ssh-ed25519 two"},
        network="{ machine = { users.users.root.openssh.authorizedKeys.keyFiles = [ @out@/admin.pub ]; }; }",
    ),
    "keyFiles, by an argument": Way(
        "",
        {"out/admin.pub": "ssh-ed25519 one"},
        {"out/admin.pub": "ssh-ed25519 two"},
        network='{ dir }: { machine.users.users.root.openssh.authorizedKeys.keyFiles = [ "${dir}/admin.pub" ]; }',
        arguments={"dir": "@out@"},
    ),
    "a module elsewhere": Way(
        "",
        {"out/module.nix": '{ deployment.owners = [ "one" ]; }'},
        {"out/module.nix": '{ deployment.owners = [ "two" ]; }'},
        network="{ machine.imports = [ @out@/module.nix ]; }",
    ),
    "require": Way(
        "",
        {"out/more.nix": '{ machine.deployment.owners = [ "one" ]; }'},
        {"out/more.nix": '{ machine.deployment.owners = [ "two" ]; }'},
        network="{ require = [ @out@/more.nix ]; }",
    ),
    "import from derivation": Way(
        'import (derivation { name = "x"; system = builtins.currentSystem; builder = "/bin/sh";'
        ' args = [ "-c" "echo $text > $out" ]; text = builtins.toJSON (builtins.readFile @out@/a); })',
        {"out/a": "one"},
        {"out/a": "two"},
    ),
    # What is not there.
    "pathExists": sees("toString (builtins.pathExists @out@/new)"),
    "pathExists, here": sees("toString (builtins.pathExists ./new)", "new"),
    "pathExists, of a string": sees('toString (builtins.pathExists "@out@/new")'),
    "pathExists, deep": sees("toString (builtins.pathExists @out@/new/deep)", "out/new/deep"),
    "pathExists, gone": Way("toString (builtins.pathExists @out@/old)", {"out/old": ""}, {"out/old": None}),
    "pathExists, behind a link": Way(
        "toString (builtins.pathExists @out@/link/new)",
        {"out/link": "-> @out@/one", "out/one/a": ""},
        {"out/one/new": ""},
    ),
    "__pathExists, of a computed path": sees(
        'toString (__pathExists (builtins.concatStringsSep "/" [ "@out@" "new" ]))'
    ),
    "__pathExists": sees("toString (__pathExists @out@/new)"),
    "pathExists, by a computed name": sees('toString (builtins.${"path" + "Exists"} @out@/new)'),
    "pathExists, of a wrapper": Way(
        "toString (import @out@/lib.nix @out@/new)",
        {"out/lib.nix": "builtins.pathExists"},
        {"out/new": ""},
    ),
    "pathExists, of a dangling link": Way(
        "toString (builtins.pathExists @out@/link)", {"out/link": "-> @out@/nothing"}, {"out/link": None}
    ),
    # Symbolic links.
    "a link to a file": Way("builtins.readFile ./link", {"link": "-> @out@/a", "out/a": "one"}, {"out/a": "two"}),
    "a link to another file": Way(
        "builtins.readFile ./link", {"link": "-> @out@/a", "out/a": "one", "out/b": "two"}, {"link": "-> @out@/b"}
    ),
    "a link to another directory": Way(
        "builtins.readFile ./link/a",
        {"link": "-> @out@/one", "out/one/a": "one", "out/two/a": "two"},
        {"link": "-> @out@/two"},
    ),
    "a network file that is a link": Way(
        "",
        {
            "network.nix": "-> @out@/one.nix",
            **{f"out/{name}.nix": ONLY.replace("@name@", name) for name in ("one", "two")},
        },
        {"network.nix": "-> @out@/two.nix"},
    ),
    "a link to a link": Way(
        "builtins.readFile ./link/a",
        {"link": "-> @out@/link", "out/link": "-> @out@/one", "out/one/a": "one", "out/two/a": "two"},
        {"out/link": "-> @out@/two"},
    ),
    "a link whose target imports what is beside it": Way(
        "import ./link",
        {
            "link": "-> @out@/one/a.nix",
            **{f"out/{name}/a.nix": "import ./b.nix" for name in ("one", "two")},
            "out/one/b.nix": '"one"',
            "out/two/b.nix": '"two"',
        },
        {"link": "-> @out@/two/a.nix"},
    ),
    # The environment.
    "getEnv": knows('builtins.getEnv "WHO"'),
    "__getEnv": knows('__getEnv "WHO"'),
    "getEnv, of a computed name": knows('builtins.getEnv ("W" + "HO")'),
    "getEnv, elsewhere": knows("import @out@/env.nix", before={"out/env.nix": 'builtins.getEnv "WHO"'}),
    "getEnv, of the unset": Way('builtins.getEnv "WHO"', env=({}, {"WHO": "two"})),
    "getEnv, of a path": Way(
        'toString (builtins.pathExists (builtins.getEnv "WHERE" + "/old"))',
        {"out/old": ""},
        env=({"WHERE": "@out@"}, {"WHERE": "/nonexistent"}),
    ),
    "getEnv, of several lines": Way(
        'builtins.getEnv "WHO"', env=({"WHO": "a\none\t\u00e4"}, {"WHO": "a\ntwo\t\u00e4"})
    ),
    # The search path.
    "<here>": Way("builtins.readFile <here/a>", {"out/a": "one"}, {"out/a": "two"}, ({"NIX_PATH": "here=@out@"},) * 2),
    "<here>, earlier": Way(
        "builtins.readFile <a>",
        {"out/one/b": "", "out/two/a": "one"},
        {"out/one/a": "two"},
        ({"NIX_PATH": "@out@/one:@out@/two"},) * 2,
    ),
    "__findFile": Way(
        'builtins.readFile (__findFile __nixPath "a")',
        {"out/one/b": "", "out/two/a": "one"},
        {"out/one/a": "two"},
        ({"NIX_PATH": "@out@/one:@out@/two"},) * 2,
    ),
    "findFile, with a path of its own": Way(
        'builtins.readFile (builtins.findFile [ { prefix = "x"; path = "@out@"; } ] "x/a")',
        {"out/a": "one"},
        {"out/a": "two"},
    ),
    "nixPath": Way("builtins.toJSON builtins.nixPath", env=({"NIX_PATH": "a=/one"}, {"NIX_PATH": "a=/two"})),
    "a channel": Way(
        "builtins.readFile <mine/a>",
        {"~/.nix-defexpr/channels/mine": "-> @out@/one", "out/one/a": "one", "out/two/a": "two"},
        {"~/.nix-defexpr/channels/mine": "-> @out@/two"},
    ),
    # nixpkgs.
    "nixpkgs, behind a link": Way(
        "builtins.readFile @out@/link/mark",
        {"out/one/mark": "one", "out/two/mark": "two", "out/link": "-> @out@/one"},
        {"out/link": "-> @out@/two"},
    ),
    # Fetches.
    "fetchGit": Way(
        'builtins.readFile "${builtins.fetchGit @out@/repository}/a"',
        REPOSITORY,
        _committed,
        repository="out/repository",
    ),
    "fetchGit, of a changed tree": Way(
        'builtins.readFile "${builtins.fetchGit @out@/repository}/a"',
        REPOSITORY,
        {"out/repository/a": "two"},
        repository="out/repository",
    ),
    "fetchGit, by a URL": Way(
        'builtins.readFile "${builtins.fetchGit { url = "file://@out@/repository"; ref = "master"; }}/a"',
        REPOSITORY,
        _committed,
        repository="out/repository",
    ),
    "a repository's own files": Way(
        "builtins.readFile @out@/repository/.git/HEAD",
        REPOSITORY,
        lambda place: place.git("out/repository", "checkout", "-qb", "other"),
        repository="out/repository",
    ),
    # Time.
    "a file of the same size and time stamp": Way("builtins.readFile ./read", {"read": '"one"'}, _rewritten),
    "another file of the same size and time stamp": Way("builtins.readFile ./read", {"read": '"one"'}, _replaced),
    # Settings.
    "currentSystem": Way(
        "builtins.currentSystem",
        env=({"NIX_CONFIG": "system = x86_64-linux"}, {"NIX_CONFIG": "system = i686-linux"}),
    ),
    "a file of settings": Way(
        "builtins.currentSystem",
        {"out/nix.conf": "system = x86_64-linux\n"},
        {"out/nix.conf": "system = i686-linux\n"},
        ({"NIX_USER_CONF_FILES": "@out@/nix.conf"},) * 2,
    ),
    "an included file of settings": Way(
        "builtins.currentSystem",
        {"out/nix.conf": "!include more.conf\n", "out/more.conf": "system = x86_64-linux\n"},
        {"out/more.conf": "system = i686-linux\n"},
        ({"NIX_USER_CONF_FILES": "@out@/nix.conf"},) * 2,
    ),
    "exec": Way(
        'builtins.exec [ "cat" "@out@/a" ]',
        {"out/a": '"one"'},
        {"out/a": '"two"'},
        options={"allow-unsafe-native-code-during-evaluation": "true"},
    ),
}


FLAKE = f"""{{
  inputs.nixpkgs.url = "path:{NIXPKGS}";
  inputs.input = {{ url = "path:@out@/input"; flake = false; }};
  outputs = {{ self, nixpkgs, input }}: {{
    nixosConfigurations.machine = nixpkgs.lib.nixosSystem {{
      system = "x86_64-linux";
      modules = [ ({{ lib, ... }}: {{ deployment.owners = [ (@text@) ]; }}) ];
    }};
  }};
}}"""


def lock(place: Place) -> None:
    """Lock the inputs of the project's flake as they are now."""
    features = ("--extra-experimental-features", "nix-command flakes")
    command = ["nix", *features, "flake", "lock", f"path:{place.project}", "--recreate-lock-file"]
    subprocess.run(command, check=True, capture_output=True)


def _locked_again(place: Place) -> None:
    place.write({"out/input/a": "two"})
    lock(place)


def _tracked(place: Place) -> None:
    place.write({"new": "new"})
    place.git("", "add", "new")


FLAKES = {
    "a file of a flake": Way("builtins.readFile ./read", {"read": "one"}, {"read": "two"}, network=FLAKE),
    "an input of a flake": Way('builtins.readFile "${input}/a"', {}, _locked_again, network=FLAKE),
    "a file of a flake's dirty tree": Way(
        "builtins.readFile ./read", {"read": "one"}, {"read": "two"}, network=FLAKE, repository="."
    ),
    "a file of a flake that is tracked now": Way(
        "toString (builtins.pathExists ./new)", {}, _tracked, network=FLAKE, repository="."
    ),
    "a file outside of a flake": Way("builtins.readFile @out@/a", {"out/a": "one"}, {"out/a": "two"}, network=FLAKE),
    "a missing file outside of a flake": sees("toString (builtins.pathExists @out@/new)", network=FLAKE),
    "a variable, in a flake": knows('builtins.getEnv "WHO"', network=FLAKE),
}


class Nix:
    """Evaluates as new processes do, with what earlier ones have kept."""

    def __init__(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        self.count = 0
        self._monkeypatch = monkeypatch

        def spy(argv: list[str], **more: Any) -> process.Completed:
            self.count += argv[0] == "nix-instantiate"
            return process.run(argv, **more)

        monkeypatch.setattr(nix, "run", spy)

    def answer(self, way: Way, env: Mapping[str, str]) -> object:
        return self._answer(way, env)

    def answer_of_an_empty_cache(self, way: Way, env: Mapping[str, str]) -> object:
        with self._monkeypatch.context() as patched:
            patched.setenv("XDG_CACHE_HOME", str(self.place.home / "empty"))
            patched.setattr(settings, "are_common", lambda environment: False)
            return self._answer(way, env)

    def _answer(self, way: Way, env: Mapping[str, str]) -> object:
        self._monkeypatch.setattr(evaluation, "_answers", {})
        checkouts._seen.clear()
        file = self.place.project / "network.nix"
        network = Network(
            "example",
            "u",
            (str(file), str(self.place.project / "bootable.nix")) if file.exists() else (),
            flake=None if file.exists() else str(self.place.project),
            arguments={name: self.place.text(value) for name, value in way.arguments.items()},
            nix_path=(f"nixpkgs={REAL or NIXPKGS}",),
            options=way.options,
        )
        # A real system takes its time, and only these depend on one.
        ask = evaluate if not REAL or "keyFiles" in way.network else definitions
        found = ask(network, env={name: self.place.text(value) for name, value in env.items()})
        return found.definitions, found.derivations


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place(tmp_path / "project", tmp_path / "elsewhere", tmp_path / "home")
    for directory in (made.project, made.elsewhere, made.home):
        directory.mkdir()
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(made.home / ".cache"))
    monkeypatch.setenv("NIX_CONFIG", "substituters =\nbuild-users-group =\nsandbox = false")
    monkeypatch.delenv("NIX_PATH", raising=False)
    # The tests' files are older than their evaluation, if only by a moment.
    monkeypatch.setattr(bounded, "_TICK", 0)
    return made


@pytest.fixture
def asked(place: Place, monkeypatch: pytest.MonkeyPatch) -> Nix:
    return Nix(place, monkeypatch)


def prepare(place: Place, way: Way) -> None:
    if way.network is FLAKE:
        place.write({"flake.nix": FLAKE.replace("@text@", way.text), "out/input/a": "one"})
    else:
        place.write(
            {"network.nix": way.network.replace("@text@", way.text), "bootable.nix": BOOTABLE if REAL else "{ }"}
        )
    place.write(way.before)
    if way.network is FLAKE:
        lock(place)
    if way.repository:
        place.git(way.repository, "init", "-qb", "master")
        place.git(way.repository, "add", ".")
        place.git(way.repository, "commit", "-qm", "one")


@pytest.mark.parametrize("way", [*WAYS.values(), *FLAKES.values()], ids=[*WAYS, *FLAKES])
def test_next_answer_is_that_of_an_empty_cache(place: Place, asked: Nix, way: Way) -> None:
    prepare(place, way)
    before, after = way.env
    first = asked.answer(way, before)
    assert first == asked.answer_of_an_empty_cache(way, before)
    assert asked.answer(way, before) == first
    if callable(way.after):
        way.after(place)
    else:
        place.write(way.after)
    expected = asked.answer_of_an_empty_cache(way, after)
    assert expected != first, "this change alters nothing"
    assert asked.answer(way, after) == expected


def test_directory_that_is_gone_is_read_no_more(place: Place, asked: Nix) -> None:
    way = Way("import @out@/lib/a", {"out/lib/a": '"one"'})
    prepare(place, way)
    asked.answer(way, {})
    place.write({"out/lib": None, "network.nix": way.network.replace("@text@", '"two"')})
    asked.answer(way, {})
    count = asked.count
    asked.answer(way, {})
    assert asked.count == count


def test_time_is_asked_anew(place: Place, asked: Nix) -> None:
    way = Way("toString builtins.currentTime")
    prepare(place, way)
    asked.answer(way, {})
    count = asked.count
    asked.answer(way, {})
    assert asked.count == count + 1


def test_file_that_changed_a_moment_ago_is_not_trusted(
    place: Place, asked: Nix, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded, "_TICK", 3600)
    way = Way("builtins.readFile ./read", {"read": "one"})
    prepare(place, way)
    asked.answer(way, {})
    count = asked.count
    asked.answer(way, {})
    assert asked.count == count + 1


def test_refused_evaluation_is_not_tried_again(place: Place, asked: Nix) -> None:
    way = Way("builtins.readFile /proc/sys/kernel/ostype")
    prepare(place, way)
    asked.answer(way, {})
    count = asked.count
    asked.answer(way, {})
    assert asked.count == count + 1


def _by_path(place: Place) -> None:
    place.write({"network.nix": "{ machine = { }; }", "bootable.nix": "{ }"})


def _by_hash(place: Place) -> None:
    tarball = place.elsewhere / "nixpkgs.tar.gz"
    subprocess.run(["tar", "czf", tarball, "-C", Path(REAL or NIXPKGS).parent, Path(REAL or NIXPKGS).name], check=True)
    hashed = subprocess.run(
        ["nix-prefetch-url", "--unpack", f"file://{tarball}"], check=True, capture_output=True, text=True
    ).stdout.strip()
    fetched = f'fetchTarball {{ url = "file://{tarball}"; sha256 = "{hashed}"; }}'
    place.write({"network.nix": f"{{ network.nixpkgs = {fetched}; machine = {{ }}; }}", "bootable.nix": "{ }"})


def _by_flake(place: Place) -> None:
    place.write({"flake.nix": FLAKE.replace("@text@", "builtins.readFile ./read"), "read": "one", "out/input/a": "one"})
    lock(place)


@pytest.mark.parametrize("pin", [_by_path, _by_hash, _by_flake])
def test_unchanged_network_is_evaluated_once(place: Place, asked: Nix, pin: Callable[[Place], None]) -> None:
    pin(place)
    first = asked.answer(Way(""), {})
    count = asked.count
    assert asked.answer(Way(""), {}) == first
    assert asked.count == count
