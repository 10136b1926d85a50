"""A rig on a real machine. Nothing of the machine is the lab's but the guest, which boots anew for each test."""

import re
from collections.abc import Sequence

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import UnsupportedError
from cpuidlab.kvm import kmsg
from cpuidlab.kvm.kmsg import Record
from cpuidlab.kvm.warning import WARNING_LEVEL, WARNING_LINES
from cpuidlab.rig.boot import run_guest, start_guest
from cpuidlab.rig.guest_config import Profile
from cpuidlab.rig.real_host import RealHost
from cpuidlab.rig.real_setup import RealSetup
from cpuidlab.rig.rig import Rig, Stage

TURN_SECONDS = 400.0  # one test at a time on a machine: how long a test waits until the others are done
CHECK_SECONDS = 20.0  # for the look at the settings after the end
_KVM_PROCESS = re.compile(r"\bkvm \[(\d+)\]: ")
WINDOW_SECONDS = 5.0  # DEFAULT_RATELIMIT_INTERVAL (include/linux/ratelimit_types.h)


class RealRig(Rig):
    """A guest on a real machine; `host` is the machine itself."""

    def __init__(self, setup: RealSetup, host: RealHost, deadline: Deadline) -> None:
        """Take over a machine on which it is this job's turn."""
        super().__init__(setup, host, host.layout, deadline)
        self.real_host = host
        self._threads: set[int] = set()  # of the guest's QEMU, as the machine numbers them
        self.log_refused = host.log_refused

    @property
    def host(self) -> RealHost:
        """The machine: programs and files there."""
        return self.real_host

    def launch(self, profile: Profile) -> None:
        """Start the guest's QEMU in the private network."""
        script = f"cd {self.layout.folder}\n{profile.start_command(self.layout)}\nwait\n"
        self.real_host.start_script(script, self.deadline)

    def write_setting(self, path: str, value: str) -> None:
        """Write a setting of the machine's kernel; it is put back at the end. UnsupportedError without the right."""
        self.real_host.write_setting(path, value, self.deadline)

    def await_quiet_log(self) -> None:
        """Wait until an earlier test's warning lines no longer count in the kernel's rate limit."""
        records = kmsg.parse(self.files()["host-log"])
        lines = [line for text in WARNING_LINES for line in kmsg.matching(records, text, WARNING_LEVEL)]
        if not lines:
            return
        uptime = float(self.real_host.run("cat /proc/uptime", self.deadline).split()[0])
        passed = uptime - max(line.seconds for line in lines)
        self.deadline.within(max(WINDOW_SECONDS - passed, 0.0)).sleep()

    def note_threads(self) -> None:
        """Note the threads of the guest's QEMU: what KVM logs may name them after their end."""
        self._threads |= self.real_host.threads(self.deadline)

    def foreign_line(self, log: Sequence[Record]) -> str | None:
        """Return a line of KVM's that names a process which is not this test's."""
        self.note_threads()
        for record in log:
            named = _KVM_PROCESS.search(record.text)
            if named and int(named[1]) not in self._threads:
                return record.text
        return None

    def settings_text(self) -> str:
        """Say which settings of the machine were changed, and that they are back; after `close`."""
        return self.real_host.settings_text(Deadline.after(CHECK_SECONDS))


def open_real_rig(setup: RealSetup, stage: Stage, profile: Profile, seconds: float) -> RealRig:
    """Return a running rig on a real machine, its guest booted by now; the deadline begins with this job's turn.

    Raises UnsupportedError where the machine cannot do what the setup says, LabError where it fails.
    """
    if setup.mismatch:
        raise UnsupportedError(setup.mismatch)
    host = RealHost.start(setup.reach, setup.cargo, Deadline.after(TURN_SECONDS))
    rig = RealRig(setup, host, Deadline.after(seconds))
    try:
        rig.await_quiet_log()
        if stage != Stage.HOST_READY:
            start_guest(rig, profile)
            rig.note_threads()
        if stage == Stage.GUEST_READY:
            run_guest(rig)
    except BaseException:
        rig.close()
        raise
    return rig
