"""Say what a job will do before it begins: cells, what is fetched, the rigs to be made, and about how long it takes.

Nothing is made or fetched to find out. Sizes are estimates: the lists with the real sizes may have to be fetched too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cpuidlab.avocado_plugin import all_hosts, plan
from cpuidlab.avocado_plugin.rig_scheduler import ON_A_MACHINE
from cpuidlab.base.artifact_kinds import Kind, label_of
from cpuidlab.base.artifacts import NotMadeError, only_looking
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.paths import cache_dir
from cpuidlab.base.speed import CELL, COLD_CELL, KERNEL, PATCHED, RIG, Speed
from cpuidlab.kernels import aptfetch, host_spec, lookup
from cpuidlab.kernels.kbuild import TREES
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kernels.suite_table import SuiteRow
from cpuidlab.kernels.suites import groups_for
from cpuidlab.kernels.version import series_of
from cpuidlab.rig import host_config
from cpuidlab.rig.carrier import carrier
from cpuidlab.rig.emulator import emulator, fetched_mb
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.guest_module import HEADERS
from cpuidlab.rig.host_config import AnySetup
from cpuidlab.rig.host_qemu import ACCEL
from cpuidlab.rig.real_setup import GUEST_KERNEL, RealSetup
from cpuidlab.rig.snapshots import guest_snapshot, host_snapshot

# MB as seen in 2026: a kernel's packages had 21 to 37, its source 122 to 167, what a module is built with 13, the list
# of a whole release 9. The lists of the other suites have less than one.
KERNEL_MB, SOURCE_MB, HEADERS_MB, RELEASE_LIST_MB, LIST_MB = 30, 145, 13, 9, 1
RIGS = 1 + len(PROFILES)  # of one host in one paging mode
MANY = 6  # up to this number all hosts are named, of more only the first and the last


@dataclass(frozen=True)
class Outlook:
    """What a job will do. `kernels` and `sources` are fetched, `patched` is how many KVMs are built.

    `rigs` is how many rigs are made; with `cold` each test boots its own.
    """

    hosts: tuple[str, ...]
    pagings: tuple[str, ...]
    tests: int
    cold: bool
    kernels: tuple[str, ...]
    sources: tuple[str, ...]
    megabytes: int
    patched: int
    rigs: int

    @property
    def cells(self) -> int:
        """Return how many cells there are to decide."""
        return len(self.hosts) * len(self.pagings) * self.tests

    @property
    def machines(self) -> int:
        """Return how many of the hosts are real machines."""
        return sum(map(host_spec.is_real, self.hosts))

    def seconds(self, speed: Speed, at_once: int) -> float:
        """Return about how many seconds the job takes.

        Kernels come one by one. Rigs and cells of nested hosts are done `at_once` at a time, and meanwhile each real
        machine does its cells.
        """
        first = len(self.kernels) * speed.seconds(KERNEL) + self.patched * speed.seconds(PATCHED)
        cell = speed.seconds(COLD_CELL if self.cold else CELL)
        of_a_host = len(self.pagings) * self.tests
        nested = (len(self.hosts) - self.machines) * of_a_host
        here = (self.rigs * speed.seconds(RIG) + nested * cell) / min(at_once, max(1, nested))
        return first + max(here, of_a_host * cell / ON_A_MACHINE if self.machines else 0.0)

    def lines(self, speed: Speed, at_once: int, resumes: bool = False) -> list[str]:
        """Return the same in four lines for people."""
        kind = COLD_CELL if self.cold else CELL
        known = all(speed.is_measured(needed) for needed in (kind, *([RIG] if self.rigs else [])))
        source = "as the last job here took" if known else "guessed: no job on this machine has measured them yet"
        rig = f"{speed.seconds(RIG):.0f} s a rig and " if self.rigs else ""
        most, kept = ("at most ", ", less for what is kept of the job that is resumed") if resumes else ("", "")
        return [
            f"{counted(len(self.hosts), 'host')} ({_named(self.hosts)}) x {' and '.join(self.pagings)} x "
            f"{counted(self.tests, 'test')} = {counted(self.cells, 'cell')}",
            f"to fetch: {self._fetched()}",
            f"to make: {self._made()}",
            f"{most}{duration(self.seconds(speed, at_once))} on this machine{kept}: {self._order(at_once)}, with "
            f"{rig}{speed.seconds(kind):.0f} s a cell ({source})",
        ]

    def _order(self, at_once: int) -> str:
        nested = [f"{at_once} at a time"] if self.machines < len(self.hosts) else []
        return ", ".join([*nested, *(["one at a time on each real machine"] if self.machines else [])])

    def _fetched(self) -> str:
        if not self.megabytes:
            return "nothing"
        kinds = (("kernels ", [_guests(base, self.hosts) for base in self.kernels]), ("KVM's source of ", self.sources))
        parts = [f"{kind}{_named(names)}" for kind, names in kinds if names]
        return f"{', '.join(parts) or 'headers'}; about {self.megabytes} MB"

    def _made(self) -> str:
        parts = [f"KVM for {counted(self.patched, 'patched host')}"] if self.patched else []
        if self.rigs:
            parts.append(f"{counted(self.rigs, 'rig')} (hosts, and guests on them, booted once and kept)")
        return ", ".join(parts) or ("nothing" if not self.cold else "nothing; every test boots a host of its own")


def outlook(hosts: str, paging: str, tests: int, cold: bool = False, accel: str = ACCEL) -> Outlook:
    """Return what `avocado run` with these options will do; UsageError or LabError where the plan will fail as well."""
    specs = all_hosts.expand(host_spec.split_hosts(hosts))
    pagings = tuple(dict.fromkeys(word.strip() for word in paging.split(",") if word.strip()))
    carrier(accel)  # raises where it cannot be used here, before anything is told of the job
    if not (specs and pagings and set(pagings) <= set(plan.pagings_of(specs, accel))):
        raise UsageError("nothing to test")
    parsed = [host_spec.parse(spec) for spec in specs]
    bases = dict.fromkeys(spec.base for spec in parsed if spec.base)
    kernels = {base: lookup.known(base) for base in bases}
    guest = lookup.known(GUEST_KERNEL, own=False)
    missing = [base for base, kernel in kernels.items() if kernel is None]
    lacking = tuple(dict.fromkeys([*missing, *([] if guest else [GUEST_KERNEL])]))
    patched = [spec for spec in parsed if spec.patch]
    unbuilt = [spec for spec in patched if kernels[spec.base] is None or not _is_built(spec.text, pagings[0], accel)]
    sources = tuple(base for base in dict.fromkeys(spec.base for spec in unbuilt) if not _holds(TREES, kernels[base]))
    headers = not _holds(HEADERS, guest)
    lacks_emulator = not _is_there(partial(emulator, accel))
    lists = {row.suite.name: row for base in lacking for row in _rows(base)}
    return Outlook(
        hosts=specs, pagings=pagings, tests=tests, cold=cold, kernels=lacking, sources=sources, patched=len(unbuilt),
        megabytes=len(lacking) * KERNEL_MB + len(sources) * (SOURCE_MB + HEADERS_MB) + headers * HEADERS_MB
        + lacks_emulator * fetched_mb(accel) + sum(map(_list_mb, lists.values())),
        rigs=0 if cold else sum(_rigs_at(spec, mode, accel) for spec in specs for mode in pagings),
    )  # fmt: skip


def rigs_to_make(setup: AnySetup) -> int:
    """Return how many of a host's rigs are not in the cache; a real machine has none."""
    if isinstance(setup, RealSetup):
        return 0
    if not _is_there(partial(host_snapshot, setup)):
        return RIGS
    return sum(not _is_there(partial(guest_snapshot, setup, profile)) for profile in PROFILES.values())


