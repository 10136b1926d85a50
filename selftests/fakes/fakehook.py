"""The hook's library in a stand-in for QEMU on a stand-in for KVM, and streams that need neither."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cpuidlab.base.errors import LabError
from cpuidlab.kvm.cpuid import Entry
from cpuidlab.kvm.hook import Hook
from cpuidlab.kvm.hook_answers import Answer
from cpuidlab.kvm.hook_log import parse_log
from cpuidlab.rig.images import HOOK, HOOK_FLAGS

HERE = Path(__file__).parent
STRICT = ("-Wall", "-Wextra", "-Werror", "-O2", "-pthread")
REPORT = "w 0 mp_state+events+regs+sregs+xcrs+xsave+debugregs+msr 4 1 2 1"  # of a call that changed nothing
QEMUS_MODEL = tuple(Entry(i, 0, 0, 100 + i, 0, 0, 0) for i in range(3))


class SocketStream:
    """The hook's socket without anything between."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self._file = self.socket.makefile("r")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def recv_line(self, deadline: float) -> str:
        self.socket.settimeout(deadline - time.monotonic())
        line = self._file.readline()
        if not line:
            raise LabError("the stream ended")
        return line.removesuffix("\n")


class FakeQemu:
    """The stand-in for QEMU with the hook in it; `vm` has been created."""

    def __init__(self, built: Path, folder: Path, **kvm: str) -> None:
        self.socket, self.log = folder / "hook.sock", folder / "hook.log"
        preload = f"{built / 'cpuidhook.so'}:{built / 'fakekvm.so'}"
        env = os.environ | {"LD_PRELOAD": preload, "CPUIDHOOK_SOCKET": str(self.socket), "CPUIDHOOK_LOG": str(self.log)}
        self.process = subprocess.Popen(
            [str(built / "fakeqemu")], env=env | kvm, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.do("vm")

    def do(self, command: str) -> Answer:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        ret, errno = self.process.stdout.readline().split()
        return Answer(int(ret), int(errno))

    def client(self) -> Hook:
        return Hook(SocketStream(self.socket))

    def events(self) -> list[str]:
        return [f"{event.kind} {event.by or ''} {event.vcpu}" for event in parse_log(self.log.read_text())]

    def runs(self) -> int:
        """Calls of KVM_RUN so far."""
        return sum(vcpu.runs for vcpu in self.client().list())

    def start(self, vcpu: int = 0) -> None:
        """Start the vCPU's thread and wait until it has called KVM_RUN."""
        before, end = self.runs(), time.monotonic() + 10
        self.do(f"start {vcpu}")
        while self.runs() == before:
            assert time.monotonic() < end
            time.sleep(0.005)


def compiled(out: Path, **changed: str) -> Path:
    """Compile the hook and the stand-ins into `out`. `changed` is another text for a source, as `sweep="..."`."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    sources = shutil.copytree(HOOK, out / "hook")
    for name, text in changed.items():
        (sources / f"{name}.c").write_text(text)
    for command in (
        ("cc", "-std=gnu11", *STRICT, "-o", "cpuidhook.so", *sorted(sources.glob("*.c")), *HOOK_FLAGS),
        ("cc", *STRICT, "-shared", "-fPIC", "-o", "fakekvm.so", HERE / "fakekvm.c"),
        ("cc", *STRICT, "-o", "fakeqemu", HERE / "fakeqemu.c"),
    ):
        subprocess.run(command, cwd=out, check=True)
    return out


@contextmanager
def qemu(built: Path, folder: Path, **kvm: str) -> Iterator[FakeQemu]:
    fake = FakeQemu(built, folder, **kvm)
    try:
        yield fake
    finally:
        fake.process.kill()
        fake.process.communicate()


class Script:
    """A stream that says what it is told to say."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)

    def send(self, data: bytes) -> None:
        pass

    def recv_line(self, deadline: float) -> str:
        if not self.lines:
            raise LabError("the stream ended")
        return self.lines.pop(0)
