# Copyright: (c) nix.ops contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to a task's host, over stand-ins for Ansible's plugins; and what of ansible-core it counts on."""

from __future__ import annotations

import inspect
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.nix.ops.plugins.plugin_utils import waiting
from ansible_collections.nix.ops.plugins.plugin_utils.errors import OpsError
from ansible_collections.nix.ops.plugins.plugin_utils.machine import connection as connections
from ansible_collections.nix.ops.plugins.plugin_utils.machine import transport as transports
from ansible_collections.nix.ops.plugins.plugin_utils.machine.connection import Endpoint
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host import (
    AnotherMachine,
    ConnectionLost,
    PasswordMissing,
    PasswordRefused,
)
from ansible_collections.nix.ops.plugins.plugin_utils.machine.host_keys import Known
from ansible_collections.nix.ops.plugins.plugin_utils.machine.transport import HostTransport
from ansible_collections.nix.ops.plugins.plugin_utils.waiting import Overdue
from answers import BOOT_ID, answered

KNOWN, TOLD = Endpoint("192.0.2.1", 22), Endpoint("192.0.2.2", 2222)
USED = {
    "_compute_environment_string": ["raw_environment_out"],
    "_fixup_perms2": ["remote_paths"],
    "_get_remote_user": [],
    "_low_level_execute_command": ["cmd", "sudoable", "in_data", "encoding_errors"],
    "_make_tmp_path": [],
    "_transfer_data": ["remote_path", "data"],
    "get_become_option": ["option"],
}


class Shell:
    tmpdir: str | None = None

    def join_path(self, *parts):
        return "/".join(parts)


class Connection:
    """Notes where it leads."""

    def __init__(self, transport="ssh", pipelining=True):
        self.transport = transport
        self.has_pipelining = pipelining
        self.become = None
        self.host = TOLD.address
        self._shell = Shell()
        self.options: dict[str, object] = {
            "host": TOLD.address,
            "port": TOLD.port,
            "ssh_args": "-C",
            "ssh_extra_args": None,
        }

    def get_option(self, name):
        return self.options[name]

    def set_option(self, name, value):
        self.options[name] = value


class Action:
    """Answers as the test says, and notes what was run where."""

    def __init__(self, connection, answers=(), temporary="/tmp/a"):
        self._connection = connection
        self.answers = list(answers)
        self.temporary = temporary
        self.seen = []

    def _compute_environment_string(self, found):
        found["LEVEL"] = 1

    def _get_remote_user(self):
        return "root"

    def get_become_option(self, name):
        return {"become_user": "root"}[name]

    def _make_tmp_path(self):
        self._connection._shell.tmpdir = self.temporary

    def _transfer_data(self, path, data):
        self.seen.append((path, data))

    def _fixup_perms2(self, paths):
        pass

    def _low_level_execute_command(self, command, *, sudoable, in_data=None, encoding_errors):
        options = self._connection.options
        self.seen.append((options["host"], options["port"], command, sudoable))
        answer = self.answers.pop(0) if self.answers else {}
        failure = answer if isinstance(answer, Exception) else None
        if failure is not None:
            raise failure
        return {"rc": 0, "stdout": answered(""), "stderr": "", **answer}

    @property
    def hosts(self):
        return [one[0] for one in self.seen]


def down():
    return AnsibleConnectionFailure("no route to host")


@contextmanager
def lost():
    with pytest.raises(ConnectionLost, match="no route to host"):
        yield


def test_ansible_core_has_what_is_used():
    for name, parameters in USED.items():
        signature = inspect.signature(getattr(ActionBase, name))
        assert set(parameters) <= set(signature.parameters), name


def test_the_known_address_is_tried_first():
    action = Action(Connection(), [down()])
    HostTransport(action, "target", KNOWN).machine().run("machine/describe")
    assert action.hosts == [KNOWN.address, TOLD.address]
    # A dead link is noticed.
    assert "ServerAliveInterval" in action._connection.options["ssh_extra_args"]


def test_no_terminal_is_asked_for_whatever_the_user_s_options_say():
    action = Action(Connection(), [{}])
    action._connection.options["ssh_extra_args"] = "-tt"
    HostTransport(action, "target").machine().run("machine/describe")
    assert action._connection.options["ssh_extra_args"].split()[-1] == "-T"


def test_a_slow_login_gets_more_time_up_to_the_limit_of_an_answer(monkeypatch):
    limits = []

    def bounded(run, what, seconds, **_how):
        limits.append(seconds)
        if seconds < 40:
            raise Overdue(what, "no answer")
        return run()

    monkeypatch.setattr(waiting, "bounded", bounded)
    monkeypatch.setattr(connections, "drop", lambda _connection: False)
    machine = HostTransport(Action(Connection(), [{}, {}]), "target", within=45).machine()
    for _attempts in range(2):
        with pytest.raises(ConnectionLost):
            machine.run("machine/boot", within=15)
    machine.run("machine/boot", within=15)
    # It stays slow, and the limit of a wait is never made shorter.
    machine.run("machine/boot", within=90)
    assert limits == [15, 30, 45, 90]


