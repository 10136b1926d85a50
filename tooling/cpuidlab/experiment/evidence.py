"""The files of a test's evidence folder: all that a reader needs to judge by himself."""

from cpuidlab.base.errors import LabError
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.health import Health
from cpuidlab.experiment.observe import Look
from cpuidlab.experiment.rig_logs import RigLogs
from cpuidlab.kvm import cpuid, kmsg
from cpuidlab.kvm.cpuid import Model


def files(guest: Guest, look: Look) -> dict[str, str]:
    """Return file name -> text, as far as the test and the look have come."""
    logs = guest.logs.last
    return {
        "host-log.txt": _host_log(logs),
        "guest-log.txt": _guest_log(guest, look),
        "guest-console.txt": logs.guest_console,
        "qemu-stderr.txt": logs.qemu_stderr,
        "readings.txt": "".join(f"{line}\n" for line in guest.readings),
        "hook-log.txt": logs.files["hook-log"],
        "qmp.txt": "".join(f"{line}\n" for line in guest.rig.qmp_transcript),
        "models-before.txt": _models(guest.before),
        "models-after.txt": _models(look.after),
        "models-diff.txt": _differences(guest.before, look.after),
        **guest.state.files(),
    }


def _host_log(logs: RigLogs) -> str:
    """What the host logged since the mark; the raw log where that cannot be told."""
    try:
        return kmsg.to_text(logs.host)
    except LabError:
        return logs.files["host-log"]


def _guest_log(guest: Guest, look: Look) -> str:
    """What the guest logged since the mark, even where records are missing."""
    log = look.guest_look.log if isinstance(look.guest_look, Health) else ()
    return kmsg.to_text(record for record in log if record.sequence > guest.mark.kmsg)


def _models(models: dict[int, Model]) -> str:
    return "".join(f"vCPU {vcpu}\n{cpuid.to_text(model)}\n" for vcpu, model in models.items())


def _differences(before: dict[int, Model], after: dict[int, Model]) -> str:
    return "".join(
        f"vCPU {vcpu}: {line}\n"
        for vcpu, model in after.items()
        for line in cpuid.diff(before[vcpu], model) or ["unchanged"]
    )
