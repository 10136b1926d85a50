"""Two readers of one page-table entry in the guest: a process that keeps its mapping, and ever new ones.

Both read through guests/guest/probe, whose module makes the entry; a read answers `ok value=0x...` or
`fault error_code=0x...`. Where KVM misses a guest page fault, the two differ.
"""

import time
from dataclasses import dataclass
from typing import Literal

from cpuidlab.base.errors import ClosedError, LabError
from cpuidlab.experiment import guest_exit
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.note import Note
from cpuidlab.rig.streams import ChannelLines

READ_SECONDS = 10.0


_NOTES = {  # whether the old mapping and a new one could be read
    (True, True): Note.NO_FAULT,
    (True, False): Note.MISSED_FAULT,
    (False, False): Note.FAULT,
    (False, True): Note.FAULT_OF_OLD_MAPPING,
}


@dataclass(frozen=True)
class Page:
    """A page that one entry of a guest's page table maps: 2 MiB at level 2, 1 GiB at level 3.

    It lies at a guest-physical `address`, or in memory of the guest's own where that is None. `bits` are set in the
    entry besides.
    """

    level: Literal[2, 3]
    address: int | None = None
    bits: int = 0

    def __str__(self) -> str:
        """The page as guests/guest/probe.c reads it."""
        return f"{self.level} {'ram' if self.address is None else f'{self.address:#x}'} {self.bits:x}"


class PageReaders:
    """Both readers of one page."""

    def __init__(self, guest: Guest, page: Page) -> None:
        """Let the guest run and load the module; the long-lived process maps the page and reads it once."""
        guest.resume()
        self._guest = guest
        self._page = page
        ssh = guest.rig.guest
        ssh.run("[ -e /proc/cpuidprobe ] || insmod /lib/cpuidprobe.ko", guest.deadline)
        self._old = ChannelLines(ssh.open_program(f"probe {page}", guest.deadline), guest.rig.watch)
        guest.write_down(f"mapped: old {self._line()}")

    def read(self, when: str) -> Note:
        """Let both read; return who faulted, and keep the answer of each for the evidence."""
        self._old.send(b"read\n")
        old = self._line()
        new = self._guest.rig.guest.run(f"probe {self._page} </dev/null", self._guest.deadline, check=False).strip()
        self._guest.write_down(f"{when}: old {old}; new {new}")
        return _NOTES[_could_read(old), _could_read(new)]

    def touch(self, when: str) -> Note:
        """Let the guest's kernel itself read through the old mapping, where a fault is an oops; return what came of it.

        The process that holds the mapping does not survive an oops, and cannot be asked again.
        """
        self._old.send(b"touch\n")
        try:
            answer = self._line()
        except ClosedError as error:
            if guest_exit.is_gone(self._guest.rig):
                raise
            answer = f"the process was killed ({error})"
        self._guest.write_down(f"{when}: touched, {answer}")
        return Note.HARMLESS if answer == "ok touched" else Note.KILLED

    def _line(self) -> str:
        return self._old.recv_line(time.monotonic() + READ_SECONDS)


class LastingReader:
    """A process in the guest that keeps its mapping of one page, and lives on when nobody is logged in."""

    _ASK, _SAID = "/run/ask", "/run/said"

    def __init__(self, guest: Guest, page: Page) -> None:
        """Let the guest run and load the module; the process maps the page and reads it once. The VM is stopped then.

        Raises LabError where the page cannot be read.
        """
        self._guest = guest
        self._lines = 0
        guest.resume()
        load = "{ [ -e /proc/cpuidprobe ] || insmod /lib/cpuidprobe.ko; }"
        keep = f"mkfifo {self._ASK} && (sleep 3600 >{self._ASK} &)"
        guest.rig.guest.run(f"{load} && {keep} && (probe {page} <{self._ASK} >{self._SAID} 2>&1 &)", guest.deadline)
        if not _could_read(self._next("mapped")):
            raise LabError("the guest cannot read the page that it has just mapped")
        guest.stop()

    def read(self, when: str) -> Note:
        """Let the process read again in the running guest; return whether it faulted."""
        self._guest.rig.guest.run(f"echo read >{self._ASK}", self._guest.deadline)
        return Note.NO_FAULT if _could_read(self._next(when)) else Note.FAULT

    def _next(self, when: str) -> str:
        """Return the next answer of the process, and keep it for the evidence."""
        self._lines += 1
        command = f"sed -n {self._lines}p {self._SAID} 2>/dev/null"
        ssh, deadline = self._guest.rig.guest, self._guest.deadline
        answer = self._guest.rig.wait(
            "the reader's answer", lambda: ssh.run(command, deadline, check=False).strip() or None
        )
        self._guest.write_down(f"{when}: {answer}")
        return answer


def add_memslot(guest: Guest) -> None:
    """Plug 128 MiB of memory: KVM gets a memslot, and drops its shadow pages with it."""
    execute, deadline = guest.rig.qmp.execute, guest.deadline
    execute("object-add", deadline, qom_type="memory-backend-ram", id="more", size=128 << 20)
    execute("device_add", deadline, driver="pc-dimm", id="dimm", memdev="more")


def drop_shadow_pages(guest: Guest) -> None:
    """Write the other value of nx_huge_pages on the host, which makes KVM drop the shadow pages of every VM."""
    path = "/sys/module/kvm/parameters/nx_huge_pages"
    is_on = guest.rig.host.run(f"cat {path}", guest.deadline).strip() == "Y"
    guest.rig.write_setting(path, "0" if is_on else "1")


def _could_read(answer: str) -> bool:
    if not answer.startswith(("ok ", "fault ")):
        raise LabError(f"a reader in the guest answered neither a value nor a fault: {answer!r}")
    return answer.startswith("ok ")
