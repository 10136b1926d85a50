"""A command over SSH comes to an end in time, whatever the machine at the other side does."""

from typing import Any
from unittest.mock import MagicMock

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError
from cpuidlab.rig import ssh as module
from cpuidlab.rig.ssh import Program, Ssh
from fakechannel import FakeChannel


def ended(data: bytes = b"") -> Any:
    """A channel whose server has sent all output and its end, and dies before it sends the exit code."""
    channel: Any = FakeChannel()
    channel.eof_received = True
    channel.recv = lambda _: data
    return channel


class Transport:
    """A live transport."""

    def is_active(self) -> bool:
        return True


@pytest.mark.parametrize("data", [b"", b"endless output"])
def test_a_command_ends_at_its_deadline(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    channel = ended(data)
    monkeypatch.setattr(Ssh, "open_program", lambda *_: channel)
    ssh: Any = Ssh.__new__(Ssh)
    ssh.name, ssh._watch, ssh._transport = "guest", lambda: None, Transport()
    with pytest.raises(LabError, match="did not end in time"):
        ssh.run("health", Deadline.after(0.1))


def test_a_machine_that_stands_still_is_sent_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    intervals: list[int] = []
    transport = MagicMock(set_keepalive=intervals.append)
    transport.get_remote_server_key().get_base64.return_value = "pinned"
    monkeypatch.setattr(module.paramiko, "Transport", lambda _: transport)
    Ssh("guest", MagicMock(), MagicMock(pinned="pinned"), Deadline.after(1), lambda: None)
    assert intervals == [module.KEEPALIVE_SECONDS]


def test_a_machine_may_be_left_alone_for_a_while() -> None:
    intervals: list[int] = []
    ssh: Any = Ssh.__new__(Ssh)
    ssh._transport = MagicMock(set_keepalive=intervals.append)
    with pytest.raises(LabError), ssh.silence():
        raise LabError("it failed meanwhile")
    assert intervals == [0, module.KEEPALIVE_SECONDS]


def test_one_may_wait_again_for_the_same_program() -> None:
    channel = ended()
    pieces = [b"first, ", b"", b"second"]
    channel.recv = lambda _: pieces.pop(0) if pieces else b""
    channel.exit_status_ready = lambda: not pieces
    channel.recv_exit_status = lambda: 3
    ssh: Any = Ssh.__new__(Ssh)
    ssh.name, ssh._watch, ssh._transport = "guest", lambda: None, Transport()
    program = Program(ssh, channel)
    with pytest.raises(LabError, match="did not end in time") as raised:
        program.end(Deadline.after(0))
    assert raised.value.evidence == "first, "
    assert (program.status, program.end(Deadline.after(5)), program.status) == (None, "first, second", 3)
