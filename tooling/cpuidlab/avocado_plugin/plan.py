"""Plan what a job tests: hosts and paging modes out of the user's words; and make the rigs that they need."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cpuidlab.avocado_plugin import all_hosts
from cpuidlab.avocado_plugin.era_option import chosen_eras
from cpuidlab.avocado_plugin.rig_scheduler import ON_A_MACHINE, Ahead, Slots, Work
from cpuidlab.base.errors import LabError, UnsupportedError, UsageError
from cpuidlab.base.parallel import rigs_at_once
from cpuidlab.base.progress import say
from cpuidlab.experiment.ask_kernel import probe
from cpuidlab.judge import prediction
from cpuidlab.judge.prediction import Prediction, predicted
from cpuidlab.kernels.host_spec import is_real, parse, split_hosts
from cpuidlab.report.cell import Place
from cpuidlab.rig.carrier import TWO_DIMENSIONAL
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.host_config import PAGINGS, AnySetup, check_accel, setup
from cpuidlab.rig.host_qemu import ACCEL
from cpuidlab.rig.job_folder import job_folder
from cpuidlab.rig.real_rig import machine_trial
from cpuidlab.rig.real_setup import RealSetup, may_reload
from cpuidlab.rig.snapshots import guest_snapshot, host_snapshot


@dataclass(frozen=True)
class Variant:
    """One host in one paging mode, and what it is predicted to promise. `host` is the spec as the user wrote it."""

    setup: AnySetup
    host: str
    prediction: Prediction

    @property
    def name(self) -> str:
        """Return the variant's name in test ids, such as `5.10+warning-npt`."""
        return self.setup.name

    @property
    def place(self) -> Place:
        """Return the variant's column in the matrix."""
        return self.setup.column, self.setup.paging

    @property
    def machine(self) -> str:
        """Return the real machine that it is tested on; "" for a nested host, which this machine carries."""
        return self.setup.reach.name if isinstance(self.setup, RealSetup) else ""


@dataclass(frozen=True)
class Plan:
    """All variants of a job, host by host; with `cold` every test boots its own rig.

    `accel` is the accelerator of the nested hosts, `eras` the user's table of releases and their eras, "" for the
    default table, which need not exist. `left_out` are hosts of `all` and paging modes that cannot be tested today,
    each with the reason.
    """

    variants: tuple[Variant, ...]
    cold: bool
    eras: str = ""
    accel: str = ACCEL
    left_out: tuple[tuple[str, str], ...] = ()

    @property
    def places(self) -> tuple[Place, ...]:
        """Return the columns of the matrix."""
        return tuple(variant.place for variant in self.variants)

    def at(self, place: Place) -> AnySetup | None:
        """Return the setup that is tested at that place."""
        return next((variant.setup for variant in self.variants if variant.place == place), None)


def plan(
    hosts: str,
    paging: str,
    era: str = "",
    cold: bool = False,
    *,
    table: str = "",
    accel: str = ACCEL,
    reload_kvm: bool = False,
) -> Plan:
    """Return the plan for comma-separated host specs and paging modes; kernels are fetched or built as needed.

    `era` is NAME for all hosts, or HOST=NAME for one, comma-separated; `table` is a file (see `prediction`); `accel` is
    the accelerator of nested hosts. With `reload_kvm` a real machine's KVM may be loaded anew in the other paging mode.
    Raises UsageError where the user asks for something that does not exist or that this machine cannot do, LabError
    where a kernel cannot be had.
    """
    asked, pagings = split_hosts(hosts), _words(paging)
    for words, option in ((asked, "--hosts"), (pagings, "--paging")):
        if not words:
            raise UsageError(f"{option} names nothing to test")
    for spec in asked:
        if spec != all_hosts.ALL:
            parse(spec)
    known = pagings_of(asked, accel)
    unknown = [mode for mode in pagings if mode not in known]
    if unknown:
        raise UsageError(f"unknown paging mode '{unknown[0]}'; there are {' and '.join(known)}")
    if reload_kvm and not any(is_real(spec) for spec in asked if spec != all_hosts.ALL):
        raise UsageError("--reload-kvm is for real machines (local, ssh://HOST), and --hosts names none")
    if accel != ACCEL and all(spec != all_hosts.ALL and is_real(spec) for spec in asked):
        raise UsageError(f"--accel {accel} is for nested hosts, and --hosts names none")
    check_accel(accel)
    table = str(Path(table).expanduser().resolve()) if table else ""
    prediction.overrides(Path(table) if table else prediction.default_table(), required=bool(table))
    specs = all_hosts.expand(asked)
    variants, left_out = _found(asked, specs, pagings, chosen_eras(era, specs), table, accel=accel)
    variants = tuple(replace(one, setup=may_reload(one.setup, reload_kvm)) for one in variants)
    return Plan(variants, cold, table, accel, left_out)


