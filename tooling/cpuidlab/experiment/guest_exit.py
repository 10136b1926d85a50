"""How a guest ended: read from three witnesses, QEMU's exit, its SHUTDOWN event and the hook's log."""

import re
from collections import Counter
from collections.abc import Sequence

from cpuidlab.base.command import last_line
from cpuidlab.base.deadline import Deadline, wait_for
from cpuidlab.base.errors import ClosedError, LabError, LostVMError
from cpuidlab.experiment.observation import Fate
from cpuidlab.experiment.rig_logs import LogReader, RigLogs
from cpuidlab.kvm.hook_answers import Where
from cpuidlab.kvm.hook_log import HookEvent
from cpuidlab.rig.rig import Rig

STUCK_LOOKS = 12
STUCK_LEAST = 9
STUCK_PLACES = 3
STUCK_LOOK_SECONDS = 0.15
STUCK_ANSWER_SECONDS = 1.0  # for one look at one vCPU
# ends of KVM_RUN in the hook's log after which QEMU may stop the VM, and what QEMU prints then
GIVEN_UP = {
    "internal_error": "KVM_EXIT_INTERNAL_ERROR",
    "fail_entry": "KVM_EXIT_FAIL_ENTRY",
    "run_failed": "KVM_RUN failed",
}
_GIVEN_UP_WORDS = re.compile(
    r"^(?:KVM internal error|KVM: entry failed|error: kvm run failed)[^\r\n]*(?:\r?\nemulation failure)?", re.MULTILINE
)
# "Bad pagetable" is how x86 names the oops of a reserved bit (pgtable_bad in arch/x86/mm/fault.c)
_LAST_WORDS = re.compile(r"\] ((?:BUG: |Kernel panic|#PF: error_code|Oops: |Bad pagetable: )[^\r\n]*)")


def is_gone(rig: Rig) -> bool:
    """Whether the guest's QEMU has closed QMP; a lost host raises LostVMError instead."""
    rig.machine.watch()
    try:
        rig.qmp.watch()
    except LostVMError:
        return True
    return False


def await_end(rig: Rig, deadline: Deadline) -> bool:
    """Wait for the guest's end; False where it lives on to the deadline."""
    try:
        return wait_for("the guest's end", lambda: is_gone(rig) or None, deadline, rig.machine.watch)
    except LostVMError:
        raise
    except LabError:
        return False


def of_dead(rig: Rig, logs: LogReader) -> Fate:
    """Say how a guest ended whose QEMU is gone; wait for QEMU's exit code, and read the logs as they are then.

    Raises LabError where QEMU's exit code and its SHUTDOWN event do not confirm each other.
    """
    end = rig.wait("QEMU's exit code", lambda: _logs_with_exit(logs))
    shutdown = rig.seen("SHUTDOWN")
    if (shutdown is None) == (int(end.qemu_exit) == 0):
        told = "no shutdown of its guest" if shutdown is None else "a shutdown of its guest"
        raise LabError(f"QEMU told of {told}, and exited with {end.qemu_exit.strip()}: {last_line(end.qemu_stderr)}")
    if shutdown is None:
        return Fate(alive=False, how=f"QEMU died: {last_line(end.qemu_stderr)}", exit_code=int(end.qemu_exit))
    triple = any(event.kind == "shutdown" for event in end.hook)
    how = "triple fault (KVM_EXIT_SHUTDOWN)" if triple else f"reset by the guest itself ({shutdown['data']['reason']})"
    words = last_words(end.guest_console)
    if words:
        how += f", after {words[0]}"
    return Fate(alive=False, how=how, seconds=_seconds(rig, shutdown), exit_code=int(end.qemu_exit))


def _logs_with_exit(logs: LogReader) -> RigLogs | None:
    read = logs.read()
    return read if read.qemu_exit else None


def given_up(rig: Rig, logs: LogReader) -> str | None:
    """Say how KVM gave the guest up; None where it did not. The vCPUs stand still then, and would look stuck.

    Raises LabError where QEMU and the hook's log do not agree.
    """
    if not is_given_up(rig):
        return None
    now = logs.read()
    return of_given_up(now.hook, now.qemu_stderr)


