"""Snapshots of rigs: each host, and each guest on it, boots once and is saved; each test gets a copy of its own.

A snapshot is kept packed: of a stage's memory only what differs from the stage before. To be restored it is unpacked
into plain files, which the cache drops when it needs room.
"""

import fcntl
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

from cpuidlab.base import artifact_gc
from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import made
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import HopelessBootError, LabError, LostVMError
from cpuidlab.base.parallel import rigs_at_once
from cpuidlab.base.progress import say
from cpuidlab.rig import ram_delta
from cpuidlab.rig.boot import boot_host, check_tsc, run_guest, start_guest
from cpuidlab.rig.guest_config import PROFILES, Profile
from cpuidlab.rig.host_config import Setup
from cpuidlab.rig.host_machine import HostSetup
from cpuidlab.rig.host_vm import RAM
from cpuidlab.rig.nested_rig import NestedRig
from cpuidlab.rig.real_rig import open_real_rig
from cpuidlab.rig.real_setup import RealSetup
from cpuidlab.rig.rig import TELL_SECONDS, Rig, Stage

BOOT_SECONDS = 120.0  # for one boot of a host or a guest under QEMU, and for saving it
SAVES = 10
SAVING_BYTES = 900_000_000  # what the two stages of a guest take before they are packed
FORM = "packed 2"  # raised when the files of a snapshot change
BOOTS = 3  # 6.12.107 panics in some boots under QEMU 7.2's TCG: for a snapshot we boot again, in a test never
PACKED = f"{RAM}.zst"


@dataclass(frozen=True)
class Step:
    """A stage, the stage before it, and the function that brings a rig from there to here."""

    stage: Stage
    previous: Stage | None
    reach: Callable[[Rig], None]


def _steps(profile: Profile) -> tuple[Step, ...]:
    return (
        _HOST,
        Step(Stage.GUEST_HELD, Stage.HOST_READY, partial(start_guest, profile=profile)),
        Step(Stage.GUEST_READY, Stage.GUEST_HELD, run_guest),
    )


_HOST = Step(Stage.HOST_READY, None, boot_host)


