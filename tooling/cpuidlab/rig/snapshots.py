"""Frozen rigs: each host and each guest on it is booted once, saved in the cache, and thawed for every test.

They are kept packed. What is to be thawed is laid out as plain files first, and those go when room is needed.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from cpuidlab.base import artifact_gc
from cpuidlab.base.artifacts import made
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import HopelessBootError, LabError, LostVMError
from cpuidlab.base.parallel import rigs_at_once
from cpuidlab.base.progress import say
from cpuidlab.rig import ram_delta
from cpuidlab.rig.guest_config import PROFILES, Profile
from cpuidlab.rig.host_config import Setup
from cpuidlab.rig.rig import TELL_SECONDS, Rig, Stage

FREEZE_SECONDS = 120.0
FREEZES = 10
FREEZING_BYTES = 900_000_000  # what a guest's two stages take before they are packed
FORM = "packed 2"  # raised when what is kept of a frozen rig looks different
BOOTS = 3  # 6.12.107 panics in some boots under QEMU 7.2's TCG: freezing may boot again, a test never does


def frozen(setup: Setup, stage: Stage, profile: Profile) -> Path:
    """The frozen rig at that stage, a folder that can be thawed; made where it is not in the cache yet."""
    stages = [host_frozen(setup) / "host_ready"]
    if stage != "host_ready":
        guest = guest_frozen(setup, profile)
        stages += [guest / "guest_held", guest / "guest_ready"][: 1 if stage == "guest_held" else 2]

    def lay_out(folder: Path) -> None:
        artifact_gc.make_room()
        ram_delta.unpack([one / "ram.zst" for one in stages], setup.base, folder / "ram")
        for file in stages[-1].iterdir():
            if file.name != "ram.zst":
                shutil.copy(file, folder)

    label = f"{setup.name}-{stage}" if stage == "host_ready" else f"{setup.name}-{profile.name}-{stage}"
    return made(artifact_gc.THAWABLE, label, {"rig": stages[-1].parent.name}, lay_out)


def host_frozen(setup: Setup) -> Path:
    """The folder that keeps the host's stage host_ready packed, and how many boots it took."""

    def make(folder: Path) -> None:
        def boot(deadline: Deadline) -> None:
            with Rig.cold(setup, deadline) as rig:
                _freeze(rig, folder / "host_ready")

        _boots(setup.name, folder, boot)
        _pack(setup, folder / "host_ready", None)

    return made("rigs", f"{setup.name}-host", {**setup.inputs, "form": FORM}, make)


def guest_frozen(setup: Setup, profile: Profile) -> Path:
    """The folder that keeps the stages guest_held and guest_ready of one guest packed."""
    host = host_frozen(setup)

    def make(folder: Path) -> None:
        def boot(deadline: Deadline) -> None:
            with Rig.thawed(setup, frozen(setup, "host_ready", profile), deadline, refreeze=True) as rig:
                rig.start_guest(profile)
                _freeze(rig, folder / "guest_held")
                rig.run_guest()
                _freeze(rig, folder / "guest_ready")

        _boots(f"{setup.name} {profile.name}", folder, boot)
        _pack(setup, folder / "guest_ready", folder / "guest_held")
        _pack(setup, folder / "guest_held", frozen(setup, "host_ready", profile))

    inputs = {"host": host.name, "command": profile.command()}
    return made("rigs", f"{setup.name}-{profile.name}", inputs, make)


def open_rig(setup: Setup, stage: Stage, profile: str | Profile, deadline: Deadline, cold: bool = False) -> Rig:
    """A running rig at that stage: thawed from the cache, or booted from the beginning with `cold`."""
    guest = profile if isinstance(profile, Profile) else PROFILES[profile]
    if not cold:
        return Rig.thawed(setup, frozen(setup, stage, guest), deadline)
    rig = Rig.cold(setup, deadline)
    try:
        if stage != "host_ready":
            rig.start_guest(guest)
        if stage == "guest_ready":
            rig.run_guest()
    except LabError:
        rig.close()
        raise
    return rig


def _pack(setup: Setup, stage: Path, before: Path | None) -> None:
    """Keep of a stage's memory only what the stage before did not have."""
    ram_delta.pack(stage / "ram", before and before / "ram", setup.base, stage / "ram.zst")
    (stage / "ram").unlink()


def _freeze(rig: Rig, folder: Path) -> None:
    """Freeze until the copy is seen to thaw.

    QEMU refuses to load a vCPU that was saved while it ran an L2 guest (cpu_post_load in target/i386/machine.c wants
    nested state that only KVM has), and a machine is stopped at any moment; an idle guest is mostly out of it.
    """
    for attempt in range(1, FREEZES + 1):
        rig.freeze(folder)
        try:
            Rig.thawed(rig.setup, folder, rig.deadline).close()
        except LostVMError:
            if attempt == FREEZES:
                raise
            shutil.rmtree(folder)
        else:
            return


def _boots(name: str, folder: Path, boot: Callable[[Deadline], None]) -> None:
    """Boot until it succeeds, at most BOOTS times, counted and shown; the count is kept in boots.json.

    A boot that took all of its time, or that cannot succeed, is the last one: the next would be the same. What is
    frozen needs room.
    """
    artifact_gc.make_room(artifact_gc.BUDGET_BYTES - rigs_at_once() * FREEZING_BYTES)
    for count in range(1, BOOTS + 1):
        deadline = Deadline.after(FREEZE_SECONDS)
        try:
            boot(deadline)
        except LabError as error:
            hopeless = isinstance(error, HopelessBootError) or deadline.left() < TELL_SECONDS
            if count == BOOTS or hopeless:
                raise LabError(f"{name} does not boot (attempt {count}): {error}", error.evidence) from error
            say(f"  !! boot {count} of {name} failed: {error}")
            for partial in folder.iterdir():
                shutil.rmtree(partial)
        else:
            (folder / "boots.json").write_text(json.dumps({"boots": count}) + "\n")
            return
