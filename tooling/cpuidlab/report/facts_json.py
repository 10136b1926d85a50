"""Facts as plain data for matrix.json, and back. A file may come from anywhere: every value is checked."""

import re
from dataclasses import asdict, fields
from typing import Any, get_args

from cpuidlab.experiment.facts import Answer, Facts, GuestState
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED, Model, Touched, touched_from
from cpuidlab.kvm.warning import WARNING_LINES

_ANSWER = re.compile(rf"{ACCEPTED}|E[A-Z0-9]{{1,30}}|errno [0-9]{{1,10}}")
_NEW = {"touched"}  # a file of before may lack it
_KEYS = {field.name for field in fields(Facts)}


def to_data(facts: Facts | None) -> dict[str, Any] | None:
    """Return the facts as an object for JSON; `from_data` reads it back."""
    return None if facts is None else asdict(facts)


def from_data(raw: object) -> Facts | None:
    """Return the facts that an object of a JSON file holds. Raises ValueError with the reason where it holds none."""
    if raw is None:
        return None
    if not isinstance(raw, dict) or set(raw) | _NEW != _KEYS:
        raise ValueError(
            f"'facts' should be null or have just these keys: {', '.join(field.name for field in fields(Facts))}"
        )
    if not isinstance(raw["ended"], str):
        raise ValueError("'ended' should be a string")
    return Facts(
        answers=tuple(_answer(one) for one in _list(raw, "answers")),
        lines=None if raw["lines"] is None else _lines(_list(raw, "lines")),
        model=None if raw["model"] is None else _model(raw["model"]),
        guest=GuestState(_one_of(raw["guest"], tuple(GuestState), "guest")),
        ended=raw["ended"],
        notes=tuple(Note(_one_of(note, tuple(Note), "notes")) for note in _list(raw, "notes")),
        touched=tuple(_touched(one) for one in _list(raw, "touched")) if "touched" in raw else (),
    )


def _list(raw: dict[str, Any], key: str) -> list[object]:
    if not isinstance(raw[key], list):
        raise ValueError(f"'{key}' should be a list")
    return list(raw[key])


def _answer(raw: object) -> Answer:
    if not isinstance(raw, dict) or set(raw) != {"vcpu", "answer"}:
        raise ValueError("each of 'answers' should have just the keys vcpu, answer")
    vcpu, answer = raw["vcpu"], raw["answer"]
    if not (vcpu is None or _is_count(vcpu)):
        raise ValueError("'vcpu' should be the number of a vCPU, or null where it is not known")
    if not (isinstance(answer, str) and _ANSWER.fullmatch(answer)):
        raise ValueError(f"'answer' should be \"{ACCEPTED}\" or the name of an errno")
    return Answer(vcpu, answer)


def _lines(raw: list[object]) -> tuple[int, ...]:
    counts = tuple(count for count in raw if isinstance(count, int) and _is_count(count))
    if len(counts) != len(raw) or len(raw) != len(WARNING_LINES):
        raise ValueError(f"'lines' should be null or {len(WARNING_LINES)} counts, one for each warning line")
    return counts


def _model(raw: object) -> Model:
    for model in get_args(Model):
        if raw == model:
            return model  # type: ignore[no-any-return]
    raise ValueError(f"'model' should be null or one of {', '.join(get_args(Model))}")


def _touched(raw: object) -> Touched:
    try:
        touched = touched_from(raw)  # type: ignore[arg-type]
    except (TypeError, KeyError, AttributeError, ValueError):
        raise ValueError(f"each of 'touched' should have just the keys {', '.join(_names(Touched))}") from None
    texts = [touched.change, *(text for one in touched.differences for text in (one.part, one.field, one.old, one.new))]
    numbers = [touched.vcpu, touched.call, *(one.vcpu for one in touched.differences)]
    if not all(isinstance(text, str) for text in texts) or not all(_is_count(number) for number in numbers):
        raise ValueError("'touched' has a value of another type than it should have")
    _answer({"vcpu": touched.vcpu, "answer": touched.answer})
    return touched


def _names(kind: type[Touched]) -> list[str]:
    return [field.name for field in fields(kind)]


def _one_of(raw: object, known: tuple[str, ...], key: str) -> str:
    if not isinstance(raw, str) or raw not in known:
        raise ValueError(f"'{key}' has an unknown value: {ascii(raw)[:40]}")
    return raw


def _is_count(raw: object) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool) and raw >= 0
