"""The logs of a rig: each reading is parsed once, and only what came after the test's marks counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cpuidlab.kvm import hook_log, kmsg
from cpuidlab.kvm.hook_answers import Answer
from cpuidlab.kvm.hook_log import HookEvent, parse_log
from cpuidlab.kvm.kmsg import Record
from cpuidlab.rig.rig import Rig


@dataclass(frozen=True)
class RigLogs:
    """One reading of the files that `Rig.files` names. A mark is the last record, or the number of events, before it.

    What is parsed is parsed when it is first needed: the hook's log can be trusted where the host's log is garbled.
    """

    files: Mapping[str, str]
    host_mark: int = -1
    hook_mark: int = 0

    @cached_property
    def host(self) -> tuple[Record, ...]:
        """What the host's kernel has logged since the mark, of what happened since then: a real machine's log goes on.

        Raises LabError where the log is garbled or has holes.
        """
        return kmsg.without_earlier_notes(kmsg.since(kmsg.parse(self.files["host-log"]), self.host_mark))

    @cached_property
    def hook(self) -> tuple[HookEvent, ...]:
        """What the hook has logged since the mark. Raises LabError where its log is garbled."""
        return parse_log(self.files["hook-log"])[self.hook_mark :]

    @property
    def sets(self) -> tuple[HookEvent, ...]:
        """Every KVM_SET_CPUID and KVM_SET_CPUID2 since the mark, but those of a sweep."""
        return tuple(event for event in self.hook if event.kind.startswith("set_cpuid"))

    @property
    def sets_by_qemu(self) -> tuple[tuple[int, Answer], ...]:
        """KVM's answer to each set of QEMU's own since the mark, and its vCPU.

        Raises LabError where a report on what a set did to a vCPU that has run is garbled or not whole.
        """
        return tuple(hook_log.sets_by_qemu(self.hook))

    @property
    def sregs_refused(self) -> bool:
        """Whether KVM has refused a KVM_SET_SREGS or KVM_SET_SREGS2 of QEMU's since the mark."""
        return any(event.kind == "sregs_refused" for event in self.hook)

    @property
    def sweeps(self) -> tuple[HookEvent, ...]:
        """Every sweep since the mark: one event tells of all its calls."""
        return tuple(event for event in self.hook if event.kind == "sweep")

    @property
    def guest_console(self) -> str:
        """All that the guest has printed on its console."""
        return self.files["guest-console"]

    @property
    def qemu_stderr(self) -> str:
        """All that the guest's QEMU has printed."""
        return self.files["qemu-stderr"]

    @property
    def qemu_exit(self) -> str:
        """The exit code of the guest's QEMU; empty while it runs."""
        return self.files["qemu-exit"].strip()


class LogReader:
    """Reads the logs of one rig, and keeps the last reading. Its marks stand at the end of the logs as they are now."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        now = RigLogs(rig.files())
        self._host_mark = kmsg.mark(kmsg.parse(now.files["host-log"]))
        self._hook_mark = len(now.hook)
        self.last = RigLogs(now.files, self._host_mark, self._hook_mark)

    def read(self) -> RigLogs:
        """Read the logs anew."""
        self.last = RigLogs(self._rig.files(), self._host_mark, self._hook_mark)
        return self.last
