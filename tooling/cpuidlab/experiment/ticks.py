"""The guest's own view of its timers: how late does each fire while calls are made, and without any?

guests/guest/ticks.c waits for timers on chosen CPUs. Meanwhile the guest gets no packet from us: a packet brings an
interrupt, and after any interrupt a guest sees which timers are due, and misses no lost one.
"""

import time
from collections.abc import Callable, Sequence
from math import inf
from statistics import median

from cpuidlab.base.errors import ClosedError, LabError, LostVMError
from cpuidlab.experiment.calls import Calls
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.note import Note
from cpuidlab.rig.streams import ChannelLines

ROUNDS = 3
CYCLES = 3  # how often all calls are made in a round
PAUSE_SECONDS = 0.1  # between them
PERIOD_MS, TICKS = 100, 10
REST_SECONDS = PERIOD_MS * TICKS / 1000 + 0.3  # longer than all timers take from any moment of a round
LINE_SECONDS = 5.0  # for the program to begin, and to end once all its timers must have fired
# A lost timer is late by the rest of the round, more than a second, or for ever: a kernel that waits for its interrupt
# does not set it again. A busy machine delays timers without calls too.
LATE_SECONDS = 0.7


def note_timers(
    guest: Guest, *kinds: Calls, times: int = 1, live: bool = False, cpus: Sequence[int] | None = None
) -> None:
    """Make all calls while timers of the guest's CPUs are pending, some rounds, and note whether timers come late.

    Rounds without calls come first. The VM is stopped for the calls, and running where they are `live`; with `cpus`
    only the timers of those count. Leaves the VM running. Raises LabError where timers are late without calls.
    """
    chosen = guest.vcpus if cpus is None else tuple(cpus)
    without = [_round(guest, chosen, lambda: _call(guest, (), times, live)) for _ in range(ROUNDS)]
    late: list[float] = []
    for _ in range(ROUNDS):
        late.append(_round(guest, chosen, lambda: _call(guest, kinds, times, live), dead=inf in late))
    told = f"timers were late by at most {_words(late)} with calls, {_words(without)} without"
    guest.write_down(told)
    if are_late(late, without):
        guest.note(Note.TIMERS_LATE, told)
    else:
        guest.note(Note.TIMERS_ON_TIME)


def are_late(with_calls: Sequence[float], without: Sequence[float]) -> bool:
    """Whether timers are late by the calls: in most rounds later than in any round without, by far.

    `with_calls` and `without` have the latest timer of each round. Raises LabError where they are late without calls.
    """
    if median(without) > LATE_SECONDS:
        raise LabError(f"the guest's timers are late without any call, by {_words(without)}: the machine is too busy")
    return median(with_calls) > max(without) + LATE_SECONDS


def latest(lines: Sequence[str], cpus: Sequence[int]) -> float:
    """Return by how many seconds the latest timer was late. Raises LabError where ticks.c did not tell of each."""
    try:
        told = {int(words[0]): [int(word) for word in words[1:]] for words in map(str.split, lines)}
        counts = [len(told[cpu]) for cpu in cpus]
    except (ValueError, IndexError, KeyError) as error:
        raise LabError(f"the guest's ticks are garbled: {error!r}", "\n".join(lines)) from error
    if counts != [TICKS] * len(cpus):
        raise LabError(f"the guest told of {counts} timers instead of {TICKS} on each of its CPUs", "\n".join(lines))
    return max(max(told[cpu]) for cpu in cpus) / 1e6


def _call(guest: Guest, kinds: Sequence[Calls], times: int, live: bool) -> None:
    if not live:
        guest.stop()
    for kind in kinds:
        kind.make(guest, times, live=live)
    if not live:
        guest.resume()


def _round(guest: Guest, cpus: Sequence[int], call: Callable[[], None], *, dead: bool = False) -> float:
    """Let timers be pending and call, and send no packet before all must have fired; return how late the latest was.

    That is for ever where one does not fire at all. A `dead` guest, with such a timer, need not start a program.
    """
    guest.resume()
    ssh = guest.rig.guest
    command = f"ticks {PERIOD_MS} {TICKS} {' '.join(str(cpu) for cpu in cpus)}"
    try:
        patience = guest.deadline.within(LINE_SECONDS)
        program = ChannelLines(ssh.open_program(command, patience), guest.rig.watch)
        begun = _line(program)
    except (ClosedError, LostVMError):
        raise
    except LabError:
        if dead:
            return inf
        raise
    if begun != "armed":
        raise LabError(f"the guest's ticks could not begin: {begun}")
    with ssh.silence():
        for _ in range(CYCLES):
            call()
            guest.wait(PAUSE_SECONDS)
        guest.wait(REST_SECONDS)
    try:
        ssh.run("ticks 0 0", guest.deadline.within(LINE_SECONDS), check=False)  # wakes a CPU that nothing wakes
        lines = [_line(program) for _ in cpus]
    except (ClosedError, LostVMError):
        raise
    except LabError:
        return inf
    return latest(lines, cpus)


def _words(late: Sequence[float]) -> str:
    return ", ".join("for ever" if one == inf else f"{one:.3f} s" for one in late)


def _line(program: ChannelLines) -> str:
    return program.recv_line(time.monotonic() + LINE_SECONDS)