def test_another_machine_than_an_earlier_task_has_described_is_refused():
    transport = HostTransport(Action(Connection(), [{}]), "target")
    transport.expect({"boot_id": BOOT_ID.replace("2", "3"), "machine_id": None})
    with pytest.raises(AnotherMachine):
        transport.machine().run("machine/boot")


def test_each_address_is_tried_once():
    action = Action(Connection(), [down(), down(), down()])
    with lost():
        HostTransport(action, "target", KNOWN).machine().run("machine/describe")
    assert action.hosts == [KNOWN.address, TOLD.address]


def test_a_host_that_has_answered_is_not_looked_for_elsewhere():
    action = Action(Connection(), [{}, down()])
    machine = HostTransport(action, "target", KNOWN).machine()
    machine.run("machine/describe")
    with lost():
        machine.run("machine/describe")
    assert action.hosts == [KNOWN.address, KNOWN.address]


def test_what_may_have_changed_something_is_not_run_again():
    action = Action(Connection(), [down()])
    transport = HostTransport(action, "target", KNOWN)
    machine = transport.machine()
    transport.forbid_retries()
    with lost():
        machine.run("machine/describe")
    assert action.hosts == [KNOWN.address]


def test_a_destination_is_where_new_connections_lead():
    action = Action(Connection())
    transport = HostTransport(action, "target")
    transport.set_destination("192.0.2.3", None)
    transport.machine().run("machine/describe")
    with transport.over_new_connection() as machine:
        assert "ControlMaster=no" in action._connection.options["ssh_args"]
        machine.run("machine/describe")
    assert action._connection.options["ssh_args"] == "-C"
    assert [one[:2] for one in action.seen] == [(TOLD.address, TOLD.port), ("192.0.2.3", TOLD.port)]
    assert transport.addresses is not None
    assert transport.addresses.now == TOLD


def test_a_destination_that_is_not_valid_is_refused():
    for address, port in (("-oProxyCommand=x", None), (None, 70000)):
        with pytest.raises(OpsError):
            HostTransport(Action(Connection()), "target").set_destination(address, port)


def test_another_connection_has_no_addresses():
    action = Action(Connection("podman"), [down()])
    transport = HostTransport(action, "target", KNOWN)
    transport.set_destination("192.0.2.3", 22)
    assert transport.addresses is None
    with lost():
        transport.machine().run("machine/describe")
    assert action.hosts == [TOLD.address]
    with transport.over_new_connection() as machine:
        machine.run("machine/describe")


@pytest.mark.parametrize(
    ("name", "become", "is_it"), [("local", None, True), ("ssh", None, False), ("local", "other", False)]
)
def test_the_controller_itself(monkeypatch, name, become, is_it):
    action = Action(Connection(name))
    if become:
        action._connection.become = object()
        monkeypatch.setattr(action, "get_become_option", lambda option: become)
    transport = HostTransport(action, "localhost")
    assert (transport.is_controller, transport.becomes) == (is_it, become is not None)


def test_variables_and_become_of_a_script():
    action = Action(Connection())
    transport = HostTransport(action, "target")
    assert transport.environment == {"LEVEL": "1"}
    assert transport.machine().environment == {"LEVEL": "1"}
    assert transport.machine({}).environment == {}
    transport.machine(sudoable=False).run("machine/describe")
    transport.machine().run("machine/describe")
    assert [one[3] for one in action.seen] == [False, True]


def test_errors_of_become_are_told():
    action = Action(Connection(), [AnsibleError("Missing sudo password")])
    with pytest.raises(PasswordMissing, match=r"none was given \(Missing sudo password\)") as failure:
        HostTransport(action, "target").machine().run("machine/describe")
    assert "-K" in str(failure.value.next_step)
    assert failure.value.state == "the running system is untouched"
    transport = HostTransport(Action(Connection(), [AnsibleError("Missing sudo password")]), "target")
    transport.forbid_retries()
    with pytest.raises(PasswordMissing) as later:
        transport.machine().run("machine/describe")
    assert "not known" in str(later.value.state)
    action = Action(Connection(), [AnsibleError("su: no such user")])
    with pytest.raises(OpsError, match="no such user"):
        HostTransport(action, "target").machine().run("machine/describe")


def test_a_host_that_does_not_answer_is_unreachable(monkeypatch):
    connection = Connection("podman")
    closed: list[bool] = []
    monkeypatch.setattr(connection, "close", lambda: closed.append(True), raising=False)
    connection._shell.tmpdir = "/tmp/a"
    action = Action(connection)
    monkeypatch.setattr(action, "_low_level_execute_command", lambda *_words, **_options: time.sleep(30))
    with pytest.raises(ConnectionLost, match=r"no answer within 1 seconds \(what it runs\)") as lost:
        HostTransport(action, "target", within=1).machine().ask("machine/describe", awaits="what it runs")
    assert "deploy_answer_timeout" in (lost.value.next_step or "")
    # Nothing is left for Ansible to clean up there.
    assert closed and connection._shell.tmpdir is None


