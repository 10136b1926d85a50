"""The command `cpuidlab sweep`: maps of any hosts in any paging modes, each on a restored rig, and what differs."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from cpuidlab.avocado_plugin.plan import plan
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.parallel import in_parallel, rigs_at_once
from cpuidlab.base.progress import say, step
from cpuidlab.experiment.bare_kvm import BareKvm
from cpuidlab.experiment.freeze import freeze_map
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.observe import observed
from cpuidlab.report import sweep_map, sweep_page, sweep_text
from cpuidlab.report.freeze_text import freeze_story
from cpuidlab.report.observation_lines import guest_lines
from cpuidlab.report.sweep_map import Map
from cpuidlab.rig.guest_config import PROFILES, Profile
from cpuidlab.rig.host_config import AnySetup, Setup
from cpuidlab.rig.host_qemu import ACCEL
from cpuidlab.rig.rig import Stage
from cpuidlab.rig.snapshots import guest_snapshot, open_rig

PROFILE = "small"
SECONDS = 120.0
# what QEMU takes after -cpu, with nothing that a shell would read
_CPU = re.compile(r"[\w.+-]+(,[\w.+-]+(=[\w.+-]+)?)*")


def make_maps(
    hosts: str, paging: str, cpu: str, host_cpu: str, folder: Path, *, accel: str = ACCEL, reload_kvm: bool = False
) -> tuple[Map, ...]:
    """Sweep each host in each paging mode, one after the other; write the maps, the page and the table as they come.

    Raises UsageError or LabError where one cannot be swept, after all others have been.
    """
    variants = plan(hosts, paging, accel=accel, reload_kvm=reload_kvm).variants
    profile = guest(cpu)
    setups = [variant.setup if not host_cpu else _on_cpu(variant.setup, host_cpu) for variant in variants]
    maps: list[Map] = []
    failures: list[LabError] = []

    def freeze(one: AnySetup) -> None:
        with suppress(LabError):  # its sweep comes to the same, and says so
            if isinstance(one, Setup):
                guest_snapshot(one, profile)

    in_parallel([partial(freeze, one) for one in setups], rigs_at_once())
    for one in setups:
        try:
            with step(f"sweep: {one.name}"):
                maps.append(sweep_one(one, profile))
        except LabError as error:
            say(f"  !! {one.name}: {error}")
            failures.append(error)
            continue
        folder.mkdir(parents=True, exist_ok=True)
        sweep_map.write(maps[-1], folder / file_name(maps[-1]))
        sweep_page.write_all(maps, folder)
    if failures:
        raise failures[0]
    return tuple(maps)


def sweep_one(setup: AnySetup, profile: Profile) -> Map:
    """Map what is frozen, on VMs without QEMU; then sweep the first vCPU of a running guest, and look at the guest."""
    with open_rig(setup, Stage.HOST_READY, profile, Deadline.after(SECONDS, setup.patience)) as rig:
        frozen = freeze_map(BareKvm(rig.open_barevm(), rig.deadline))
    with open_rig(setup, Stage.GUEST_READY, profile, Deadline.after(SECONDS, setup.patience)) as rig:
        guest = Guest(rig)
        found = guest.sweep(vcpu=0)
        seen = observed(guest)
    for told in rig.facts().settings:
        say(f"  .. {told}")
    is_stable = seen.guest is not None and seen.guest.stable
    health = "stable" if is_stable else f"not stable: {'; '.join(guest_lines(seen))}"
    kernel = setup.kernel
    on = f" on {setup.carrier.cpu}" if isinstance(setup, Setup) and setup.carrier.model else ""
    place = (kernel.label, kernel.release, kernel.version, setup.paging, setup.accel, f"{profile.cpu}{on}")
    return Map(*place, health, found, frozen)


def guest(cpu: str) -> Profile:
    """The guest to sweep: the tests' own, or with another `cpu`, as QEMU's -cpu takes it."""
    return replace(PROFILES[PROFILE], cpu=_model("--cpu", cpu)) if cpu else PROFILES[PROFILE]


def _on_cpu(setup: AnySetup, cpu: str) -> Setup:
    """Return the setup on another CPU of the nested host; UsageError for a real machine, whose CPU is what it is."""
    if not isinstance(setup, Setup):
        raise UsageError(f"--host-cpu is for nested hosts, and {setup.kernel.label} is a real machine")
    return replace(setup, carrier=setup.carrier.on_cpu(_model("--host-cpu", cpu)))


def _model(option: str, cpu: str) -> str:
    if not _CPU.fullmatch(cpu):
        raise UsageError(f"{option} {cpu!r} is no CPU model of QEMU's; write it as for -cpu, such as EPYC-Rome,pku=on")
    return cpu


def file_name(one: Map) -> str:
    """The file of one map, such as `6.12-npt.json`; the accelerator is named where it is not QEMU's emulation."""
    accel = "" if one.accel == ACCEL else f"-{one.accel.partition(' ')[0]}"
    cpu = "" if one.cpu == PROFILES[PROFILE].cpu else f"-{one.cpu}"
    return re.sub(r"[^\w.+=,-]", "_", f"{one.host}-{one.paging}{accel}{cpu}.json")


def story_of(one: Map) -> str:
    """A map in a few lines, for a terminal."""
    said = sweep_text.outcomes(one.sweep)
    head = f"{one.name} ({one.release}, {one.accel}): {sweep_text.summary(one.sweep)}"
    lines = [f"{head}; {one.sweep.counts.accepted + one.sweep.counts.refused} trials"]
    lines += [f"  {outcome}: {text}" for outcome, text in said.items() if text]
    lines += [f"  {text}" for text in freeze_story(one)]
    return "\n".join([*lines, f"  flips alone: {one.sweep.seconds:.3f} s; guest afterwards: {one.guest}"])


def show_maps(maps: Sequence[Map], folder: Path, as_json: bool) -> int:
    """Print the maps; 1 where a guest was not stable afterwards."""
    if as_json:
        print(json.dumps({"schema": sweep_map.SCHEMA, "maps": [sweep_map.to_data(one) for one in maps]}, indent=1))
    else:
        print("\n".join(map(story_of, maps)))
        print(f"page: {folder / sweep_page.PAGE}")
    return int(any(one.guest != "stable" for one in maps))


def show_difference(old: Path, new: Path, as_json: bool) -> int:
    """Print what is different between two map files; always 0: a difference is no broken promise."""
    lines = sweep_text.difference(sweep_map.read(old), sweep_map.read(new))
    if as_json:
        print(json.dumps({"schema": sweep_map.SCHEMA, "difference": lines}, indent=1))
    else:
        print("\n".join(lines) or "no difference")
    return 0
