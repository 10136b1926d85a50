"""Wait until a machine is idle, before it is saved: each restore would do its unfinished work anew."""

import time

from cpuidlab.base.deadline import Deadline
from cpuidlab.rig.vm_process import VmProcess

SECONDS = (0.5, 5.0)  # how long a machine must rest before it is saved, and how long we wait for that at most
SHARE = 0.2  # of a processor: what two idle kernels take


def wait_for_rest(process: VmProcess, deadline: Deadline) -> None:
    """Wait until the process takes less than SHARE of a processor; a machine that never rests is saved as it is."""
    least, most = SECONDS
    patience = deadline.within(most)
    share = 1.0
    while share > SHARE and patience.left():
        before, began = process.cpu_seconds(), time.monotonic()
        patience.pause(least)
        share = (process.cpu_seconds() - before) / (time.monotonic() - began)
