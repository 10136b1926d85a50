"""An observation in lines, as the page shows it with a cell."""

from dataclasses import replace

import pytest
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import Fate, Observation
from cpuidlab.report.observation_lines import answer_lines, guest_lines, log_lines, model_lines, note_lines, state_lines
from observations import DEAD, SICK, SILENT, WARNED, seen, touch


def test_the_same_line_is_shown_once() -> None:
    assert answer_lines(SILENT) == ["vCPU 0: accepted", "vCPU 1: accepted"]
    assert answer_lines(replace(SILENT, answers=SILENT.answers[:1] * 3)) == ["vCPU 0: accepted  (x 3)"]
    assert all(line.startswith("<4> KVM: ") and line.endswith("  (x 2)") for line in log_lines(WARNED))
    assert (answer_lines(seen()), log_lines(seen())) == (["KVM_SET_CPUID was not called"], ["nothing"])


@pytest.mark.parametrize(
    ("observation", "lines"),
    [
        (seen(), ["stable"]),
        (seen(guest=SICK), ["oops: Oops: 0009 [#1]"]),
        (seen(guest=None), ["not looked at"]),
        (seen(guest=None, fate=DEAD), ["died after 0.4 s: triple fault; QEMU's exit code 0"]),
        (seen(guest=None, fate=Fate(False, "hangs")), ["died: hangs"]),
    ],
)
def test_what_became_of_the_guest(observation: Observation, lines: list[str]) -> None:
    assert guest_lines(observation) == lines


def test_which_model_was_read_back() -> None:
    assert model_lines(seen(model="before")) == ["what it was before"]
    assert model_lines(seen(model=None)) == ["not read back"]


def test_what_calls_changed_in_the_state_of_a_vcpu() -> None:
    assert state_lines(SILENT) == []
    calls = [touch(1, "dr7"), touch(0, "dr6", answer="accepted", change="", call=1)]
    assert state_lines(seen(touched=calls)) == [
        "KVM_SET_CPUID2 on vCPU 0 (nx=off), EINVAL: vCPU 1: dr7 0x400 -> 0x0",
        "KVM_SET_CPUID on vCPU 0 (identical), accepted: vCPU 0: dr6 0x400 -> 0x0",
    ]


def test_notes_stand_in_the_order_of_time() -> None:
    notes = (Note.MISSED_FAULT, Note.FAULT)
    assert note_lines(replace(SILENT, notes=notes)) == ["missed fault", "then fault"]
    assert note_lines(SILENT) == []