@pytest.mark.parametrize("how", ["become", "login", "ssh"])
def test_a_refused_password_is_never_tried_again(how):
    connection = Connection()
    connection.options["password"] = "word" if how == "ssh" else None
    refusal = {
        "become": AnsibleError("Incorrect sudo password"),
        "login": AnsibleAuthenticationFailure("Invalid/incorrect username/password."),
        "ssh": AnsibleConnectionFailure("root@host: Permission denied (publickey,password)."),
    }[how]
    action = Action(connection, [refusal])
    transport = HostTransport(action, "target", KNOWN)
    for _attempt in range(2):
        with pytest.raises(PasswordRefused, match="refuses the password") as refused:
            transport.machine().run("machine/describe")
        assert "State: the running system is untouched\nNext: Correct the password" in str(refused.value)
    assert len(action.seen) == 1
    transport.machine(sudoable=False).run("machine/describe")


def test_without_a_password_a_denied_login_is_a_lost_connection():
    connection = Connection()
    connection.options["password"] = None
    with pytest.raises(ConnectionLost, match="Permission denied"):
        denied = AnsibleConnectionFailure("root@host: Permission denied (publickey).")
        HostTransport(Action(connection, [denied]), "target").machine().run("machine/describe")


def test_a_connection_without_standard_input_gets_a_file():
    action = Action(Connection("podman", pipelining=False))
    HostTransport(action, "target").machine().run("machine/describe")
    (path, text), (_host, _port, command, _sudoable) = action.seen
    assert path == "/tmp/a/script" and b"main" in text
    assert command == "/bin/sh /tmp/a/script </dev/null"


@pytest.mark.parametrize("path", ["/tmp/../etc", "/tmp/a b", "tmp", "/tmp/$(id)", ""])
def test_a_temporary_directory_that_could_be_more_than_a_path_is_refused(path):
    action = Action(Connection("podman", pipelining=False), temporary=path)
    with pytest.raises(OpsError, match="as its directory for temporary files"):
        HostTransport(action, "target").machine().run("machine/describe")
    assert action._connection._shell.tmpdir is None
    assert action.seen == []


def test_private_interfaces_are_used_in_one_file():
    plugins = Path(inspect.getfile(HostTransport)).parents[2]
    names = [name for name in USED if name.startswith("_")]
    using = {
        str(path.relative_to(plugins))
        for path in plugins.rglob("*.py")
        if any(f".{name}(" in path.read_text(encoding="utf-8") for name in names)
    }
    assert using == {"plugin_utils/machine/transport.py"}


BOX = """Failed to connect to the host via ssh: @@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@\r
IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r
"""


def test_the_first_line_of_a_changed_host_key_says_so():
    transport = HostTransport(Action(Connection(), [AnsibleConnectionFailure(BOX)]), "a")
    with pytest.raises(ConnectionLost) as refused:
        transport.machine().run("machine/boot")
    first, second, *_rest = str(refused.value).split("\n")
    assert first == "WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!"
    assert second == "IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!"


def test_a_password_that_host_keys_forbid_is_a_lost_connection():
    words = "Using a SSH password instead of a key is not possible because Host Key checking is enabled."
    transport = HostTransport(Action(Connection(), [AnsibleError(words)]), "a")
    with pytest.raises(ConnectionLost, match="Host Key checking"):
        transport.machine().run("machine/boot")


def test_known_host_keys_reach_all_commands_of_ssh_once():
    connection = Connection()
    connection.options |= {"sftp_extra_args": "-4", "scp_extra_args": None}
    known = Known("ssh-ed25519 " + "A" * 68, "", "")
    for _task in range(2):
        HostTransport(Action(connection), "a", host_keys=[known]).machine()
    for name in ("ssh_extra_args", "sftp_extra_args", "scp_extra_args"):
        assert str(connection.options[name]).count("KnownHostsCommand=") == 1, name
    assert str(connection.options["sftp_extra_args"]).endswith(" -4")


@pytest.mark.parametrize(
    "said",
    [
        "@" * 1_000_000,
        "@" * 9 + "\n" * 1_000_000,
        "@" * 9 + "\n@" + " " * 1_000_000,
        ("@@@@@@@@@\n@ " + "a " * 60) * 10_000,
    ],
    ids=["signs", "lines", "spaces", "boxes"],
)
def test_a_machine_that_says_anything_instead_of_a_warning(said):
    # A search whose time grows with the square of the length would take hours.
    assert transports._BOX.sub(r"\1", said) == said


@pytest.mark.parametrize("plugin", ["ssh", "paramiko_ssh"])
@pytest.mark.parametrize(("named", "user"), [(None, "root"), ("admin", "admin")])
def test_a_user_that_nothing_names_is_the_one_of_the_inventory(plugin, named, user):
    connection = Connection(plugin)
    connection.options["remote_user"] = named
    HostTransport(Action(connection, [{}]), "target", user="root").machine().run("machine/describe")
    assert connection.options["remote_user"] == user
