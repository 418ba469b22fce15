# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ansible.cfg that nix.ops.create writes, and what it tells about an existing one."""

from __future__ import annotations

import configparser
from dataclasses import replace

import pytest
from ansible.config.manager import ConfigManager

from ansible_collections.nix.ops.plugins.plugin_utils.deployment import configuration
from ansible_collections.nix.ops.plugins.plugin_utils.deployment.configuration import Settings
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError

UUID = "9e8652aa-e64a-11f1-b7ab-02fc00000001"
COMPLETE = Settings("/net/ansible.cfg", "redis", "localhost:6379:0", 0, ["/net"], ["nix.ops.network"], strict=True)


@pytest.fixture(autouse=True)
def home(monkeypatch):
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)


def test_configuration_lacks_nothing(tmp_path):
    path = str(tmp_path / "target.network.yml")
    written = tmp_path / "ansible.cfg"
    written.write_text(configuration.compose(path, UUID, ["host_list", "auto"]))
    (tmp_path / "target.network.yml").touch()
    assert ConfigManager(str(written)).get_config_value("DEFAULT_HOST_LIST") == [path]
    parser = configparser.ConfigParser()
    parser.read(written)
    assert parser["inventory"]["enable_plugins"] == "nix.ops.network, host_list, auto"
    assert ConfigManager(str(written)).get_config_value("DEFAULT_FORKS") == 20
    assert ConfigManager(str(written)).get_config_value("DEFAULT_INTERNAL_POLL_INTERVAL") == 0.01
    assert parser["defaults"]["fact_caching_connection"] == f"~/.local/state/nix.ops/facts/{UUID}"
    settings = configuration.of_directory(str(tmp_path))
    assert settings is not None
    assert settings.file == str(written)
    assert configuration.hints(settings, path, UUID) == []


def test_the_true_state_directory_is_written(monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "/my state/100%")
    lines = configuration.compose("/net/a.network.yml", UUID, []).splitlines()
    assert f"fact_caching_connection = /my state/100%/nix.ops/facts/{UUID}" in lines


@pytest.mark.parametrize("place", ["/a;b", "/$a", "/a\nb"])
def test_a_place_that_ansible_would_misread_is_refused(monkeypatch, place):
    monkeypatch.setenv("XDG_STATE_HOME", place)
    with pytest.raises(OpsError, match="XDG_STATE_HOME"):
        configuration.compose("/net/a.network.yml", UUID, [])


CONNECTION = f"fact_caching_connection = ~/.local/state/nix.ops/facts/{UUID}"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"timeout": 86400.0}, ["[defaults]", "fact_caching_timeout = 0"]),
        ({"cache": "memory"}, ["[defaults]", "fact_caching = ansible.builtin.jsonfile", CONNECTION]),
        # Version 0.1.0 kept facts beside the source.
        ({"cache": "jsonfile", "connection": "/net/.nix-ops/facts"}, ["[defaults]", CONNECTION]),
        ({"cache": "jsonfile", "connection": "/srv/facts"}, []),
        ({"inventory": []}, ["[defaults]", "inventory = b.network.yml"]),
        ({"enabled": ["auto"]}, ["[inventory]", "enable_plugins = nix.ops.network, auto"]),
        ({"strict": False}, ["[inventory]", "any_unparsed_is_failed = true"]),
    ],
)
def test_lines_that_are_missing(change, told):
    assert configuration.find_missing(replace(COMPLETE, **change), "/net/b.network.yml", UUID) == told


def test_second_source_has_to_be_chosen():
    [hint] = configuration.hints(replace(COMPLETE, inventory=["/net/a.network.yml"]), "/net/b.network.yml", UUID)
    assert "-i b.network.yml" in hint


def test_lines_of_a_cache_that_keeps():
    assert configuration.lines_of_cache(UUID).splitlines() == [
        "[defaults]",
        "fact_caching = ansible.builtin.jsonfile",
        CONNECTION,
        "fact_caching_timeout = 0",
    ]
