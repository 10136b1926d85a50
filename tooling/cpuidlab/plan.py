"""What a job is to test: hosts and paging modes out of the user's words, and the rigs that they need, made ready."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cpuidlab import eras, prediction
from cpuidlab.errors import UsageError
from cpuidlab.freezer import frozen, frozen_host
from cpuidlab.hostspec import parse
from cpuidlab.matrix import Place
from cpuidlab.parallel import in_parallel, rigs_at_once
from cpuidlab.probe import probe
from cpuidlab.profiles import PROFILES
from cpuidlab.setups import PAGINGS, Setup, setup


@dataclass(frozen=True)
class Variant:
    """One host in one paging mode. `host` is the spec as the user wrote it; `era` overrides the prediction, if set."""

    setup: Setup
    host: str
    era: str

    @property
    def name(self) -> str:
        """How the variant shows in test ids, such as `5.10+warning-npt`."""
        return self.setup.name

    @property
    def place(self) -> Place:
        """Its column in the matrix."""
        return self.setup.kernel.label, self.setup.paging


@dataclass(frozen=True)
class Plan:
    """All variants of a job, host by host; with `cold` every test boots its own rig. `eras` is the user's table of
    releases and their eras, "" for the one that need not exist."""

    variants: tuple[Variant, ...]
    cold: bool
    eras: str = ""

    @property
    def places(self) -> tuple[Place, ...]:
        """The columns of the matrix."""
        return tuple(variant.place for variant in self.variants)

    def at(self, place: Place) -> Setup | None:
        """The setup that is tested at that place."""
        return next((variant.setup for variant in self.variants if variant.place == place), None)


def plan(hosts: str, paging: str, era: str = "", cold: bool = False, table: str = "") -> Plan:
    """The plan that comma-separated host specs and paging modes stand for; kernels are fetched or built as needed.

    `era` is NAME for all hosts, or HOST=NAME for one, comma-separated; `table` is a file (see `prediction`). Raises
    UsageError where the user asks for something that there is not, LabError where a kernel cannot be had.
    """
    specs, pagings = split_hosts(hosts), _words(paging)
    for words, option in ((specs, "--hosts"), (pagings, "--paging")):
        if not words:
            raise UsageError(f"{option} names nothing to test")
    for spec in specs:
        parse(spec)
    table = str(Path(table).expanduser().resolve()) if table else ""
    prediction.overrides(Path(table) if table else prediction.default_table(), required=bool(table))
    for mode in pagings:
        if mode not in PAGINGS:
            raise UsageError(f"unknown paging mode '{mode}'; there are {' and '.join(PAGINGS)}")
    chosen = _eras(era, specs)
    found: dict[Place, Variant] = {}
    for spec in specs:
        for mode in pagings:
            variant = Variant(setup(spec, mode), spec, chosen[spec])
            known = found.setdefault(variant.place, variant)
            if known.setup.kernel.digest != variant.setup.kernel.digest:
                raise UsageError(f"hosts {known.host} and {spec} would both show as {variant.place[0]}; rename one")
    return Plan(tuple(found.values()), cold, table)


def split_hosts(text: str) -> tuple[str, ...]:
    """The specs of a comma-separated list; the comma inside image:BZIMAGE,MODULESDIR is not one between two hosts."""
    specs: list[str] = []
    for word in _words(text):
        if specs and specs[-1].startswith("image:") and "," not in specs[-1]:
            specs[-1] += f",{word}"
        else:
            specs.append(word)
    return tuple(dict.fromkeys(specs))


def prepare(job: Plan) -> None:
    """Make all that the job's tests thaw, and probe the hosts; what is in the cache already costs next to nothing.

    Raises LabError or UsageError where something cannot be made; interrupted, it leaves nothing running.
    """
    setups = [variant.setup for variant in job.variants]
    for one in setups:
        _ = one.boot  # two paging modes share an image
    if job.cold:
        return
    at_once = rigs_at_once()
    in_parallel([partial(frozen_host, one) for one in setups], at_once)
    in_parallel(
        [partial(frozen, one, "guest_ready", profile) for one in setups for profile in PROFILES.values()], at_once
    )
    in_parallel([partial(probe, one) for one in setups], at_once)


def _eras(text: str, specs: Sequence[str]) -> dict[str, str]:
    """The era that each host is asked to be; "" where none was named."""
    chosen = dict.fromkeys(specs, "")
    for word in sorted(_words(text), key=lambda word: "=" in word):  # a host's own counts more than the one for all
        spec, _, name = word.rpartition("=")
        eras.era(name)
        if spec and spec not in chosen:
            raise UsageError(f"--era names the host '{spec}', which is not tested; hosts: {', '.join(specs)}")
        chosen.update(dict.fromkeys([spec] if spec else specs, name))
    return chosen


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
