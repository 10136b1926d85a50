"""New vCPUs of another CPU model take over a guest's state, as in live migration and from a saved snapshot."""

from cpuidlab.base.errors import LabError, LostVMError, UnsupportedError
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.note import Note
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.kvm.changes import without_runtime_bits
from cpuidlab.kvm.cpuid import get_field
from cpuidlab.rig import guest_state
from cpuidlab.rig.guest_config import Profile

_QEMU_NAMES = {"maxphyaddr": "host-phys-bits=off,phys-bits", "gbpages": "pdpe1gb"}  # where QEMU has another name


def take_over(guest: Guest, change: str = "") -> None:
    """Save the guest, end its QEMU, and let another QEMU load the state into new vCPUs with this change of their CPUID.

    What the new QEMU sets counts as answers. Note whether the vCPUs have the saved registers; a guest without them is
    left stopped, or its QEMU has ended: 7.2 goes on without a word, 10.0 ends (do_kvm_cpu_synchronize_post_init). The
    VM is stopped before and after. Raises UnsupportedError where this QEMU makes no such vCPUs, LabError where the
    state cannot be saved, where QEMU makes vCPUs that differ in something else too, and where the registers and the
    hook's log do not agree.
    """
    rig = guest.rig
    if rig.profile is None:
        raise LabError("nobody knows with which CPU model this guest was started")
    guest.models_with(_as_qemu_does(guest, change), guest.vcpus)
    saved = {vcpu: rig.hook.where(vcpu) for vcpu in guest.vcpus}
    file = f"{rig.layout.folder}/guest.state"
    guest_state.save(rig, file)
    guest_state.end_qemu(rig)
    if not _load(guest, rig.profile.with_cpu(_qemu_words(change)), file):
        return
    loaded = {vcpu: rig.hook.where(vcpu) for vcpu in guest.vcpus}
    guest.write_down(f"saved at {saved}", f"loaded at {loaded}")
    if (loaded != saved) != guest.logs.last.sregs_refused:
        refused = "refused" if guest.logs.last.sregs_refused else "never refused"
        raise LabError(f"by the hook's log KVM {refused} the registers; saved at {saved}, loaded at {loaded}")
    if loaded == saved:
        guest.note(Note.REGISTERS_TAKEN)
    else:
        guest.note(Note.REGISTERS_REFUSED)
        guest.leave_stopped()
    for vcpu, model in guest.models().items():
        if without_runtime_bits(model) != without_runtime_bits(guest.asked[vcpu]):
            raise LabError(f"QEMU has made vCPU {vcpu} otherwise than with {change or 'no change'}", str(model))


def _load(guest: Guest, profile: Profile, file: str) -> bool:
    """Load the state into vCPUs of that profile; False where QEMU ends, as KVM refuses their CPUID or registers."""
    guest.restarted |= set(guest.vcpus)
    earlier = len(guest.answers)
    try:
        guest_state.load(guest.rig, profile, file)
    except LostVMError as error:
        guest.rig.machine.watch()  # it is the guest's QEMU that has ended, not the host
        guest.take_answers_to_qemu()
        answers = {answer.answer for answer in guest.answers[earlier:]}
        if not answers:
            raise UnsupportedError(f"QEMU makes no vCPUs of the model {profile.cpu}: {error}") from error
        if guest.logs.last.sregs_refused:
            guest.note(Note.REGISTERS_REFUSED)
            guest.leave_stopped()
        elif answers == {ACCEPTED}:
            raise
        return False
    guest.take_answers_to_qemu()
    return True


def _as_qemu_does(guest: Guest, change: str) -> str:
    """Return the change with what QEMU adds: from 9.1 on, GuestPhysAddrSize is at most MAXPHYADDR (with NPT)."""
    name, _, value = change.partition("=")
    if name == "maxphyaddr" and get_field(guest.before[guest.vcpus[0]], "guest_maxphyaddr"):
        return f"{change},guest_maxphyaddr={value}"
    return change


def _qemu_words(change: str) -> str:
    """Say a change as properties of QEMU's CPU model."""
    parts = (part.split("=") for part in change.split(",") if part)
    return ",".join(f"{_QEMU_NAMES.get(name, name)}={value}" for name, value in parts)
