# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a Containerfile without a container engine: each stage is a layer over a clean Debian root.

All images that stages begin from are that root. Of the format there is what ansible-builder writes: an instruction is a
line, and a source of COPY is one file or directory, of another stage only what that stage itself wrote.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet.host import call, locked
from fleet.roots import cache_directory, made_once
from integration.project import TESTS

DEBIAN = "trixie"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Image data that says nothing about the file system.
_IGNORED = ("LABEL", "CMD")


@dataclass(frozen=True)
class Image:
    """What there is after a step.

    :param layers: directories, uppermost first; the first is the stage's own.
    :param entrypoint: the words before each command.
    """

    layers: tuple[Path, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    user: str = "root"
    entrypoint: tuple[str, ...] = ()

    def command(
        self,
        words: Sequence[str],
        upper: Path,
        binds: Iterable[tuple[Path, str]] = (),
        *,
        uid: int = 0,
        environment: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Compose the command that runs one in a container of this image.

        :param upper: the container's own layer.
        :param binds: paths of this host and where they are in the container.
        :param uid: the user, whose only group is root's, as OpenShift has it.
        """
        variables = {"PATH": _PATH, **self.environment, **(environment or {})}
        return [
            *("unshare", "--mount", "--propagation", "slave", "--pid", "--fork"),
            str(TESTS / "integration/layers.sh"),
            *(":".join(map(str, self.layers)), str(upper)),
            *(str(word) for bind in binds for word in bind),
            *("--", "setpriv", f"--reuid={uid}", "--regid=0", "--clear-groups"),
            *("env", "--ignore-environment", f"--chdir={self.directory}"),
            *(f"{name}={value}" for name, value in variables.items()),
            *words,
        ]


def built(context: Path, *, uses: Iterable[Path]) -> Image:
    """Build the image of a context, or take the one that was built of the same.

    :param uses: what the steps depend on beside the context; the archives in that count for nothing.
    :raises FleetError: where a step fails, with all that it said.
    """
    base = clean_root()
    containerfile = (context / "Containerfile").read_text()
    inputs = [*(path for path in context.rglob("*") if not path.name.endswith(".tar.gz")), *uses]
    key = _hash(base.name, containerfile, __file__, *sorted(path.read_text() for path in inputs if path.is_file()))
    images = cache_directory() / "images"
    made = images / key
    with locked(images / "lock"):
        unfinished = made if made.exists() else images / "unfinished"
        if not made.exists():
            for old in images.glob("*/"):
                shutil.rmtree(old)
            print(f"Building an image of {context}", file=sys.stderr)
        image = _Build(context, base, unfinished).run(containerfile, dry=made.exists())
        if not made.exists():
            for stage in set(unfinished.iterdir()) - set(image.layers):
                shutil.rmtree(stage)
            unfinished.rename(made)
    return replace(image, layers=tuple(_moved(layer, unfinished, made) for layer in image.layers))


class _Build:
    """One build, whose stages are kept by name."""

    def __init__(self, context: Path, base: Path, directory: Path) -> None:
        self._context, self._base, self._directory = context, base, directory
        self._globals: dict[str, str] = {}
        self._stages: dict[str, Image] = {}

    def run(self, containerfile: str, *, dry: bool) -> Image:
        """Take all steps; a dry run takes only those that write no files."""
        name = ""
        for line in containerfile.splitlines():
            instruction, _blank, rest = line.strip().partition(" ")
            if not instruction or instruction.startswith("#") or instruction in _IGNORED:
                continue
            if instruction == "FROM":
                origin, _as, name = rest.split()
                self._stages[name] = self._begin(origin, name)
            elif not name:
                # Before the first stage there are arguments alone.
                self._globals.update([_pair(rest)])
            elif instruction in ("RUN", "COPY"):
                if not dry:
                    self._write(self._stages[name], instruction, rest)
            else:
                self._stages[name] = self._describe(self._stages[name], instruction, rest)
        return self._stages[name]

    def _begin(self, origin: str, name: str) -> Image:
        upper = self._directory / name
        if origin in self._stages:
            before = self._stages[origin]
            return replace(before, layers=(upper, *before.layers), arguments={})
        return Image((upper, self._base))

    def _describe(self, image: Image, instruction: str, rest: str) -> Image:
        match instruction:
            case "ARG":
                return replace(image, arguments={**image.arguments, rest: self._globals[rest]})
            case "ENV":
                pairs = dict(_pair(word) for word in shlex.split(rest))
                return replace(image, environment={**image.environment, **pairs})
            case "WORKDIR":
                return replace(image, directory=rest)
            case "USER":
                return replace(image, user=rest)
            case "ENTRYPOINT":
                return replace(image, entrypoint=tuple(json.loads(rest)))
        raise ValueError(f"This instruction is not known here: {instruction} {rest}")

    def _write(self, image: Image, instruction: str, rest: str) -> None:
        if instruction == "RUN":
            self._command(image, ["/bin/sh", "-c", rest])
            return
        *options, source, target = rest.split()
        [stage] = [option.removeprefix("--from=") for option in options] or [""]
        origin = self._directory / stage if stage else self._context
        source = source.lstrip("/")
        if target.endswith("/") and not (origin / source).is_dir():
            target += Path(source).name
        self._command(image, ["install", "-d", str(Path(target).parent)])
        copy = ["cp", "--recursive", "--preserve=mode", "--no-target-directory", f"/run/origin/{source}", target]
        self._command(image, copy, [(origin, "/run/origin")])

    def _command(self, image: Image, words: Sequence[str], binds: Iterable[tuple[Path, str]] = ()) -> None:
        upper, *lower = image.layers
        upper.mkdir(parents=True, exist_ok=True)
        directory = image.directory.lstrip("/")
        if not any((layer / directory).exists() for layer in image.layers):
            (upper / directory).mkdir(parents=True)
        below = replace(image, layers=tuple(lower))
        # The registries of this host, which are no part of the image.
        ours = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_"))}
        environment = {**ours, "HOME": "/root", **image.arguments}
        call(below.command(words, upper, binds, environment=environment), timeout=300)


def clean_root() -> Path:
    """Return a Debian root that has nothing but certificates."""
    recipe = TESTS / "tools" / "debian-root.sh"
    packages = "ca-certificates"
    made = cache_directory() / "roots" / f"clean-{DEBIAN}-{_hash(packages, recipe.read_text())}"
    return made_once(made, f"clean-{DEBIAN}", lambda unfinished: call([recipe, DEBIAN, packages, unfinished]))


def _pair(word: str) -> tuple[str, str]:
    name, _equals, value = word.partition("=")
    return name, value.removeprefix('"').removesuffix('"')


def _moved(path: Path, old: Path, new: Path) -> Path:
    return new / path.relative_to(old) if path.is_relative_to(old) else path


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
