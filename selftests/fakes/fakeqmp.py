"""QEMU's side of QMP without QEMU: a server on one end of a socket pair."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}


@dataclass(frozen=True)
class Refused:
    """The answer to a command that QEMU refuses."""

    reason: str
    kind: str = "GenericError"


class No(Enum):
    """What a command gets instead of an answer."""

    ANSWER = auto()
    CONNECTION = auto()  # the server closes it


def event(name: str) -> dict[str, Any]:
    return {"event": name, "timestamp": {"seconds": 7, "microseconds": 5}, "data": {}}


class FakeQmp(threading.Thread):
    """Answers each command from `answers`, `{}` where it is not there; says the event in `events` before that."""

    def __init__(
        self,
        stream: socket.socket,
        answers: Mapping[str, Any] | None = None,
        events: Mapping[str, str] | None = None,
        greets: bool = True,
    ) -> None:
        super().__init__(daemon=True)
        self.got: list[dict[str, Any]] = []
        self.answers = dict(answers or {})
        self._events = dict(events or {})
        self._stream = stream
        self._greets = greets

    def commands(self) -> list[str]:
        """The commands so far, without the handshake."""
        return [message["execute"] for message in self.got if message["execute"] != "qmp_capabilities"]

    def say(self, message: dict[str, Any]) -> None:
        self._stream.sendall(json.dumps(message).encode() + b"\r\n")

    def run(self) -> None:
        with self._stream:
            if not self._greets:
                return
            self.say(GREETING)
            for message in self._messages():
                self.got.append(message)
                answer = self.answers.get(message["execute"], {})
                if answer is No.CONNECTION:
                    return
                # the capabilities are negotiated without an id
                self._answer(message["execute"], answer, {"id": message["id"]} if "id" in message else {})

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

    def _answer(self, command: str, answer: Any, number: dict[str, str]) -> None:
        if command in self._events:
            self.say(event(self._events[command]))
        if isinstance(answer, Refused):
            self.say({"error": {"class": answer.kind, "desc": answer.reason}, **number})
        elif answer is not No.ANSWER:
            self.say({"return": answer, **number})