def pagings_of(specs: Sequence[str], accel: str = ACCEL) -> tuple[str, ...]:
    """Return the paging modes that can be asked for; there may be ept where the hosts are not AMD's."""
    with_ept = accel != ACCEL or any(is_real(spec) for spec in specs if spec != all_hosts.ALL)
    return tuple(dict.fromkeys([*PAGINGS, *(TWO_DIMENSIONAL if with_ept else ())]))


def _found(
    asked: Sequence[str],
    specs: Sequence[str],
    pagings: Sequence[str],
    chosen: Mapping[str, str],
    table: str,
    *,
    accel: str,
) -> tuple[tuple[Variant, ...], tuple[tuple[str, str], ...]]:
    """Return the variants, and what is left out with the reason.

    Left out are hosts that only `all` names and whose kernels cannot be had today, and paging modes that this machine
    cannot do. Where nothing is left, the first reason is raised.
    """
    left_out = dict[str, LabError | UnsupportedError]()

    def leave_out(what: str, error: LabError | UnsupportedError) -> None:
        if what not in left_out:
            say(f"  !! {what} is left out: {error}")
        left_out[what] = error

    found: dict[Place, Variant] = {}
    for spec in specs:
        for mode in pagings:
            try:
                place = setup(spec, mode, accel)
                _add(found, [Variant(place, spec, predicted(place.kernel, chosen[spec], table))])
            except UnsupportedError as error:
                if is_real(spec):
                    raise
                leave_out(f"--paging {mode}", error)
            except LabError as error:
                if spec in asked:
                    raise
                leave_out(spec, error)
    if not found:
        raise next(iter(left_out.values()))
    return tuple(found.values()), tuple((spec, str(error)) for spec, error in left_out.items())


def _add(found: dict[Place, Variant], variants: Sequence[Variant]) -> None:
    """Add the variants whose place is not taken yet; UsageError where two kernels would share a column."""
    for variant in variants:
        known = found.setdefault(variant.place, variant)
        if known.setup.kernel.digest != variant.setup.kernel.digest:
            raise UsageError(f"hosts {known.host} and {variant.host} would both show as {variant.place[0]}; rename one")


def prepare(job: Plan) -> Ahead:
    """Begin to make all the rigs that the job's tests need, host by host, and return when the first host is ready.

    The others are made while tests run, and a test waits for its own. Raises LabError or UsageError where nothing can
    be tested at all. An interrupt leaves nothing running.
    """
    works = {variant.name: tuple(_works(variant.setup, job.cold)) for variant in job.variants}
    machines = {variant.machine for variant in job.variants}
    slots = {machine: Slots(ON_A_MACHINE if machine else rigs_at_once()) for machine in machines}
    making = Ahead(works, {variant.name: slots[variant.machine] for variant in job.variants})
    making.begin()
    troubles = list[Exception]()
    for variant in job.variants:
        trouble = making.wait(variant.name)
        if trouble is None:
            break
        troubles.append(trouble)
    else:
        raise troubles[0]
    making.tell()
    return making


def _works(setup: AnySetup, cold: bool) -> Iterator[Work]:
    """Yield what must be made for one host in one paging mode, in this order."""
    if isinstance(setup, RealSetup):
        yield lambda: job_folder(setup.reach, setup.facts.qemu, setup.cargo)
        if setup.paging == setup.facts.paging:
            yield partial(machine_trial, setup)
        return
    if cold:
        yield lambda: setup.boot
        return
    yield partial(host_snapshot, setup)
    for profile in PROFILES.values():
        yield partial(guest_snapshot, setup, profile)
    yield partial(probe, setup)


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
