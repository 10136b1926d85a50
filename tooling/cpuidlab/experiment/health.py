"""Is the guest still sane? What guests/guest/health.c printed, read and judged."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from cpuidlab.base.errors import LabError
from cpuidlab.experiment.guest_cpuid import Seen, parse_seen, seen_differs
from cpuidlab.kvm import kmsg
from cpuidlab.kvm.cpuid import Model
from cpuidlab.rig.rig import GuestMark

_SECTION = re.compile(r"^== (\w+)$", re.MULTILINE)
_WORK = re.compile(r"(\d+) (\d+) (.*)")  # CPU, exit code, what was said


@dataclass(frozen=True)
class Health:
    """One look at the guest: `uptimes` in seconds at its beginning and end, `work` is exit code and output of the
    verified work of each online vCPU, `seen` what each sees by the CPUID instruction, `log` the guest's kernel log."""

    uptimes: tuple[float, float]
    work: dict[int, tuple[int, str]]
    seen: dict[int, Seen]
    log: tuple[kmsg.Record, ...]


def parse(text: str) -> Health:
    """Read what the health program printed. Raises LabError where it did not come to its end or is garbled."""
    parts = _SECTION.split(text)
    names = parts[1::2]
    if names != ["uptime", "work", "cpuid", "uptime", "kmsg", "end"]:
        raise LabError("the guest's health program did not come to its end", text)
    before, work, cpuid, after, log, _ = parts[2::2]
    return Health(
        uptimes=(_uptime(before), _uptime(after)),
        work=_work(work),
        seen=parse_seen(cpuid),
        log=kmsg.parse(log.lstrip("\n")),
    )


# What this guest's kernel logs at every boot on this carrier: under TCG the sizes that XSAVE and CPUID tell disagree.
_BOOT_LINES = re.compile(r"Linux version |-+\[ cut here \]-+|WARNING: .* fpu__init_system_xstate\+")


def troubles(health: Health, mark: GuestMark, models: Sequence[Model], booted: bool) -> tuple[str, ...]:
    """Why the guest is not stable; empty where it is.

    Uptime and kernel log count from `mark` on; where it `booted` after that, without what it says at every boot.
    `models` is what KVM reports for vCPU 0, 1, ...; the guest's CPU of the same number must see just that.
    """
    log = kmsg.since(health.log, mark.kmsg)
    found = list(kmsg.troubles(record for record in log if not (booted and _BOOT_LINES.match(record.text))))
    began, after = health.uptimes
    if not mark.uptime < began < after:
        found.append(f"time does not advance: {mark.uptime} s, then {began} s and {after} s")
    found += [f"vCPU {cpu} failed its work ({code}): {said}" for cpu, (code, said) in health.work.items() if code]
    if not sorted(health.work) == sorted(health.seen) == list(range(len(models))):
        found.append(f"CPUs {sorted(health.work)} work and {sorted(health.seen)} answer CPUID of {len(models)} vCPUs")
    for cpu, seen in sorted(health.seen.items()):
        if cpu < len(models):
            found += [
                f"CPU {cpu} sees another CPUID than KVM reports: {line}" for line in seen_differs(models[cpu], seen)
            ]
    return tuple(found)


def _uptime(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise LabError(f"the guest's health program could not tell the uptime: {text.strip()!r}") from None


def _work(text: str) -> dict[int, tuple[int, str]]:
    """CPU -> exit code and words; a program that fails may say more than one line, the first has the numbers."""
    work: dict[int, tuple[int, str]] = {}
    cpu = None
    for line in filter(None, text.splitlines()):
        if begun := _WORK.fullmatch(line):
            cpu = int(begun[1])
            work[cpu] = int(begun[2]), begun[3]
        elif cpu is None:
            raise LabError(f"the guest's health program printed no result of a vCPU's work: {line!r}", text)
        else:
            code, said = work[cpu]
            work[cpu] = code, f"{said}; {line}"
    return work
