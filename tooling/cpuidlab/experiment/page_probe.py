"""Two observers of one page-table entry in the guest: a process that keeps its mapping, and ever new ones.

Both read through guests/guest/probe, whose module makes the entry; a read answers `ok value=0x...` or
`fault error_code=0x...`. Where KVM misses a guest page fault, the two differ.
"""

import time

from cpuidlab.base.errors import ClosedError, LabError
from cpuidlab.experiment import guest_exit
from cpuidlab.experiment.experiment import Story
from cpuidlab.rig.streams import ChannelLines

READ_SECONDS = 10.0


class Observers:
    """Both observers of one page, as `probe` takes it: level, address or `ram`, further bits."""

    def __init__(self, story: Story, page: str) -> None:
        """Load the module and let the long-lived process map and read; the VM must run."""
        self._story = story
        self._page = page
        guest = story.rig.guest
        guest.run("[ -e /proc/cpuidprobe ] || insmod /lib/cpuidprobe.ko", story.deadline)
        self._old = ChannelLines(guest.open_program(f"probe {page}", story.deadline), story.rig.watch)
        story.readings.append(f"mapped: old {self._line()}")

    def read(self, when: str) -> str:
        """Let both read; return who faulted in a few words, and keep what each answered for the evidence."""
        self._old.send(b"read\n")
        old = self._line()
        new = self._story.rig.guest.run(f"probe {self._page} </dev/null", self._story.deadline, check=False).strip()
        self._story.readings.append(f"{when}: old {old}; new {new}")
        return {
            (True, True): "no fault",
            (True, False): "missed fault",
            (False, False): "fault",
            (False, True): "fault of the old mapping alone",
        }[_ok(old), _ok(new)]

    def touch(self, when: str) -> str:
        """Let the guest's kernel itself read through the old mapping, where a fault is an oops; return what came of it.

        The process that holds the mapping does not survive an oops, and cannot be asked again.
        """
        self._old.send(b"touch\n")
        try:
            answer = self._line()
        except ClosedError as error:
            if guest_exit.is_gone(self._story.rig):
                raise
            answer = f"the process was killed ({error})"
        self._story.readings.append(f"{when}: touched, {answer}")
        return "harmless" if answer == "ok touched" else "killed"

    def _line(self) -> str:
        return self._old.recv_line(time.monotonic() + READ_SECONDS)


def add_memslot(story: Story) -> None:
    """Plug 128 MiB of memory: KVM gets a memslot, and drops its shadow pages with it."""
    execute, deadline = story.rig.qmp.execute, story.deadline
    execute("object-add", deadline, qom_type="memory-backend-ram", id="more", size=128 << 20)
    execute("device_add", deadline, driver="pc-dimm", id="dimm", memdev="more")


def drop_shadow_pages(story: Story) -> None:
    """Write the other value of nx_huge_pages on the host, which makes KVM drop the shadow pages of every VM."""
    path = "/sys/module/kvm/parameters/nx_huge_pages"
    flip = f"[ $(cat {path}) = Y ] && echo 0 >{path} || echo 1 >{path}"
    story.rig.host.run(flip, story.deadline)


def _ok(answer: str) -> bool:
    if not answer.startswith(("ok ", "fault ")):
        raise LabError(f"an observer in the guest told neither a value nor a fault: {answer!r}")
    return answer.startswith("ok ")
