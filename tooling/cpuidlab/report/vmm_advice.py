"""What a VMM may do on each kernel, in plain words, generated from what the tests saw there."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cpuidlab.experiment.note import Note
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report.cell import Cell
from cpuidlab.report.gist import answer_of, errnos_of
from cpuidlab.report.host_era import Standing
from cpuidlab.report.outcome import outcome_of
from cpuidlab.report.promise_titles import Question, question_of, title_of


@dataclass(frozen=True)
class Rule:
    """One short answer; `lead` is followed by the names of the kernels it holds for."""

    key: str
    short: str
    lead: str


RULES = {
    rule.key: rule
    for rule in (
        Rule("never", "never again", "Do not set the CPUID of a vCPU again, not even to what it is, on"),
        Rule("same", "only the same", "Set again only the very same CPUID (any other is refused) on"),
        Rule(
            "warned",
            "better not",
            "Anything is accepted with a warning in the log, and nobody promises what becomes of the guest, on",
        ),
        Rule(
            "silent",
            "at your own risk",
            "Anything is accepted without a word, and nobody promises what becomes of the guest, on",
        ),
        Rule("mixed", "do not count on it", "The answers differ from test to test; set nothing again on"),
        Rule("unknown", "not known", "Too little was tested to say anything of"),
    )
}

# What was seen of guests, by the key of its outcome; the tests, paging modes and machines follow.
_HARM = {
    "died": "The guest died afterwards in",
    "harmed": "The guest was damaged in",
    "missed": "KVM then missed a page fault of the guest's in",
    "ended": "Where QEMU itself tries it (CPU hot-plug) QEMU ended after the refusal, and the guest with it, in",
}


@dataclass(frozen=True)
class Advice:
    """The answers for one kernel: any CPUID before the first run, the same one and another one after it."""

    host: str
    rule: Rule
    before: str
    same: str
    changed: str


def advice(cells: Sequence[Cell], standings: Iterable[Standing]) -> tuple[Advice, ...]:
    """Return one for each host, in the order of the standings."""
    return tuple(
        _advice(standing.host, [cell for cell in cells if cell.host == standing.host], standing)
        for standing in standings
    )


def leads(advices: Iterable[Advice]) -> dict[Rule, tuple[str, ...]]:
    """The hosts of each rule that holds for any, in the order of the rules."""
    every = tuple(advices)
    found = {rule: tuple(one.host for one in every if one.rule is rule) for rule in RULES.values()}
    return {rule: hosts for rule, hosts in found.items() if hosts}


def _advice(host: str, cells: Sequence[Cell], standing: Standing) -> Advice:
    asked: dict[Question | None, list[Cell]] = {}
    for cell in cells:
        if answer_of(cell.facts) and cell.verdict not in (Verdict.ERROR, Verdict.SKIP):
            asked.setdefault(question_of(cell.case), []).append(cell)
    before, same, pending, changed = (asked.get(key, []) for key in ("before", "same", "pending", "changed"))
    nested, takeover = asked.get("nested", []), asked.get("takeover", [])
    suspect = standing.defect and not pending
    return Advice(
        host=host,
        rule=RULES[_rule(same, pending, changed, suspect)],
        before=" ".join(
            [_taken(before, "any, any number of times"), *_nested(nested), *_harm(before), *_unprotected(takeover)]
        ),
        same=_same(same, pending, suspect),
        changed=_changed(changed),
    )


def _rule(same: Sequence[Cell], pending: Sequence[Cell], changed: Sequence[Cell], suspect: bool) -> str:
    own, other = ({answer_of(cell.facts) for cell in cells} for cells in ((*same, *pending), changed))
    if suspect or own & {"refused", "partly"}:
        return "never"
    if not same or not changed:
        return "unknown"
    if own == {"silent"} and other == {"refused"}:
        return "same"
    if other == {"silent"} and own == other:
        return "silent"
    return "warned" if other == {"warned"} and own == other else "mixed"


def _taken(cells: Sequence[Cell], what: str) -> str:
    """What was answered in these cells, where a yes is hoped for."""
    if not cells:
        return "not tested"
    answers = {answer_of(cell.facts) for cell in cells}
    if answers == {"silent"}:
        return f"Yes: {what}."
    if answers == {"warned"}:
        return f"Yes: {what}; but each time the host's log warns."
    if answers == {"refused"}:
        return f"No: refused with {_errnos(cells)}."
    refused = [cell for cell in cells if answer_of(cell.facts) in ("refused", "partly")]
    if not refused:
        warned = [cell for cell in cells if answer_of(cell.facts) == "warned"]
        return f"Yes: {what}; the host's log warns in {_cases(warned)}."
    return f"Not always: refused with {_errnos(cells)} in {_cases(refused)}."


def _nested(cells: Sequence[Cell]) -> list[str]:
    """The exception from "any", where there is one."""
    errnos = _errnos([cell for cell in cells if answer_of(cell.facts) == "refused"])
    return [f"But another one is refused with {errnos} while L2 is active in the vCPU."] if errnos else []


def _unprotected(cells: Sequence[Cell]) -> list[str]:
    """Where a guest that ran before suffered from the CPUID of the vCPUs that took it over, as KVM let them have it."""
    hurt = [cell for cell in cells if cell.facts and {Note.FAULT, Note.REGISTERS_REFUSED} & set(cell.facts.notes)]
    why = "KVM does not protect a guest that such vCPUs take over (live migration, a saved snapshot): it was harmed in"
    return [f"{why} {_places(hurt)}."] if hurt else []


def _same(same: Sequence[Cell], pending: Sequence[Cell], suspect: bool) -> str:
    usual = _taken(same, "what it has is accepted")
    late = {answer_of(cell.facts) for cell in pending}
    if suspect:
        return f"{usual} Its version is known to refuse it at times, after a reset for one; not tested here."
    if late & {"refused", "partly"} and any(answer_of(cell.facts) in ("silent", "warned") for cell in same):
        spoilt = any(cell.facts and Note.OSXSAVE_STALE in cell.facts.notes for cell in pending)
        end = ", and the CPUID that KVM then reports is wrong" if spoilt else ""
        return (
            f"Not safely: usually accepted, but refused with {_errnos(pending)} while KVM has an update pending, "
            f"as after a reset{end}."
        )
    return usual


def _changed(cells: Sequence[Cell]) -> str:
    if not cells:
        return "not tested"
    usual, times = Counter(answer_of(cell.facts) for cell in cells).most_common(1)[0]
    errnos = _errnos(cells)
    words = {
        "refused": f"No: refused with {errnos}; the guest goes on with what it had.",
        "silent": "It is accepted, and nothing is said.",
        "warned": "It is accepted, and each time the host's log warns.",
        "partly": f"Some calls are accepted, others refused with {errnos}.",
    }
    other = [cell for cell in cells if answer_of(cell.facts) != usual]
    parts = [f"{words[usual or 'partly']}", *([f"Not so in {_cases(other)}."] if times < len(cells) else [])]
    return " ".join([*parts, *_harm(cells)])


def _errnos(cells: Iterable[Cell]) -> str:
    """The errnos that calls were refused with in these cells."""
    return " or ".join(sorted({"/".join(errnos_of(cell.facts)) for cell in cells} - {""}))


def _harm(cells: Sequence[Cell]) -> list[str]:
    """What became of guests, and where that was seen: it need not be so on another machine."""
    found = {key: [cell for cell in cells if outcome_of(cell).key == key] for key in _HARM}
    return [f"{text} {_places(found[key])}." for key, text in _HARM.items() if found[key]]


def _places(cells: Sequence[Cell]) -> str:
    """The tests of these cells, those together that have the same paging modes and machines."""
    modes: dict[str, dict[str, list[Cell]]] = {}
    for cell in cells:
        modes.setdefault(cell.case, {}).setdefault(cell.accel, []).append(cell)
    together: dict[str, list[Cell]] = {}
    for by_accel in modes.values():
        where = "; ".join(_where(accel, [cell.paging for cell in each]) for accel, each in by_accel.items())
        together.setdefault(where, []).append(next(iter(by_accel.values()))[0])
    return ", ".join(f"{_cases(each)} ({where})" for where, each in together.items())


def _where(accel: str, pagings: Iterable[str]) -> str:
    """Such as `npt and shadow, accelerator tcg`."""
    modes = " and ".join(sorted(set(pagings)))
    return f"{modes}, accelerator {accel}" if accel else modes


def _cases(cells: Sequence[Cell], most: int = 3) -> str:
    """The tests of these cells by name, the first few."""
    names = list(dict.fromkeys(f"“{title_of(cell.case)}”" for cell in cells))
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
