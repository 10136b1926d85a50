"""QMP against a fake server over a socket pair."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError, UnknownCommandError
from cpuidlab.rig import qmp as qmp_module
from cpuidlab.rig.qmp import Qmp
from fakeqmp import FakeQmp, No, Refused, event

RESUME = event("RESUME")
ANSWERS = {
    "query-status": {"status": "running"},
    "device_add": Refused("no such CPU"),
    "silent": No.ANSWER,
    "quit": No.CONNECTION,
}


@contextmanager
def talking() -> Iterator[tuple[Qmp, FakeQmp]]:
    ours, theirs = socket.socketpair()
    server = FakeQmp(theirs, ANSWERS, {"stop": "RESUME"})
    server.start()
    qmp = Qmp("guest", ours, Deadline.after(10))
    try:
        yield qmp, server
    finally:
        qmp.close()
        server.join(10)
    assert not server.is_alive()


def soon() -> Deadline:
    return Deadline.after(10)


def test_greeting_capabilities_and_a_command() -> None:
    with talking() as (qmp, server):
        assert qmp.execute("query-status", soon()) == {"status": "running"}
        assert [message["execute"] for message in server.got] == ["qmp_capabilities", "query-status"]
        assert qmp.transcript == [
            '-> {"execute": "query-status", "arguments": {}}',
            '<- {"return": {"status": "running"}}',
        ]


def test_underscores_in_arguments_are_dashes() -> None:
    with talking() as (qmp, server):
        qmp.execute("human-monitor-command", soon(), command_line="info usernet")
        assert server.got[-1]["arguments"] == {"command-line": "info usernet"}


def test_a_refusal_is_a_lab_error_and_the_connection_lives() -> None:
    with talking() as (qmp, _):
        with pytest.raises(LabError, match="guest: QMP device_add was refused: no such CPU") as caught:
            qmp.execute("device_add", soon(), driver="cpu")
        assert not isinstance(caught.value, LostVMError)
        assert qmp.transcript[-1] == '<- {"error": "no such CPU"}'
        qmp.watch()
        assert qmp.execute("query-status", soon()) == {"status": "running"}


def test_a_command_that_an_old_qemu_does_not_know() -> None:
    with talking() as (qmp, server):
        server.answers["set-action"] = Refused("not found", "CommandNotFound")
        with pytest.raises(UnknownCommandError, match="guest: QMP set-action was refused: not found"):
            qmp.execute("set-action", soon())


def test_an_event_before_an_answer_and_one_of_its_own() -> None:
    with talking() as (qmp, server):
        assert qmp.seen("RESUME") is None
        qmp.execute("stop", soon())
        assert qmp.seen("RESUME") == RESUME
        server.say(RESUME | {"event": "SHUTDOWN"})
        end = time.monotonic() + 10
        while qmp.seen("SHUTDOWN") is None and time.monotonic() < end:
            qmp.watch()
        assert [event["event"] for event in qmp.events] == ["RESUME", "SHUTDOWN"]
        assert '"SHUTDOWN"' in qmp.tail(1)
        assert '"SHUTDOWN"' not in "\n".join(qmp.transcript[:-1])


def test_the_end_under_a_command() -> None:
    with talking() as (qmp, _):
        with pytest.raises(LostVMError, match="guest: QMP broke off during quit") as caught:
            qmp.execute("quit", soon())
        assert '"quit"' in caught.value.evidence
        with pytest.raises(LostVMError, match="connection has ended"):
            qmp.watch()
        with pytest.raises(LostVMError):
            qmp.execute("query-status", soon())


def test_the_end_while_nobody_asks() -> None:
    ours, theirs = socket.socketpair()
    server = FakeQmp(theirs, ANSWERS, {"stop": "RESUME"})
    server.start()
    qmp = Qmp("guest", ours, soon())
    qmp.watch()
    server.say(RESUME)
    theirs.shutdown(socket.SHUT_RDWR)
    end = time.monotonic() + 10
    with pytest.raises(LostVMError, match="connection has ended"):
        while time.monotonic() < end:
            qmp.watch()
    assert qmp.seen("RESUME") == RESUME  # the last words are kept
    qmp.close()


def test_no_answer_in_time() -> None:
    with talking() as (qmp, _):
        with pytest.raises(LabError, match="guest: no answer to silent over QMP in time") as caught:
            qmp.execute("silent", Deadline.after(0.1))
        assert not isinstance(caught.value, LostVMError)


def test_a_command_without_an_answer_leaves_time_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qmp_module, "ANSWER_SECONDS", 0.1)
    deadline = soon()
    with talking() as (qmp, _):
        with pytest.raises(LabError, match="no answer to silent"):
            qmp.execute("silent", deadline)
        assert deadline.left() > 5


def test_no_greeting() -> None:
    ours, theirs = socket.socketpair()
    FakeQmp(theirs, greets=False).start()
    with pytest.raises(LostVMError, match="broke off during the QMP greeting"):
        Qmp("guest", ours, soon())


def test_a_greeting_that_never_comes() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(LabError, match="no answer to the QMP greeting"):
        Qmp("guest", ours, Deadline.after(0.1))
