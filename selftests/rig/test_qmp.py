"""QMP against a small server of our own over a socket pair."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig.qmp import Qmp

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}
RESUME = {"event": "RESUME", "timestamp": {"seconds": 7, "microseconds": 5}, "data": {}}


class Server(threading.Thread):
    """Answers `query-status` and `stop`, refuses `device_add`, is silent to `silent`, ends at `quit`."""

    def __init__(self, stream: socket.socket, greets: bool = True) -> None:
        super().__init__(daemon=True)
        self.got: list[dict[str, Any]] = []
        self._stream = stream
        self._greets = greets

    def say(self, message: dict[str, Any]) -> None:
        self._stream.sendall(json.dumps(message).encode() + b"\r\n")

    def run(self) -> None:
        with self._stream:
            if not self._greets:
                return
            self.say(GREETING)
            for message in self._messages():
                self.got.append(message)
                if message["execute"] == "quit":
                    return
                # the capabilities are negotiated without an id
                self._answer(message["execute"], {"id": message["id"]} if "id" in message else {})

    def _messages(self) -> Iterator[dict[str, Any]]:
        """QMP has no line ends: a message ends where its last brace closes."""
        text = ""
        while data := self._stream.recv(4096):
            text += data.decode()
            while text:
                try:
                    message, end = json.JSONDecoder().raw_decode(text)
                except ValueError:
                    break
                text = text[end:].lstrip()
                yield message

    def _answer(self, command: str, number: dict[str, str]) -> None:
        if command == "device_add":
            self.say({"error": {"class": "GenericError", "desc": "no such CPU"}, **number})
        elif command != "silent":
            if command == "stop":
                self.say(RESUME)
            self.say({"return": {"status": "running"} if command == "query-status" else {}, **number})


@contextmanager
def talking() -> Iterator[tuple[Qmp, Server]]:
    ours, theirs = socket.socketpair()
    server = Server(theirs)
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
    server = Server(theirs)
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


def test_no_greeting() -> None:
    ours, theirs = socket.socketpair()
    Server(theirs, greets=False).start()
    with pytest.raises(LostVMError, match="broke off during the QMP greeting"):
        Qmp("guest", ours, soon())


def test_a_greeting_that_never_comes() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(LabError, match="no answer to the QMP greeting"):
        Qmp("guest", ours, Deadline.after(0.1))
