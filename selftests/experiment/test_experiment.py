"""What a story makes of a guest that ends while it is being looked at."""

from types import SimpleNamespace

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import GivenUpError, LabError, LostVMError
from cpuidlab.experiment import guest_exit, health
from cpuidlab.experiment.experiment import Story, UnseenError
from cpuidlab.experiment.observation import which_model
from cpuidlab.kvm.cpuid import with_field
from models import EPYC


def test_what_a_program_says_before_the_guest_ends_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: Deadline) -> str:
        raise LostVMError("the guest panicked")

    story = story_whose_stop(None)
    assert story.said(SimpleNamespace(end=lambda _: "exit 0\n")) == "exit 0\n"  # type: ignore[arg-type]
    monkeypatch.setattr(guest_exit, "await_end", lambda *_: True)
    assert story.said(SimpleNamespace(end=lost)) is None  # type: ignore[arg-type]
    monkeypatch.setattr(guest_exit, "await_end", lambda *_: False)
    with pytest.raises(LostVMError, match="panicked"):
        story.said(SimpleNamespace(end=lost))  # type: ignore[arg-type]


def test_the_last_look_takes_what_still_answers() -> None:
    def gone(*_: object, **__: object) -> str:
        raise LabError("nothing answers")

    story = story_whose_stop(None)
    story.readings, story._files = [], {"hook-log": "at first"}
    story.rig = SimpleNamespace(qmp=SimpleNamespace(execute=lambda *_, **__: "HLT=1"), files=gone)  # type: ignore[assignment]
    story.look_last()
    assert (story.readings, story._files) == (["when the lab failed:\nHLT=1"], {"hook-log": "at first"})
    story.rig = SimpleNamespace(qmp=SimpleNamespace(execute=gone), files=lambda: {"hook-log": "now"})  # type: ignore[assignment]
    story.look_last()
    assert (len(story.readings), story._files) == (1, {"hook-log": "now"})


def test_time_is_kept_for_a_look_at_what_does_not_end() -> None:
    story = story_whose_stop(None)
    story.deadline = Deadline.after(100)
    left = story.said(SimpleNamespace(end=lambda deadline: deadline.left()))  # type: ignore[arg-type]
    assert left is not None and 75 < float(left) < 85


def test_the_rest_is_seen_of_a_guest_that_nobody_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost() -> None:
        raise LabError("no login")

    def worse() -> None:
        raise LabError("no models either")

    story = story_whose_stop(None)
    story.runs = True
    monkeypatch.setattr(story, "_look_at_guest", lost)
    monkeypatch.setattr(story, "_seen", lambda: "the rest")
    with pytest.raises(UnseenError, match="no login") as unseen:
        story.observe()
    assert unseen.value.seen == "the rest"
    monkeypatch.setattr(story, "_seen", worse)
    with pytest.raises(LabError, match="no login"):
        story.observe()
    story.runs = False
    with pytest.raises(LabError, match="no models either"):
        story.observe()


HOOK_LOG = "5.500000001 set_cpuid2 by=hook vcpu=0 nent=29 ret=0 errno=0\n"
GAVE_UP = "5.600000001 internal_error vcpu=0\n"


@pytest.mark.parametrize("when", [0, 1, 2])  # before the login, in it, and after a healthy answer
def test_a_guest_that_kvm_gives_up_is_dead_and_does_not_hang(when: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_: Deadline) -> None:
        raise LostVMError("the guest's QEMU stopped by itself: KVM internal error")

    looks = iter([False] * when + [True])
    story = story_whose_stop(None)
    files = {"hook-log": HOOK_LOG + GAVE_UP, "qemu-stderr": "KVM internal error. Suberror: 1\nemulation failure\nRAX=0"}
    story.rig.__dict__.update(resume=lambda: None, login=stopped, files=lambda: files)
    story.patience, story._hook_mark = (1.0,), 0
    monkeypatch.setattr(guest_exit, "is_gone", lambda _: False)
    monkeypatch.setattr(guest_exit, "is_given_up", lambda _: next(looks, True))
    monkeypatch.setattr(guest_exit, "stuck", lambda _: "hangs: vCPU 0")
    if when < 2:
        assert story._look_at_guest() is None
    else:
        next(looks), next(looks)
        assert story._takes_models()
    assert story._dead == "KVM_EXIT_INTERNAL_ERROR on vCPU 0: KVM internal error. Suberror: 1, emulation failure"