def duration(seconds: float) -> str:
    """Return a duration in words, rounded."""
    minutes = round(seconds / 60)
    if minutes <= 1:
        return "about a minute"
    return f"about {minutes} minutes" if minutes < 100 else f"about {minutes // 60} h {minutes % 60} min"


def counted(number: int, what: str) -> str:
    """Return the number with its noun, such as "1 rig" or "2 rigs"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _guests(base: str, hosts: Sequence[str]) -> str:
    """Return the name of a kernel, marked where only the guests have it."""
    return base if any(host.partition("+")[0] == base for host in hosts) else f"{base} (the guests')"


def _named(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= MANY else f"{names[0]} to {names[-1]}, {len(names)} in all"


def _rows(base: str) -> list[SuiteRow]:
    return [row for group in groups_for(base, series_of(base), own=True) for row in group]


def _list_mb(row: SuiteRow) -> int:
    """Return how many MB of package list must be fetched for a suite; the lists of stable releases are large."""
    if aptfetch.age(row.suite) is not None:
        return 0
    return (
        RELEASE_LIST_MB
        if not row.suite.table and row.suite.archive == "main" and "-" not in row.suite.name and not row.rolling
        else LIST_MB
    )


def _holds(kind: Kind, kernel: Kernel | None) -> bool:
    """Tell whether the cache has a folder of that kind for a kernel."""
    if kernel is None:
        return False
    folders = (cache_dir() / kind.name).glob(f"{kernel.release}-*")
    return any(label_of(folder) == kernel.release for folder in folders)


def _is_built(spec: str, mode: str, accel: str) -> bool:
    return _is_there(partial(host_config.setup, spec, mode, accel))


def _is_there(find: Callable[[], object]) -> bool:
    """Tell whether `find` finds all in the cache; any other trouble will be reported when the thing is made."""
    try:
        with only_looking():
            find()
    except (NotMadeError, LabError, UsageError, OSError):
        return False
    return True


def _rigs_at(spec: str, mode: str, accel: str) -> int:
    """Return how many rigs one host needs: all of them where its kernel is not here, or where that is unknown."""
    parsed = host_spec.parse(spec)
    if host_spec.is_real(spec):  # nobody asks the machine for an estimate
        return 0
    if (parsed.base and lookup.known(parsed.base) is None) or lookup.known(GUEST_KERNEL, own=False) is None:
        return RIGS
    if not _is_built(spec, mode, accel):
        return RIGS
    return rigs_to_make(host_config.setup(spec, mode, accel))