def _is_in_use(folder: Path) -> bool:
    """Tell whether a QEMU runs on the memory of a restorable rig: the QEMU holds a lock on the file."""
    try:
        with (folder / RAM).open("rb") as memory:
            fcntl.flock(memory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


RIGS = Kind("rigs", cost=30)
RESTORABLE = Kind("restorable", cost=1, in_use=_is_in_use)  # plain files, unpacked from what RIGS keep


def host_snapshot(setup: Setup) -> Path:
    """Return the folder that keeps stage HOST_READY packed, and how many boots that took."""
    inputs = {**setup.inputs, "form": FORM}
    return made(RIGS, f"{setup.name}-host", inputs, partial(_make, setup, [_HOST], setup.name))


def guest_snapshot(setup: Setup, profile: Profile) -> Path:
    """Return the folder that keeps the stages GUEST_HELD and GUEST_READY of one guest packed."""
    inputs = {"host": host_snapshot(setup).name, "command": profile.command()}
    make = partial(_make, setup, _steps(profile)[1:], f"{setup.name} {profile.name}")
    return made(RIGS, f"{setup.name}-{profile.name}", inputs, make)


def restorable(setup: Setup, stage: Stage, profile: Profile) -> Path:
    """Return a folder from which a rig at that stage can be restored; made where the cache has none yet."""
    if stage == Stage.HOST_READY:
        return _restorable_host(setup)
    guest = guest_snapshot(setup, profile)
    kept = [guest / step.stage for step in _steps(profile)[1 : _number(stage)]]
    return _unpacked(f"{setup.name}-{profile.name}-{stage}", setup, [_kept_host(setup), *kept])


def open_rig(setup: HostSetup, stage: Stage, profile: str | Profile, deadline: Deadline, cold: bool = False) -> Rig:
    """Return a running rig at that stage.

    A nested rig is restored from a snapshot or, with `cold`, booted from the beginning. On a real machine the guest
    boots each time, and `deadline` begins when it is this job's turn there. Raises UnsupportedError where a real
    machine cannot do what the setup says.
    """
    guest = profile if isinstance(profile, Profile) else PROFILES[profile]
    if isinstance(setup, RealSetup):
        return open_real_rig(setup, stage, guest, deadline.left())
    return _open_nested(cast(Setup, setup), stage, guest, deadline, cold)  # there are two kinds


def _open_nested(setup: Setup, stage: Stage, guest: Profile, deadline: Deadline, cold: bool) -> NestedRig:
    if not cold:
        rig = NestedRig.restore(setup, restorable(setup, stage, guest), deadline)
        rig.profile = guest
        return rig
    rig = NestedRig.start(setup, deadline)
    try:
        for step in _steps(guest)[: _number(stage)]:
            step.reach(rig)
    except LabError:
        rig.close()
        raise
    return rig


def _number(stage: Stage) -> int:
    """How many steps lead to that stage."""
    return list(Stage).index(stage) + 1


def _kept_host(setup: Setup) -> Path:
    return host_snapshot(setup) / Stage.HOST_READY


def _restorable_host(setup: Setup) -> Path:
    return _unpacked(f"{setup.name}-{Stage.HOST_READY}", setup, [_kept_host(setup)])


def _unpacked(label: str, setup: Setup, kept: Sequence[Path]) -> Path:
    """Return the last of the packed stages `kept` as plain files; each stage needs the memory of those before it."""
    return made(RESTORABLE, label, {"rig": kept[-1].parent.name}, partial(_unpack, setup, kept))


def _unpack(setup: Setup, kept: Sequence[Path], folder: Path) -> None:
    artifact_gc.make_room()
    ram_delta.unpack([stage / PACKED for stage in kept], setup.base, folder / RAM)
    for file in kept[-1].iterdir():
        if file.name != PACKED:
            shutil.copy(file, folder)


def _make(setup: Setup, steps: Sequence[Step], name: str, folder: Path) -> None:
    """Boot through the steps, and keep each stage packed in `folder`."""
    _boot(setup, steps, name, folder)
    for step in reversed(steps):  # a stage is packed before the stage that it is compared with
        before = _before(setup, step, folder)
        ram = folder / step.stage / RAM
        ram_delta.pack(ram, before and before / RAM, setup.base, folder / step.stage / PACKED)
        ram.unlink()


def _before(setup: Setup, step: Step, folder: Path) -> Path | None:
    """Return the plain files of the stage before: in the same folder, or the host's; None where nothing is before."""
    if step.previous is None:
        return None
    same = folder / step.previous
    return same if same.is_dir() else _restorable_host(setup)


def _boot(setup: Setup, steps: Sequence[Step], name: str, folder: Path) -> None:
    """Boot until it succeeds, at most BOOTS times, counted and shown; the count is kept in boots.json.

    Raises LabError after the last boot. A boot that cannot succeed, or has taken all of its time, is the last one: the
    next would be the same.
    """
    artifact_gc.make_room(artifact_gc.BUDGET_BYTES - rigs_at_once() * SAVING_BYTES)
    for count in range(1, BOOTS + 1):
        deadline = Deadline.after(BOOT_SECONDS, setup.patience)
        try:
            _boot_once(setup, steps, folder, deadline)
        except LabError as error:
            hopeless = isinstance(error, HopelessBootError) or deadline.left() < TELL_SECONDS
            if count == BOOTS or hopeless:
                raise LabError(f"{name} does not boot (attempt {count}): {error}", error.evidence) from error
            say(f"  !! boot {count} of {name} failed: {error}")
            for partial_stage in folder.iterdir():
                shutil.rmtree(partial_stage)
        else:
            (folder / "boots.json").write_text(json.dumps({"boots": count}) + "\n")
            return


def _boot_once(setup: Setup, steps: Sequence[Step], folder: Path, deadline: Deadline) -> None:
    """Bring a rig through the steps, and save it after each one."""
    before = _before(setup, steps[0], folder)
    with NestedRig.restore_copy(setup, before, deadline) if before else NestedRig.start(setup, deadline) as rig:
        for step in steps:
            step.reach(rig)
            check_tsc(rig)
            _save(rig, folder / step.stage)


def _save(rig: NestedRig, folder: Path) -> None:
    """Save the rig until a copy can be restored, at most SAVES times.

    QEMU refuses to load a vCPU that was saved while it ran an L2 guest: cpu_post_load in target/i386/machine.c wants
    nested state that only KVM has. A machine is saved at any moment; the vCPU of an idle host mostly runs no guest.
    """
    for attempt in range(1, SAVES + 1):
        rig.snapshot(folder)
        try:
            NestedRig.restore(rig.setup, folder, rig.deadline).close()
        except LostVMError:
            if attempt == SAVES:
                raise
            shutil.rmtree(folder)
        else:
            return