def test_a_program_of_a_guest_that_kvm_gives_up_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: Deadline) -> str:
        raise LostVMError("the guest's QEMU stopped by itself: KVM internal error")

    story = story_whose_stop(None)
    monkeypatch.setattr(story, "_given_up", lambda: True)
    monkeypatch.setattr(guest_exit, "await_end", lambda *_: pytest.fail("nobody need wait"))
    assert story.said(SimpleNamespace(end=lost)) is None  # type: ignore[arg-type]


def test_an_internal_error_that_a_guest_survives_is_a_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    story = story_whose_stop(None)
    story._looked, story._hook_mark, story._booted = "healthy", 0, False  # type: ignore[assignment]
    story._guest_mark, story.after = None, {0: None, 1: None}  # type: ignore[assignment, dict-item]
    monkeypatch.setattr(health, "troubles", lambda *_: ())
    for log, troubles in ((HOOK_LOG, ()), (HOOK_LOG + GAVE_UP, ("KVM_EXIT_INTERNAL_ERROR on vCPU 0",))):
        story._files = {"hook-log": log}
        report = story._report()
        assert report and (report.stable, report.troubles) == (not troubles, troubles)


def story_whose_stop(failure: Exception | None) -> Story:
    def stop() -> None:
        if failure:
            raise failure

    story = object.__new__(Story)
    qmp = SimpleNamespace(execute=lambda *_: {"status": "paused"})
    story.rig = SimpleNamespace(
        stop=stop, qmp=qmp, deadline=None, hook=SimpleNamespace(get=lambda vcpu: f"model {vcpu}")
    )  # type: ignore[assignment]
    story.vcpus, story.after, story.deadline, story._dead = (0, 1), {}, Deadline.after(1), None
    return story


def test_the_models_of_a_guest_that_lives() -> None:
    story = story_whose_stop(None)
    assert story._takes_models()
    assert story.after == {0: "model 0", 1: "model 1"}


@pytest.mark.parametrize("failure", [LostVMError("QMP broke off during stop"), LabError("the hook is not there")])
def test_a_guest_that_ends_just_before_its_models_are_read_has_ended(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_exit, "await_end", lambda *_: True)
    assert not story_whose_stop(failure)._takes_models()
    monkeypatch.setattr(guest_exit, "await_end", lambda *_: False)
    with pytest.raises(type(failure), match=str(failure)):
        story_whose_stop(failure)._takes_models()


def test_a_vm_that_kvm_gave_up_is_dead_and_still_there() -> None:
    story = story_whose_stop(GivenUpError("EIO"))
    assert story._takes_models()
    assert "KVM_BUG_ON" in (story._dead or "")


OLD = with_field(with_field(EPYC, "osxsave", 0), "xsave_size", 576)
NEW = with_field(with_field(EPYC, "osxsave", 1), "xsave_size", 832)
NARROW = with_field(NEW, "maxphyaddr", 36)


@pytest.mark.parametrize("begins", ["nothing", "the guest boots", "vCPU 1 is plugged in"])
def test_what_kvm_keeps_itself_counts_unless_the_guest_begins_anew(
    begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = story_whose_stop(None)
    story.vcpus, story._begun, story.before, story.asked = (1,), set(), {}, {}
    monkeypatch.setattr(story, "qemu_set", lambda: None)
    if begins == "the guest boots":
        story.boots()
    elif begins == "vCPU 1 is plugged in":
        story.adopt(1)
    seen, asked, other = (story._comparable({1: model}) for model in (NEW, OLD, NARROW))
    assert which_model(seen, asked, other) == ("other" if begins == "nothing" else "asked")
    assert which_model(other, asked, asked) == "other"
