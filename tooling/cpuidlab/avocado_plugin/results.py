"""From Avocado's results to the matrix: every test that was begun has its cell, and a lost one is an ERROR."""

import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cpuidlab.avocado_plugin import rig_file
from cpuidlab.avocado_plugin.cell_file import CELL_FILE, case_of, read_cell
from cpuidlab.avocado_plugin.plan import Plan
from cpuidlab.base.errors import NO_RIG, LabError, UsageError
from cpuidlab.base.exit_codes import BROKEN, OK, UNTESTED
from cpuidlab.judge.verdict import Verdict
from cpuidlab.kernels import host_spec, suites
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.report.cell import Cell, Place
from cpuidlab.report.write import UNFINISHED
from cpuidlab.rig.carrier import KVM, cpu_model
from cpuidlab.rig.emulator import emulator
from cpuidlab.rig.real_setup import RealSetup
from cpuidlab.rig.rig import RigFacts

# Avocado's word for a test beside the verdict that it wrote; any other word means that it went wrong afterwards.
_STATUSES = {
    Verdict.PASS: {"PASS", "WARN"},
    Verdict.KNOWN: {"PASS", "WARN"},
    Verdict.WARN: {"PASS", "WARN"},
    Verdict.SKIP: {"PASS", "SKIP", "CANCEL"},
    Verdict.FAIL: {"FAIL"},
    Verdict.ERROR: {"ERROR"},
}


@dataclass(frozen=True)
class Ended:
    """What Avocado says of one test: its number, FILE:CLASS.METHOD, variant's parameters, status and reason."""

    number: int
    test: str
    place: Place
    status: str
    reason: str
    folder: Path
    begun: bool = True

    @classmethod
    def of(cls, state: Mapping[str, Any], plan: Plan) -> "Ended":
        """Read a result of Avocado's, see FinishMessageHandler in avocado.core.messages."""
        name = state["name"]
        place = next((v.place for v in plan.variants if v.name == name.variant), ("", ""))
        number = _number(name)
        reason = state.get("fail_reason") or ""
        folder, begun = Path(state["logdir"], "data"), state.get("fail_class") != NO_RIG
        return cls(number, name.name, place, state["status"], str(reason), folder, begun)


def cells_of(states: Sequence[Mapping[str, Any]], plan: Plan, folder: Path) -> tuple[Cell, ...]:
    """One cell for each test that ended, in the order of the job; `folder` is the job's."""
    tests = sorted((Ended.of(state, plan) for state in states), key=lambda ended: ended.number)
    read = [(ended, _read(ended)) for ended in tests]
    known = {ended.test: (cell.case, cell.route) for ended, cell in read if isinstance(cell, Cell)}
    cells = []
    for ended, found in read:
        if isinstance(found, Cell):
            cell = _checked(found, ended)
        else:
            cell = _lost(ended, found, plan, *known.get(ended.test, (case_of(ended.test), "")))
        cells.append(replace(cell, evidence=_relative(ended.folder, folder)))
    return tuple(cells)


def by_name(states: Sequence[Mapping[str, Any]], cells: Sequence[Cell]) -> dict[str, Cell]:
    """The cells that `cells_of` has made of the same tests, by the name that Avocado's files give a test."""
    numbered = sorted(states, key=lambda state: _number(state["name"]))
    return {
        f"{state['name'].name}{state['name'].str_variant}": cell for state, cell in zip(numbered, cells, strict=True)
    }


def exit_code(cells: Sequence[Cell], unfinished: int = 0) -> int:
    """0 all as promised, 1 a promise broken, 125 could not be tested; `unfinished` tests have no cell."""
    verdicts = {cell.verdict for cell in cells}
    if Verdict.FAIL in verdicts:
        return BROKEN
    return UNTESTED if unfinished or Verdict.ERROR in verdicts or verdicts <= {Verdict.SKIP} else OK


def agrees(verdict: Verdict, status: str) -> bool:
    """Whether Avocado's word is one that a test with that verdict ends with."""
    return status in _STATUSES[verdict]


