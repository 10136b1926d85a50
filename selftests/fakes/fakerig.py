"""A rig without machines: its KVM answers as it is told, its guest is healthy until a test says otherwise.

Everything that is asked of the rig stands in `log`, in its order.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

from cpuidlab.base import deadline
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, LostVMError
from cpuidlab.experiment.guest import Guest
from cpuidlab.kvm.cpuid import Entry, Model
from cpuidlab.kvm.hook_answers import Answer, Row, State, Vcpu, Where
from cpuidlab.kvm.vcpu_state import Difference
from cpuidlab.rig.console import PANIC
from cpuidlab.rig.guest_config import NESTED, PROFILES, Profile
from cpuidlab.rig.rig import GuestMark, GuestStart, Rig, RigFacts
from fakebarevm import FakeBareVm
from fakechannel import FakeChannel
from models import EPYC

# query-hotpluggable-cpus of -smp 2,maxcpus=4: the highest first, a qom-path only where a CPU is plugged
SLOTS = [
    {"type": "host-x86_64-cpu", "vcpus-count": 1, "props": {"socket-id": 0, "core-id": core, "thread-id": 0}}
    | ({"qom-path": f"/machine/unattached/device[{core}]"} if core < 2 else {})
    for core in (3, 2, 1, 0)
]
MARK = GuestMark(uptime=20.0, kmsg=100)
PROBE_RECORD = "6,100,5000000,-;the last record before the mark"


def event(name: str, seconds: float = 100.0, **data: object) -> dict[str, Any]:
    """An event as QMP sends it."""
    whole, part = divmod(seconds, 1)
    return {"event": name, "timestamp": {"seconds": int(whole), "microseconds": round(part * 1e6)}, "data": data}


@dataclass
class FakeProgram:
    """A program in the guest: what it prints, or the error with which nobody learns that."""

    output: str | Exception

    def end(self, _: Deadline) -> str:
        if isinstance(self.output, Exception):
            raise self.output
        return self.output


class FakeSsh:
    """Answers a command with the text of the first part that the command contains; its programs are fake channels."""

    def __init__(self, log: list[str]) -> None:
        self._log = log
        self.answers: dict[str, str | Exception] = {}
        self.channel = FakeChannel()

    def _answer(self, command: str) -> str | Exception:
        self._log.append(command)
        return next((text for part, text in self.answers.items() if part in command), "")

    def run(self, command: str, _: Deadline, check: bool = True) -> str:
        answer = self._answer(command)
        if isinstance(answer, Exception):
            if check:
                raise answer
            return ""
        return answer

    def start(self, command: str, _: Deadline) -> FakeProgram:
        return FakeProgram(self._answer(command))

    def open_program(self, command: str, _: Deadline) -> FakeChannel:
        self._log.append(command)
        return self.channel

    @contextmanager
    def silence(self) -> Iterator[None]:
        self._log.append("silence")
        yield
        self._log.append("no silence")


@dataclass
class ScriptedQmp:
    """Sends the event that a command is followed by, where it is not `silent`.

    `dies_at` is the command that QEMU does not survive, `refuses` one that it refuses, `status` what query-status
    returns, `registers` what `info registers -a` shows.
    """

    log: list[str]
    plug: Callable[[int], None]
    dies_at: str = ""
    refuses: str = ""
    silent: bool = False
    status: str = "paused"
    registers: str = ""
    ended: bool = False
    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    transcript: list[str] = field(default_factory=lambda: ["-> {}", "<- {}"])

    def execute(self, command: str, _: Deadline, **arguments: Any) -> Any:
        self.log.append(command)
        words = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.sent.append((command, words))
        if command == self.dies_at or self.ended:
            self.ended = True
            raise LostVMError(f"QMP broke off during {command}")
        if command == self.refuses:
            raise LabError(f"QMP {command} was refused")
        name = {"system_reset": "RESET", "device_del": "DEVICE_DELETED"}.get(command)
        if name and not self.silent:
            self.events.append(event(name))
        if command == "device_add" and "core-id" in words:
            self.plug(words["core-id"])
        if command == "human-monitor-command":
            return self.registers
        return {"query-hotpluggable-cpus": SLOTS, "query-status": {"status": self.status}}.get(command)

    def watch(self) -> None:
        if self.ended:
            raise LostVMError("the QMP connection has ended")

    def seen(self, name: str) -> dict[str, Any] | None:
        return next((seen for seen in self.events if seen["event"] == name), None)

    def tail(self) -> str:
        return "the transcript"


class FakeHook:
    """vCPUs whose KVM refuses every set with `errno`, or accepts it and logs `lines` where the vCPU has run.

    `looks` are what each vCPU shows at each look at where it is, or the error instead; without them it rests. `touches`
    is what each set changes in the state of the vCPUs.
    """

    def __init__(self, log: list[str], vcpus: Sequence[int], has_run: bool) -> None:
        self._log = log
        self.models: dict[int, Model] = dict.fromkeys(vcpus, EPYC)
        self.has_run = dict.fromkeys(vcpus, has_run)
        self.errno = 0
        self.lines: Sequence[str] = ()
        self.events: list[str] = []
        self.host_lines: list[str] = []
        self.get_fails: Exception | None = None
        self.looks: dict[int, list[Where | Exception]] = {}
        self.touches: tuple[Difference, ...] = ()
        self.call_seconds: Callable[[int], float] = lambda _: 4e-6  # one call of a row, by its errno

    def list(self) -> tuple[Vcpu, ...]:
        return tuple(Vcpu(vcpu, 9, len(EPYC), self.has_run[vcpu], 5) for vcpu in self.models)

    def get(self, vcpu: int) -> Model:
        if self.get_fails:
            raise self.get_fails
        return self.models[vcpu]

    def where(self, vcpu: int, *, live: bool = False, seconds: float = 10) -> Where:
        look = self.looks[vcpu].pop(0) if self.looks.get(vcpu) else Where(0, 0, runs=False)
        if isinstance(look, Exception):
            raise look
        return look

    def set(self, vcpu: int, model: Model, call: int = 2, nent: int | None = None, *, live: bool = False) -> Answer:
        self._log.append(f"{'live ' if live else ''}set {vcpu} by {call}")
        return self.answered(vcpu, model, self.errno if nent is None else 7)

    def set_bad_pointer(self, vcpu: int, call: int = 2, nent: int | None = None) -> Answer:
        self._log.append(f"bad {'pointer' if nent is None else f'{nent} entries'} {vcpu} by {call}")
        return self.answered(vcpu, self.models[vcpu], 14)

    def set_row(
        self,
        calls: int,
        vcpu: int,
        model: Model | None,
        call: int = 2,
        nent: int | None = None,
        *,
        live: bool,
        seconds: float,
    ) -> Row:
        what = "unreadable" if model is None else "set"
        self._log.append(f"{'live ' if live else ''}{calls} times {what} {vcpu} by {call}")
        errno = 14 if model is None else self.errno if nent is None else 7
        answer = self.answered(vcpu, self.models[vcpu] if model is None else model, errno)
        made = min(calls, int(seconds / self.call_seconds(errno)) or 1)
        self.events[-1] = self.events[-1].replace("\n", f" times={made}\n")
        return Row(answer, made, None, *(self.call_seconds(errno),) * 4)

    def load_l2(self, vcpu: int) -> None:
        self._log.append(f"l2 {vcpu}")

    def answered(self, vcpu: int, model: Model, errno: int, by: str = "hook") -> Answer:
        if not errno:
            self.models[vcpu] = tuple(Entry(*(*_words(entry), (0, 0, 0))) for entry in model)
            self.host_lines += self.lines if self.has_run[vcpu] else ()
        ret = -1 if errno else 0
        self.events.append(f"1.000000000 set_cpuid2 by={by} vcpu={vcpu} nent={len(model)} ret={ret} errno={errno}\n")
        return Answer(ret, errno, self.touches)

    def state(self, vcpu: int, which: State) -> str:
        return f"the state of vCPU {vcpu} {which} set {len(self.events)}\n"


def _words(entry: Entry) -> tuple[int, ...]:
    return entry.function, entry.index, entry.flags, entry.eax, entry.ebx, entry.ecx, entry.edx


class FakeRig:
    """The rig; `login_fails` is what a login to the guest comes to, `host_lost` whether the host is gone.

    With `dies` the guest ends by a triple fault 0.4 s after it is let run with something set.
    """

    def __init__(self, *, has_run: bool = True, vcpus: Sequence[int] = (0, 1), seconds: float = 10) -> None:
        self.log: list[str] = []
        self.deadline = Deadline.after(seconds)
        self.guest_mark = MARK if has_run else GuestMark(0.0, -1)
        self.profile: Profile | None = PROFILES["small"]
        self.layout = NESTED
        self.hook = FakeHook(self.log, vcpus, has_run)
        self.qmp = ScriptedQmp(self.log, self._plug)
        self.guest, self.host = FakeSsh(self.log), FakeSsh(self.log)
        self.guest.answers["health "] = ""  # of the rig itself, see `login`
        self.machine = SimpleNamespace(watch=self._watch_host, console=lambda: "LAB: host up\n")
        self.host_lost = self.dies = False
        self.login_fails: Exception | None = None
        self.program: str | Exception | None = None  # what the health program prints, where it is not healthy
        self.stop_fails: Exception | None = None
        self.texts = {"guest-console": "LAB: guest up\n", "qemu-stderr": "", "qemu-exit": ""}
        self.guest_log = [PROBE_RECORD]
        self.bare = FakeBareVm({})
        self.readings = 0

    def as_rig(self) -> Rig:
        return cast(Rig, self)

    def end_qemu(self, exit_code: int = 0, stderr: str = "", *events: dict[str, Any]) -> None:
        """Let the guest's QEMU end, after these events."""
        self.qmp.events += events
        self.qmp.ended = True
        self.texts |= {"qemu-exit": f"{exit_code}\n", "qemu-stderr": stderr}

    user = "root"
    log_refused = no_linux = ""

    def seen(self, name: str) -> dict[str, Any] | None:
        return self.qmp.seen(name)

    @property
    def qmp_transcript(self) -> list[str]:
        return self.qmp.transcript

    def open_barevm(self) -> FakeBareVm:
        return self.bare

    def write_setting(self, path: str, value: str) -> None:
        self.log.append(f"{path} becomes {value}")

    def facts(self) -> RigFacts:
        return RigFacts(GuestStart.RESTORED)

    def foreign_line(self, log: object) -> str | None:
        return None

    def panic(self) -> str | None:
        panic = PANIC.search(self.texts["guest-console"])
        return panic[0].strip() if panic else None

    def files(self) -> dict[str, str]:
        self.readings += 1
        records = ["boot", *self.hook.host_lines]
        log = "".join(f"4,{number},{number},-;{text}\n" for number, text in enumerate(records))
        return {**self.texts, "host-log": log, "hook-log": "".join(self.hook.events)}

    def stop(self) -> None:
        self.log.append("stop")
        self.qmp.watch()
        if self.stop_fails:
            raise self.stop_fails

    def resume(self) -> None:
        self.log.append("resume")
        if self.dies and self.hook.events:
            self.hook.events.append("2.000000000 shutdown vcpu=0\n")
            self.end_qemu(0, "", event("RESUME", 100.0), event("SHUTDOWN", 100.4, reason="guest-reset"))

    def login(self, _: Deadline) -> FakeSsh:
        self.log.append("login")
        if self.login_fails:
            raise self.login_fails
        self.guest.answers["health "] = self.health() if self.program is None else self.program
        return self.guest

    def wait(self, what: str, look: Callable[[], Any]) -> Any:
        return deadline.wait_for(what, look, self.deadline, self._watch_host)

    def watch(self) -> None:
        self._watch_host()
        self.qmp.watch()

    def health(self) -> str:
        """What the health program prints of a healthy guest."""
        cpus = range(len(self.hook.models))
        models = [self.hook.models[vcpu] for vcpu in sorted(self.hook.models)]
        return "\n".join(
            (
                "== uptime", "30.5", "== work", *(f"{cpu} 0 done" for cpu in cpus), "== cpuid",
                *(f"CPU {cpu}:\n{_seen(model)}" for cpu, model in enumerate(models)),
                "== uptime", "31.0", "== kmsg", *self.guest_log, "== end", "",
            )
        )  # fmt: skip

    def _plug(self, vcpu: int) -> None:
        """As QEMU does: a parked vCPU is used again, a new one has never run."""
        self.hook.models.setdefault(vcpu, EPYC)
        self.hook.has_run.setdefault(vcpu, False)
        self.hook.answered(vcpu, self.hook.models[vcpu], self.hook.errno, by="qemu")

    def _watch_host(self) -> None:
        if self.host_lost:
            raise LostVMError("the host is gone")


def _seen(model: Model) -> str:
    return "\n".join(
        f"   0x{entry.function:08x} 0x{entry.index:02x}: eax=0x{entry.eax:08x} ebx=0x{entry.ebx:08x}"
        f" ecx=0x{entry.ecx:08x} edx=0x{entry.edx:08x}"
        for entry in model
    )


def guest_on(rig: FakeRig) -> Guest:
    """The guest of that rig; what was asked of the rig for it is not in the log."""
    guest = Guest(rig.as_rig())
    rig.log.clear()
    return guest


@contextmanager
def opened(rig: FakeRig) -> Any:
    """Stands for `open_rig`."""
    yield rig
