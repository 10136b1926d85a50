"""The freeze map in words: what each kernel answers, whether the table says so, and how two kernels differ."""

from collections.abc import Sequence

from cpuidlab.experiment.freeze import FreezeMap, FrozenMsr
from cpuidlab.experiment.freeze_table import UNTRIED, FreezeCall, calls
from cpuidlab.judge.freeze_rules import Rule, commits_between, expected, is_made_by_kvm, msr_name
from cpuidlab.report.bit_ranges import bit_ranges
from cpuidlab.report.sweep_map import Map

ABSENT = "absent"
_WHEN = {
    (True, False, False): "before the first vCPU",
    (False, True, False): "on a vCPU that has not run",
    (False, False, True): "once the vCPU has run",
    (False, True, True): "once there is a vCPU",
    (True, True, True): "at any time",
}


def answers_of(one: Map, name: str) -> tuple[str, ...]:
    """The answers to a call, one a phase; empty where the kernel lacks it."""
    return one.freeze.answers.get(name, ()) if one.freeze else ()


def call_text(answers: Sequence[str]) -> str:
    """Such as `accepted / EINVAL / EINVAL`, or one word where each phase has the same answer."""
    tried = [word for word in answers if word != UNTRIED]
    return (" / ".join(answers) if len(set(tried)) > 1 else tried[0]) if tried else ABSENT


def msr_text(one: FrozenMsr) -> str:
    """What became of the bits of a feature MSR, such as `frozen: 0, 3:1`."""
    before, after = one.taken("not run"), one.taken("has run")
    text = "no bit can be changed"
    if one.is_frozen:
        rest = f"; still {bit_ranges(after)}" if after else ""
        text = f"frozen: {bit_ranges(before & ~after)}{rest}"
        text += ", in L2 too" if one.is_frozen_in_l2 else ""
    elif before | after:
        text = f"not frozen: {bit_ranges(after)}"
    lost = [phase for phase, same in one.same.items() if not same]
    return text + "".join(f"; its own value is refused ({phase})" for phase in lost)


def frozen_calls(found: FreezeMap) -> list[FreezeCall]:
    """The calls that KVM takes at first and refuses later."""
    return [calls()[name] for name, answers in found.answers.items() if len(set(answers) - {UNTRIED}) > 1]


def freeze_story(one: Map) -> list[str]:
    """The freeze part in a few lines, for a terminal."""
    if one.freeze is None:
        return []
    frozen = frozen_calls(one.freeze)
    msrs = [msr for msr in one.freeze.msrs if msr.is_frozen]
    calls_text = f"calls: {len(frozen)} of {len(one.freeze.answers)}"
    msrs_text = f"feature MSRs: {len(msrs)} of {len(one.freeze.msrs)}"
    head = f"frozen by the first vCPU or its first run: {calls_text}; {msrs_text}"
    return [head, *(f"not as the table says: {line}" for line in disagreements(one))]


def disagreements(one: Map) -> list[str]:
    """Where the kernel of a map does not answer as the table says for its version, a sentence each."""
    return unlike_the_table(one.freeze, one.release, one.version) if one.freeze else []


def unlike_the_table(found: FreezeMap, release: str, version: str) -> list[str]:
    """Where a kernel of that release and version does not answer as the table says, a sentence each."""
    lines = []
    for name, answers in found.answers.items():
        rule = expected(name, release, version)
        if rule and rule.answers != answers:
            lines.append(f"{calls()[name].text}: {call_text(answers)}; the table says {call_text(rule.answers)}")
    for msr in found.msrs:
        rule = expected(msr_name(msr.index), release, version)
        if rule and msr.taken("not run") and not _fits(msr, rule):
            lines.append(f"{msr_title(msr.index)}: {msr_text(msr)}; the table says {', '.join(rule.answers)}")
        if not all(msr.same.values()) and not is_made_by_kvm(msr.index):
            lines.append(f"{msr_title(msr.index)}: {msr_text(msr)}")
    return lines


def _fits(msr: FrozenMsr, rule: Rule) -> bool:
    in_l2 = msr.is_frozen_in_l2
    return msr.is_frozen == ("frozen" in rule.answers) and in_l2 in (None, "in L2 too" in rule.answers)


def rule_of(one: Map, name: str) -> Rule | None:
    """The rule of a call or MSR for the kernel of a map; None where its version does not tell."""
    return expected(name, one.release, one.version)


def difference(old: Map, new: Map) -> list[str]:
    """What is frozen differently on `new`, a sentence each; nothing where one of the two maps has no freeze part."""
    if old.freeze is None or new.freeze is None:
        return []
    return [*_known_lines(old, new), *_call_lines(old, new), *_msr_lines(old, new)]


def _known_lines(old: Map, new: Map) -> list[str]:
    lines = []
    for one, other in ((old, new), (new, old)):
        lacking = [
            call.text for call in calls().values() if answers_of(one, call.name) and not answers_of(other, call.name)
        ]
        if lacking:
            lines.append(f"known on {one.name} only: {', '.join(lacking)}")
    return lines


def _call_lines(old: Map, new: Map) -> list[str]:
    lines = []
    for call in calls().values():
        then, now = answers_of(old, call.name), answers_of(new, call.name)
        for was, becomes in dict.fromkeys(zip(then, now, strict=True) if then and now else ()):
            if was == becomes:
                continue
            moved = [(a, b) == (was, becomes) for a, b in zip(then, now, strict=True)]
            when = _when(moved, call)
            lines.append(
                f"{call.text}, {when}: {was} on {old.name}, {becomes} on {new.name}{_why(call.name, old, new)}"
            )
    return lines


def _when(moved: Sequence[bool], call: FreezeCall) -> str:
    first, made, run = moved
    if call.on == "vcpu" and made and run:
        return "at any time"
    return _WHEN.get((first, made, run), "before the first vCPU and once it has run")


def _msr_lines(old: Map, new: Map) -> list[str]:
    then, now = ({msr.index: msr for msr in one.freeze.msrs} if one.freeze else {} for one in (old, new))
    lines = []
    for index in sorted({*then, *now}):
        a, b = then.get(index), now.get(index)
        texts = [msr_text(msr) if msr else "no such feature MSR" for msr in (a, b)]
        if texts[0] != texts[1]:
            moved = a is not None and b is not None and _states(a) != _states(b)
            why = _why(msr_name(index), old, new) if moved else ""
            lines.append(f"{msr_title(index)}: {texts[0]} on {old.name}, {texts[1]} on {new.name}{why}")
    return lines


def _states(msr: FrozenMsr) -> tuple[bool, bool | None]:
    return msr.is_frozen, msr.is_frozen_in_l2


def msr_title(index: int) -> str:
    """The name of a feature MSR, such as `AMD64_DE_CFG (0xc0011029)`."""
    name = msr_name(index)
    return f"MSR 0x{index:x}" if name.endswith("MSRs") else f"{name} (0x{index:x})"


def _why(name: str, old: Map, new: Map) -> str:
    """The commits behind a difference that the table explains."""
    rules = [rule_of(one, name) for one in (old, new)]
    if rules[0] is None or rules[1] is None:
        return ""
    commits = commits_between(name, rules[0], rules[1])
    return f" ({', '.join(commits)})" if commits else ""
