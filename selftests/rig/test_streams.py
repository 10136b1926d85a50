"""An SSH channel as a socket and as lines, over a fake channel."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.rig import streams
from cpuidlab.rig.streams import ChannelLines, as_socket
from fakechannel import FakeChannel


def well() -> None:
    """A machine that is well."""


def lost() -> None:
    raise LostVMError("QEMU ended")


def receive(stream: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (piece := stream.recv(65536)):
        got += piece
    return got


def test_bytes_pass_both_ways_whole() -> None:
    channel = FakeChannel()
    with as_socket(channel.as_channel()) as stream:
        stream.settimeout(10)
        data = bytes(range(256)) * 400
        channel.far.sendall(data[:99])
        assert receive(stream, 99) == data[:99]
        stream.sendall(data)
        assert receive(channel.far, len(data)) == data


def test_the_end_of_the_channel_is_the_end_of_the_socket() -> None:
    channel = FakeChannel()
    with as_socket(channel.as_channel()) as stream:
        stream.settimeout(10)
        time.sleep(0.05)  # the other pump waits in recv by now
        channel.far.sendall(b"last")
        channel.far.close()
        assert receive(stream, 99) == b"last"


def test_closing_the_socket_closes_the_channel() -> None:
    channel = FakeChannel()
    as_socket(channel.as_channel()).close()
    assert channel.far.recv(1) == b""
    assert channel.closed


def test_lines_whatever_the_pieces() -> None:
    channel = FakeChannel()
    lines = ChannelLines(channel.as_channel(), well)
    deadline = time.monotonic() + 10
    channel.far.sendall(b"ok one\nok two\nok th")
    assert lines.recv_line(deadline) == "ok one"
    channel.far.sendall(b"r\xffee\n")
    assert [lines.recv_line(deadline) for _ in range(2)] == ["ok two", "ok thr\ufffdee"]
    lines.send(b"list\n")
    assert channel.far.recv(99) == b"list\n"


def test_what_does_not_fit_at_once_is_sent_as_the_other_side_reads() -> None:
    channel = FakeChannel()
    data = bytes(range(256)) * 20_000
    with ThreadPoolExecutor() as pool:
        sent = pool.submit(ChannelLines(channel.as_channel(), well).send, data)
        assert receive(channel.far, len(data)) == data
        sent.result()


def test_an_other_side_that_takes_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SEND_SECONDS", 0.1)
    with pytest.raises(LabError, match="takes nothing more"):
        ChannelLines(FakeChannel().as_channel(), well).send(bytes(5_000_000))


def test_a_silent_hook_is_waited_for_until_the_deadline() -> None:
    channel = FakeChannel()
    channel.far.sendall(b"half a li")
    with pytest.raises(LabError, match="did not answer in time"):
        ChannelLines(channel.as_channel(), well).recv_line(time.monotonic() + 0.1)


def test_a_lost_machine_is_told_instead_of_silence_and_end() -> None:
    channel = FakeChannel()
    lines = ChannelLines(channel.as_channel(), lost)
    with pytest.raises(LostVMError):
        lines.recv_line(time.monotonic() + 60)
    channel.far.close()
    with pytest.raises(LostVMError):
        lines.recv_line(time.monotonic() + 60)
    with pytest.raises(LostVMError):
        lines.send(b"list\n")


def test_the_end_of_the_channel() -> None:
    channel = FakeChannel()
    lines = ChannelLines(channel.as_channel(), well)
    channel.far.close()
    with pytest.raises(LabError, match="closed its connection"):
        lines.recv_line(time.monotonic() + 10)
    with pytest.raises(LabError, match="connection is gone"):
        lines.send(b"list\n")
