"""What a look at a guest shows: of one that lives, hangs, ends while it is looked at, or that nobody can reach."""

from collections.abc import Callable

import pytest
from cpuidlab.base.errors import GivenUpError, LabError, LostVMError
from cpuidlab.experiment import guest_exit, observe
from cpuidlab.experiment.guest import Course, Guest
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import Fate, GuestReport, Observation, Unseen, VcpuAnswer
from cpuidlab.experiment.observe import Look, look_last, observed
from cpuidlab.kvm.cpuid import with_field
from cpuidlab.kvm.hook_answers import Where
from cpuidlab.kvm.warning import WARNING_LINES
from fakerig import FakeRig, event, guest_on
from models import EPYC

NO_LOGIN = LabError("waited in vain for SSH to the guest", "its console")
GAVE_UP = "5.600000001 internal_error vcpu=0\n"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No look waits."""
    monkeypatch.setattr(guest_exit, "STUCK_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(observe, "END_SECONDS", 0.01)
    monkeypatch.setattr(observe, "CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(observe, "PATIENCE", {Course.RUNS_ON: (1.0, 2.0), Course.BOOTS: (3.0,)})


def look_at(rig: FakeRig, do: Callable[[Guest], object] = lambda _: None) -> Observation:
    guest = guest_on(rig)
    do(guest)
    return Look(guest).observe()


def test_a_guest_that_takes_a_change() -> None:
    rig = FakeRig()
    rig.hook.lines = WARNING_LINES

    def do(guest: Guest) -> None:
        guest.set_cpuid("maxphyaddr=36")
        guest.note(Note.NO_FAULT)

    observation = look_at(rig, do)
    assert observation.answers == (VcpuAnswer(0, "accepted"), VcpuAnswer(1, "accepted"))
    assert (observation.model, observation.guest, observation.fate) == ("asked", GuestReport(True), Fate(True))
    assert [record.text for record in observation.host_log] == [*WARNING_LINES, *WARNING_LINES]
    assert (observation.notes, observation.unseen) == ((Note.NO_FAULT,), None)
    assert [step for step in rig.log if not step.startswith(("set ", "health "))] == [
        "query-status", "resume", "login", "stop", "query-status",
    ]  # fmt: skip


def test_a_guest_that_is_not_let_run_is_not_looked_at() -> None:
    rig = FakeRig(has_run=False)
    observation = look_at(rig, Guest.set_cpuid)
    assert (observation.guest, observation.fate, observation.model) == (None, Fate(True), "asked")
    assert "resume" not in rig.log and "login" not in rig.log


def test_a_refused_change_leaves_the_model_from_before() -> None:
    rig = FakeRig()
    rig.hook.errno = 22
    assert look_at(rig, lambda guest: guest.set_cpuid("nx=off")).model == "before"


def test_a_host_that_gives_up_its_tsc_meanwhile() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.hook.host_lines.append("tsc: Marking TSC unstable due to clocksource watchdog")
    with pytest.raises(LabError, match="the host's kernel marked its TSC unstable"):
        Look(guest).observe()


def test_what_is_wrong_with_a_guest_that_lives_is_told() -> None:
    rig = FakeRig()
    rig.guest_log.append("0,101,9000000,-;BUG: soft lockup - CPU#1 stuck for 22s!")
    guest = guest_on(rig)
    rig.hook.events.append(GAVE_UP)  # the guest has outlived it
    report = Look(guest).observe().guest
    assert report == GuestReport(
        False, ("lockup: BUG: soft lockup - CPU#1 stuck for 22s!", "KVM_EXIT_INTERNAL_ERROR on vCPU 0")
    )


def test_a_guest_that_has_ended_is_not_asked_for_anything() -> None:
    rig = FakeRig()
    rig.texts["guest-console"] = "[    1.0] Kernel panic - not syncing: Fatal exception\r\n"

    def do(guest: Guest) -> None:
        guest.set_cpuid("maxphyaddr=36")
        rig.hook.events.append("6.000000001 shutdown vcpu=0\n")
        rig.end_qemu(0, "", event("RESUME", 100.0), event("SHUTDOWN", 101.5, reason="guest-reset"))

    observation = look_at(rig, do)
    how = "triple fault (KVM_EXIT_SHUTDOWN), after Kernel panic - not syncing: Fatal exception"
    assert observation.fate == Fate(False, how, 1.5, 0)
    assert (observation.guest, observation.model) == (None, None)
    assert "login" not in rig.log


@pytest.mark.parametrize("failure", [LostVMError("QMP broke off during stop"), LabError("the hook is not there")])
def test_a_guest_that_ends_while_its_models_are_read_has_ended(failure: Exception) -> None:
    rig = FakeRig()

    def ends() -> None:
        rig.end_qemu(0, "", event("SHUTDOWN", reason="guest-reset"))
        raise failure

    guest = guest_on(rig)
    rig.stop = ends  # type: ignore[method-assign]
    assert Look(guest).observe().fate.how == "reset by the guest itself (guest-reset)"
    lives = FakeRig()
    guest = guest_on(lives)
    lives.stop_fails = failure
    with pytest.raises(type(failure), match=str(failure)):
        Look(guest).observe()


@pytest.mark.parametrize("when", ["before the login", "in the login", "after a healthy answer"])
def test_a_guest_that_kvm_gives_up_is_dead_and_does_not_hang(when: str) -> None:
    rig = FakeRig()
    guest = guest_on(rig)

    def give_up() -> None:
        rig.qmp.status = "internal-error"
        rig.hook.events.append(GAVE_UP)
        rig.texts["qemu-stderr"] = "KVM internal error. Suberror: 1\nemulation failure\nRAX=0\n"

    login = rig.login

    def given_up_in_the_login(deadline: object) -> object:
        give_up()
        if when == "in the login":
            raise LostVMError("the guest's QEMU stopped by itself")
        return login(deadline)  # type: ignore[arg-type]

    if when == "before the login":
        give_up()
    else:
        rig.login = given_up_in_the_login  # type: ignore[method-assign, assignment]
    fate = Look(guest).observe().fate
    assert fate == Fate(
        False, "KVM_EXIT_INTERNAL_ERROR on vCPU 0: KVM internal error. Suberror: 1, emulation failure", None, None
    )


def test_a_vm_in_which_kvm_has_met_its_own_bug_is_dead_and_still_there() -> None:
    rig = FakeRig()
    rig.program = LabError("it does not answer")
    guest = guest_on(rig)
    rig.hook.get_fails = GivenUpError("EIO")
    assert "KVM_BUG_ON" in (Look(guest).observe().fate.how or "")


def test_a_guest_that_hangs_is_dead_though_its_qemu_lives() -> None:
    rig = FakeRig()
    rig.login_fails = NO_LOGIN
    rig.hook.looks = {0: [Where(0xFFFFFFFF81A0B2AB, 0, runs=True)] * guest_exit.STUCK_LOOKS}
    fate = look_at(rig).fate
    assert fate.how == "hangs: vCPU 0 does not get past RIP ffffffff81a0b2ab (CPL 0), 12 of 12 looks"
    assert fate.exit_code is None


def test_a_guest_that_panicked_is_dead_and_does_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpuidlab.experiment.observe.END_SECONDS", 0.05)
    monkeypatch.setattr(guest_exit, "stuck", lambda _: pytest.fail("a panic says more than where its vCPUs are"))
    rig = FakeRig()
    rig.login_fails = NO_LOGIN
    rig.texts["guest-console"] = "[    9.0] Kernel panic - not syncing: Fatal exception\r\n"
    assert look_at(rig).fate.how == "its QEMU lives on after Kernel panic - not syncing: Fatal exception"


def test_a_guest_that_ends_between_the_look_and_cont_has_ended() -> None:
    rig = FakeRig()

    def resume() -> None:
        rig.end_qemu(0, "", event("SHUTDOWN", 100.4, reason="guest-reset"))
        raise LostVMError("QMP broke off during cont")

    rig.resume = resume  # type: ignore[method-assign]
    assert look_at(rig).fate.how == "reset by the guest itself (guest-reset)"


def test_a_guest_that_kvm_gives_up_between_the_look_and_cont_has_died() -> None:
    rig = FakeRig()

    def resume() -> None:
        rig.qmp.status = "internal-error"
        rig.hook.events.append(GAVE_UP)
        raise LabError("QMP cont was refused: Resetting the Virtual Machine is required")

    rig.resume = resume  # type: ignore[method-assign]
    fate = look_at(rig).fate
    assert not fate.alive and fate.how.startswith("KVM_EXIT_INTERNAL_ERROR on vCPU 0")


def test_a_cont_that_fails_on_a_guest_that_lives_is_a_failure_of_the_lab() -> None:
    rig = FakeRig()

    def resume() -> None:
        raise LabError("QMP cont was refused")

    rig.resume = resume  # type: ignore[method-assign]
    assert look_at(rig).unseen == Unseen("QMP cont was refused")


def test_a_slow_guest_is_asked_again() -> None:
    rig = FakeRig()
    tries = []

    def login(deadline: object) -> object:
        tries.append(deadline)
        rig.login_fails = NO_LOGIN if len(tries) == 1 else None
        return FakeRig.login(rig, deadline)  # type: ignore[arg-type]

    rig.login = login  # type: ignore[method-assign, assignment]
    assert look_at(rig).guest == GuestReport(True)
    assert len(tries) == 2


def test_of_a_guest_that_only_its_console_speaks_of_that_is_its_health() -> None:
    rig = FakeRig()
    rig.login_fails = NO_LOGIN
    rig.texts["guest-console"] = "[    9.0] Oops: 0009 [#1] PREEMPT SMP\r\n"
    assert look_at(rig).guest == GuestReport(False, ("Oops: 0009 [#1] PREEMPT SMP",))


def test_an_oops_over_a_reserved_bit_that_ends_the_health_program_is_the_guests_health() -> None:
    rig = FakeRig()
    rig.program = "== uptime\n1.0 1.0\n"
    rig.texts["guest-console"] = "[   15.6] Bad pagetable: 001d [#1] PREEMPT SMP NOPTI\r\n"
    assert look_at(rig).guest == GuestReport(False, ("Bad pagetable: 001d [#1] PREEMPT SMP NOPTI",))


def test_a_guest_that_nobody_reaches_is_unseen_and_the_rest_is_seen() -> None:
    rig = FakeRig()
    rig.login_fails = NO_LOGIN
    rig.hook.errno = 22
    guest = guest_on(rig)
    guest.set_cpuid("maxphyaddr=36")
    observation = Look(guest).observe()
    assert observation.unseen == Unseen("waited in vain for SSH to the guest", "its console")
    assert (observation.guest, observation.fate, observation.model) == (None, Fate(True), "before")
    with pytest.raises(LabError, match="in vain for SSH") as caught:
        observed(guest)
    assert caught.value.evidence == "its console"


def test_why_nobody_reaches_the_guest_explains_what_cannot_be_seen_then() -> None:
    rig = FakeRig()
    rig.login_fails = NO_LOGIN
    guest = guest_on(rig)
    rig.stop_fails = LabError("no models either")
    with pytest.raises(LabError, match="in vain for SSH"):
        Look(guest).observe()
    guest.leave_stopped()
    with pytest.raises(LabError, match="no models either"):
        Look(guest).observe()


def test_witnesses_that_contradict_each_other_are_no_observation() -> None:
    rig = FakeRig()

    def do(guest: Guest) -> None:
        guest.set_cpuid()
        rig.hook.events.pop()

    with pytest.raises(LabError, match="the witnesses contradict each other"):
        look_at(rig, do)


def test_a_host_log_with_holes_is_no_observation() -> None:
    rig = FakeRig()
    files = rig.files
    guest = guest_on(rig)
    rig.files = lambda: {**files(), "host-log": "4,0,0,-;boot\n4,2,2,-;later\n"}  # type: ignore[method-assign]
    with pytest.raises(LabError, match="silence cannot be claimed"):
        Look(guest).observe()


def test_the_calls_of_a_sweep_are_counted() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.hook.events.append("1.000000000 sweep vcpu=0 nent=1 accepted=5 refused=2 restored=4\n")
    assert Look(guest).observe().sweep_calls == 9


OLD = with_field(with_field(EPYC, "osxsave", 0), "xsave_size", 576)
NEW = with_field(with_field(EPYC, "osxsave", 1), "xsave_size", 832)


@pytest.mark.parametrize(
    ("begins", "model"), [("nothing", "other"), ("the guest boots", "asked"), ("vCPU 1 is plugged in", "asked")]
)
def test_what_kvm_keeps_itself_counts_unless_the_vcpu_begins_anew(begins: str, model: str) -> None:
    rig = FakeRig(has_run=False, vcpus=(1,))
    rig.hook.models[1] = OLD
    guest = guest_on(rig)
    if begins == "the guest boots":
        guest.let_boot()
        guest.leave_stopped()
    elif begins == "vCPU 1 is plugged in":
        guest.adopt(1)
    guest.before[1] = with_field(OLD, "maxphyaddr", 36)
    rig.hook.models[1] = NEW
    assert Look(guest).observe().model == model


def test_the_last_look_takes_in_what_still_answers() -> None:
    rig = FakeRig()
    guest = guest_on(rig)
    rig.qmp.registers = "HLT=1"
    rig.texts["qemu-stderr"] = "as it is now"
    look_last(guest)
    assert (guest.readings, guest.logs.last.qemu_stderr) == (["when the lab failed:\nHLT=1"], "as it is now")

    def gone() -> dict[str, str]:
        raise LabError("nothing answers")

    rig.qmp.ended, rig.files = True, gone  # type: ignore[method-assign]
    look_last(guest)
    assert (len(guest.readings), guest.logs.last.qemu_stderr) == (1, "as it is now")


def test_a_look_changes_nothing_of_what_the_test_has_seen() -> None:
    guest = guest_on(FakeRig())
    guest.set_cpuid("maxphyaddr=36")
    assert Look(guest).observe() == Look(guest).observe()
