"""A program's streams and its exit code, on a host that is this machine."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile
from types import SimpleNamespace
from typing import IO, Any

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.commands import conversation
from cpuidlab.commands.conversation import Descriptor, converse
from fakehost import FakeHost


def well() -> None:
    """A machine that is well."""


def lost() -> None:
    raise LostVMError("QEMU ended")


@pytest.fixture
def files() -> Iterator[tuple[IO[bytes], IO[bytes], IO[bytes]]]:
    with TemporaryFile() as stdin, TemporaryFile() as stdout, TemporaryFile() as stderr:
        yield stdin, stdout, stderr


def talk(files: tuple[IO[bytes], ...], home: Path, command: str, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    files[0].write(stdin)
    files[0].seek(0)
    source = Descriptor(files[0].fileno())
    channel = FakeHost(home).open_program(command, Deadline.after(10))
    code = converse(channel, source, files[1].fileno(), files[2].fileno(), well)
    for file in files:
        file.seek(0)
    return code, files[1].read(), files[2].read()


def test_streams_stay_apart_and_the_code_comes_back(files: Any, tmp_path: Path) -> None:
    told = talk(files, tmp_path, "read a; echo out $a; echo err >&2; exit 3", b"in\n")
    assert told == (3, b"out in\n", b"err\n")


def test_all_bytes_pass_both_ways_without_a_deadlock(files: Any, tmp_path: Path) -> None:
    data = os.urandom(3_000_000)
    assert talk(files, tmp_path, "cat", data) == (0, data, b"")


def test_a_program_that_writes_before_it_reads(files: Any, tmp_path: Path) -> None:
    code, out, _ = talk(files, tmp_path, "head -c 900000 /dev/zero; cat", b"x" * 900_000)
    assert (code, len(out), out.count(b"x")) == (0, 1_800_000, 900_000)


def test_input_that_the_program_does_not_read(files: Any, tmp_path: Path) -> None:
    assert talk(files, tmp_path, "head -c 3", b"x" * 500_000) == (0, b"xxx", b"")


def test_an_input_that_goes_on_does_not_keep_it(tmp_path: Path) -> None:
    """As a terminal's, or a pipe's whose writer lives on."""
    read, write = os.pipe()
    with TemporaryFile() as out:
        channel = FakeHost(tmp_path).open_program("echo done", Deadline.after(10))
        started = time.monotonic()
        assert converse(channel, Descriptor(read), out.fileno(), out.fileno(), well) == 0
        assert time.monotonic() - started < 5
    os.close(read)
    os.close(write)


def test_a_machine_that_ends_ends_the_wait(files: Any, tmp_path: Path) -> None:
    channel = FakeHost(tmp_path).open_program("sleep 60", Deadline.after(10))
    with pytest.raises(LostVMError, match="QEMU ended"):
        converse(channel, Descriptor(files[0].fileno()), files[1].fileno(), files[2].fileno(), lost)
    channel.process.kill()


@pytest.mark.parametrize(("look", "error"), [(well, "before the program's exit code"), (lost, "QEMU ended")])
def test_a_connection_that_ends_first(look: Any, error: str, files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation, "LOST_SECONDS", 0.1)
    silent = {"recv_ready": lambda: False, "recv_stderr_ready": lambda: False, "recv_exit_status": lambda: -1}
    channel: Any = SimpleNamespace(closed=True, **silent)
    with pytest.raises(LabError, match=error):
        converse(channel, Descriptor(files[0].fileno()), files[1].fileno(), files[2].fileno(), look)


def test_output_that_comes_between_two_looks_is_not_lost() -> None:
    """The thread of the connection takes in output, end and exit code at any moment, also within one look."""

    class Racing:
        closed = eof_received = False

        def recv_ready(self) -> bool:
            ready, self.closed, self.eof_received = self.closed, True, True
            return ready

        def recv_stderr_ready(self) -> bool:
            return False

        def exit_status_ready(self) -> bool:
            return self.closed

    racing: Any = Racing()
    assert not conversation._has_ended(racing)
    racing.recv_ready()
    assert not conversation._has_ended(racing)