def panicked(rig: Rig, deadline: Deadline) -> str | None:
    """How a guest died whose kernel has panicked and whose QEMU still lives at the deadline.

    None where no panic is on its console, or where QEMU has ended: a kernel that panics restarts, and that ends QEMU.
    """
    panic = rig.panic()
    if panic is None or await_end(rig, deadline):
        return None
    return f"its QEMU lives on after {panic}"


def is_given_up(rig: Rig) -> bool:
    """Whether QEMU has stopped the guest by itself since KVM could not run it any further; False where it has ended."""
    try:
        return bool(rig.qmp.execute("query-status", rig.deadline)["status"] == "internal-error")
    except LostVMError:
        return False


def of_given_up(since: Sequence[HookEvent], stderr: str) -> str:
    """Say how KVM gave the guest up, by the hook's log since the mark and what QEMU printed.

    Raises LabError where KVM_RUN, by the hook's log, never returned so.
    """
    exits = [event for event in since if event.kind in GIVEN_UP]
    if not exits:
        raise LabError("QEMU speaks of an internal error of KVM, and the hook's log has no KVM_RUN that ended so")
    said = _GIVEN_UP_WORDS.findall(stderr) or ["QEMU did not say why"]
    return f"{GIVEN_UP[exits[-1].kind]} on vCPU {exits[-1].vcpu}: {', '.join(said[-1].splitlines())}"


def stuck(rig: Rig) -> str | None:
    """Say which vCPU of a running guest does not move; None where all move or rest.

    It does not move where nearly every look finds it, not halted, at one of a few RIPs: each of its processes may have
    one of its own, and KVM injects the guest's timer interrupts all the same, so that some looks find it elsewhere.

    The hook looks, not QEMU: after `info registers` QEMU writes all registers back, and QEMU 10.0 stops a guest whose
    CR4 or EFER does not fit the changed CPUID.
    """
    looks: dict[int, list[Where]] = {}
    try:
        for _ in range(STUCK_LOOKS):
            for vcpu, where in _running(rig).items():
                looks.setdefault(vcpu, []).append(where)
            rig.deadline.pause(STUCK_LOOK_SECONDS)
    except (ClosedError, LostVMError):  # it has just ended
        return None
    for vcpu, places in sorted(looks.items()):
        often = Counter(places).most_common(STUCK_PLACES)
        times = sum(count for _, count in often)
        if times >= STUCK_LEAST:
            where_text = " or ".join(f"RIP {where.rip:016x} (CPL {where.cpl})" for where, _ in often)
            return f"hangs: vCPU {vcpu} does not get past {where_text}, {times} of {STUCK_LOOKS} looks"
    return None


def _running(rig: Rig) -> dict[int, Where]:
    """Say where each vCPU is that runs code. Raises ClosedError or LostVMError where QEMU or the host has ended."""
    seen = {}
    for vcpu in rig.hook.list():
        try:
            where = rig.hook.where(vcpu.id, live=True, seconds=STUCK_ANSWER_SECONDS)
        except (ClosedError, LostVMError):
            raise
        except LabError:  # unplugged, or its thread is busy in QEMU
            continue
        if where.runs:
            seen[vcpu.id] = where
    return seen


def last_words(console: str) -> tuple[str, ...]:
    """What a dying guest kernel has printed, each kind of line once."""
    return tuple(dict.fromkeys(_LAST_WORDS.findall(console)))


def _seconds(rig: Rig, shutdown: dict[str, object]) -> float | None:
    """From the last RESUME to the SHUTDOWN, by QEMU's own time stamps."""
    resumed = [event for event in rig.qmp.events if event["event"] == "RESUME"]
    return round(_stamp(shutdown) - _stamp(resumed[-1]), 3) if resumed else None


def _stamp(event: dict[str, object]) -> float:
    stamp = event["timestamp"]
    if not isinstance(stamp, dict):
        raise LabError(f"QMP sent an event without a time: {event}")
    return float(stamp["seconds"]) + float(stamp["microseconds"]) / 1e6