def header(plan: Plan, seconds: float, unfinished: int, kept: int = 0, rigs: Sequence[RigFacts] = ()) -> dict[str, str]:
    """What stands above the matrix: the kernels in play, the machines and emulators that ran them, when, how long.

    `rigs` are those of the tests on real machines.
    """
    setups = [variant.setup for variant in plan.variants]
    hosts = dict.fromkeys(_host(setup.kernel) for setup in setups)
    named = [variant.prediction.told(variant.setup.kernel.label) for variant in plan.variants]
    real = [setup for setup in setups if isinstance(setup, RealSetup)]
    is_nested = len(real) < len(setups)
    return {
        **({"carrier": _carrier(plan.accel)} if is_nested else {}),
        "hosts": ", ".join(hosts),
        **({"machines": "; ".join(dict.fromkeys(map(_machine, real)))} if real else {}),
        **({"predictions": "; ".join(dict.fromkeys(told for told in named if told))} if any(named) else {}),
        "guest": setups[0].guest_kernel.release,
        **({"emulator": emulator_version(plan.accel)} if is_nested else {}),
        "accelerator": ", ".join(dict.fromkeys(setup.accel for setup in setups)),
        "rigs": _rigs(plan.cold, is_nested, rigs),
        **_changed(rigs),
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "duration": f"{seconds:.0f} s",
        **({"kept": f"{kept} tests of the job that was resumed"} if kept else {}),
        **({"left out": "; ".join(f"{spec}: {why}" for spec, why in plan.left_out)} if plan.left_out else {}),
        **({UNFINISHED: f"{unfinished} tests"} if unfinished else {}),
    }


def real_rigs(cells: Sequence[Cell], plan: Plan, folder: Path) -> list[RigFacts]:
    """What the tests on real machines have told of their rigs; `folder` is the job's."""
    real = [cell for cell in cells if isinstance(plan.at((cell.host, cell.paging)), RealSetup)]
    return [facts for cell in real if (facts := rig_file.read(folder / cell.evidence))]


def _carrier(accel: str) -> str:
    """Say what carries the nested hosts: this machine's kernel and, where its KVM runs them, its CPU."""
    on = f" with {cpu_model()}" if accel == KVM else ""
    return f"{platform.system()} {platform.release()} on this machine{on}"


def _rigs(cold: bool, nested: bool, real: Sequence[RigFacts]) -> str:
    """Say how each test got a fresh guest."""
    ways = ["booted cold for every test" if cold else "saved once, restored for every test"] if nested else []
    return "; ".join([*ways, *([f"guests on real machines: {rig_file.guests(real)}"] if real else [])])


def _changed(rigs: Sequence[RigFacts]) -> dict[str, str]:
    """Say what was changed on real machines, and why their guests could not be restored."""
    told = {"settings": rig_file.settings(rigs), "guests not restored": rig_file.troubles(rigs)}
    return {name: text for name, text in told.items() if text}


def _machine(setup: RealSetup) -> str:
    """Say what a real machine is."""
    facts = setup.facts
    return f"{setup.kernel.label} runs {facts.module} with {facts.paging} paging, {facts.qemu_version}"


def _host(kernel: Kernel) -> str:
    """A host's kernel; where it is the user's own, also where it comes from."""
    is_own = kernel.spec.partition(":")[0] in host_spec.OWN
    origin = kernel.spec if is_own else suites.origin(kernel.suite)
    return f"{kernel.label} is {kernel.release}{f' from {origin}' if origin else ''}"


def emulator_version(accel: str) -> str:
    """What the QEMU or Bochs that carries nested hosts says of itself, and where it comes from."""
    try:
        return emulator(accel).version
    except (LabError, UsageError) as error:
        return f"unknown: {error}"


def _number(name: Any) -> int:
    uid = str(name.uid).rpartition("-")[2]
    return int(uid) if uid.isdigit() else 0


def _read(ended: Ended) -> Cell | str:
    """The test's cell, or what is wrong with it."""
    try:
        return read_cell(ended.folder) or ""
    except UsageError as error:
        return str(error)


def _checked(cell: Cell, ended: Ended) -> Cell:
    """The cell as it is, unless the test went wrong after it had written it: that outweighs all but a FAIL."""
    if cell.verdict in (Verdict.FAIL, Verdict.ERROR) or agrees(cell.verdict, ended.status):
        return cell
    text = f"after its verdict {cell.verdict} the test ended with {ended.status}: {ended.reason or 'see its debug.log'}"
    return replace(cell, verdict=Verdict.ERROR, reason=f"{text}\n{cell.reason}")


def _lost(ended: Ended, trouble: str, plan: Plan, case: str, route: str) -> Cell:
    """The cell of a test that wrote none: an ERROR, or a SKIP if that is what Avocado says."""
    verdict = Verdict.SKIP if ended.status in ("SKIP", "CANCEL") and not trouble else Verdict.ERROR
    setup = plan.at(ended.place)
    why = trouble or ended.reason or f"it wrote no {CELL_FILE}"
    told = verdict is Verdict.SKIP or not ended.begun
    reason = why if told else f"the test left no verdict and ended with {ended.status}: {why}"
    return Cell(
        case=case, host=ended.place[0], release=setup.kernel.release if setup else "", paging=ended.place[1],
        route=route, accel=setup.accel if setup else "", predicted="", probed="", facts=None,
        verdict=verdict, reason=reason, evidence="",
    )  # fmt: skip


def _relative(path: Path, folder: Path) -> str:
    return str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path)
