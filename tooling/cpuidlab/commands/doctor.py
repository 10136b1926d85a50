"""`cpuidlab doctor`: see what this machine can do, what is missing, and the exact command that mends it.

The command starts quickly: nothing of Avocado, SSH or the kernel machinery is imported at the top.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import OK, USAGE
from cpuidlab.base.paths import PROJECT, TOOLING, cache_dir
from cpuidlab.commands import doctor_kvm

GIB = 1 << 30
MEMORY_NEEDED = 2 * GIB  # one host VM of 1 GiB, QEMU's own memory, Avocado and the tests
DISK_NEEDED = 1 * GIB  # of room left; an empty cache grows more on the first run, see DISK_WANTED
DISK_WANTED = 7 * GIB  # the cache stays below 6 GB, whatever the number of hosts, and rigs in the making need some
FALLBACK = "not needed: hosts run under emulation"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `mend` is the command that mends a lack; "" where nothing is or can be mended."""

    name: str
    ok: bool
    required: bool
    found: str
    mend: str = ""


def diagnose() -> Iterator[Check]:
    """Yield every check, in the order in which a user would mend things."""
    yield _architecture()
    yield _packages()
    emulation = doctor_kvm.ask_emulation()
    yield _qemu(emulation)
    yield _tcg_svm(emulation)
    yield _host_qemu(emulation)
    kvm = _kvm(emulation)
    yield kvm
    yield _nesting(kvm)
    yield _bochs()
    yield _memory()
    yield _cores()
    yield from _cache()
    yield _kernels()


def main(as_json: bool) -> int:
    """Print all checks; return 0, or 2 where something required is missing."""
    checks = []
    for check in diagnose():
        checks.append(check)
        if not as_json:
            print(_line(check), flush=True)
    if as_json:
        print(json.dumps({"checks": [asdict(check) for check in checks]}, indent=2))
    lacking = [check.name for check in checks if check.required and not check.ok]
    if lacking:
        print(f"cpuidlab doctor: cannot test here yet, first mend: {', '.join(lacking)}", file=sys.stderr)
    return USAGE if lacking else OK


def _line(check: Check) -> str:
    mark = "ok  " if check.ok else "LACK" if check.required else "note"
    text = f"  {mark} {check.name:13} {check.found}"
    return f"{text}\n       {'':13} mend: {check.mend}" if check.mend else text


def _architecture() -> Check:
    machine = os.uname().machine
    story = machine if machine == "x86_64" else f"{machine}; x86-64 is needed, for hosts get their programs from here"
    return Check("architecture", machine == "x86_64", True, story)


def _packages() -> Check:
    missing = _setup("missing").split()
    if not missing:
        return Check("packages", True, True, "all of tooling/packages.txt installed")
    return Check("packages", False, True, f"missing: {' '.join(missing)}", _setup("command").strip())


def _setup(step: str) -> str:
    done = subprocess.run(
        [TOOLING / "setup.sh", step], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60, check=False
    )
    if done.returncode:
        raise UsageError(done.stderr.strip() or f"tooling/setup.sh {step} failed")
    return done.stdout


def _qemu(emulation: doctor_kvm.Emulation) -> Check:
    if emulation.version:
        return Check("qemu", True, True, emulation.version)
    return Check("qemu", False, True, emulation.complaint, "make setup")


def _tcg_svm(emulation: doctor_kvm.Emulation) -> Check:
    missing = [name for name, there in (("svm", emulation.svm), ("npt", emulation.npt)) if not there]
    if not missing:
        return Check("tcg-svm", True, True, "QEMU emulates AMD SVM with nested paging")
    return Check(
        "tcg-svm",
        False,
        True,
        f"a vCPU under TCG has no {', '.join(missing)}",
        "sudo apt-get install --reinstall qemu-system-x86",
    )


def _host_qemu(emulation: doctor_kvm.Emulation) -> Check:
    """Try whether this machine's QEMU can carry hosts in each paging mode; about 0.5 s, once for each QEMU."""
    from cpuidlab.rig import host_qemu  # noqa: PLC0415  it brings much with it

    if not (emulation.svm and emulation.npt):
        return Check("host-qemu", False, False, "not tried: this QEMU emulates no SVM with nested paging")
    try:
        is_good = host_qemu.sees_cr3_reads(host_qemu.own_qemu())
    except (LabError, UsageError, OSError, RuntimeError) as error:  # RuntimeError: no HOME, see _cache
        return Check("host-qemu", False, False, f"could not be tried: {error}")
    if is_good:
        return Check("host-qemu", True, False, "this QEMU carries hosts under nested and under shadow paging")
    other = f"QEMU of Debian's suite {host_qemu.SUITE}, which a job fetches into the cache ({host_qemu.FETCHED_MB} MB)"
    return Check("host-qemu", True, False, f"this QEMU misses reads of CR3; hosts run under the {other}")


def _kvm(emulation: doctor_kvm.Emulation) -> Check:
    device, module = Path("/dev/kvm"), f"kvm_{'intel' if 'vmx' in _cpu_flags() else 'amd'}"
    if not device.exists():
        loadable = {"svm", "vmx"} & _cpu_flags()
        if loadable:
            return Check("kvm", False, False, f"no /dev/kvm; {FALLBACK}", f"sudo modprobe {module}")
        return Check("kvm", False, False, f"no /dev/kvm; {FALLBACK}")
    if not os.access(device, os.R_OK | os.W_OK):
        mend = 'sudo usermod -aG kvm "$USER"  # then log in again'
        return Check("kvm", False, False, "/dev/kvm is there and may not be opened", mend)
    if not emulation.version:
        return Check("kvm", False, False, "/dev/kvm is there, and without QEMU it cannot be tried", "make setup")
    trial = doctor_kvm.try_kvm(emulation, _newest_kernel(), _cache_or_temporary() / "doctor" / "kvm-trial.json")
    return Check("kvm", trial.runs, False, f"/dev/kvm: {trial.story}{'' if trial.runs else f'; {FALLBACK}'}")


def _nesting(kvm: Check) -> Check:
    """Try whether nested hosts run on this machine's KVM; on hardware a few seconds, and once after each boot."""
    from cpuidlab.kernels.lookup import known  # noqa: PLC0415
    from cpuidlab.rig.carrier import KVM  # noqa: PLC0415
    from cpuidlab.rig.host_config import check_accel  # noqa: PLC0415
    from cpuidlab.rig.real_setup import GUEST_KERNEL  # noqa: PLC0415

    if not kvm.ok:
        return Check("nesting", False, False, f"not tried: no guest runs on this machine's KVM; {FALLBACK}")
    try:
        if known(GUEST_KERNEL) is None:
            return Check("nesting", False, False, f"not tried: kernel {GUEST_KERNEL} is not here yet", "make smoke")
        check_accel(KVM)
    except (LabError, UsageError, OSError, RuntimeError) as error:  # RuntimeError: no HOME, see _cache
        return Check("nesting", False, False, f"{error}; {FALLBACK}", _allow_nesting())
    return Check("nesting", True, False, "nested hosts run on this machine's KVM: use --accel kvm instead of emulation")


def _bochs() -> Check:
    """See whether a job can run Intel hosts under Bochs; nothing is built to find out."""
    from cpuidlab.base.artifacts import NotMadeError, only_looking  # noqa: PLC0415
    from cpuidlab.rig import bochs  # noqa: PLC0415

    what = "--accel bochs runs hosts with kvm_intel on any machine"
    try:
        with only_looking():
            bochs.bochs()
    except (NotMadeError, LabError, UsageError, OSError, RuntimeError):  # RuntimeError: no HOME, see _cache
        lack = bochs.lacking()
        if lack:
            return Check("bochs", False, False, f"not needed: {what}, and needs {lack}", f"sudo apt-get install {lack}")
        return Check("bochs", True, False, f"{what}; the first job builds Bochs, in two to five minutes of a processor")
    return Check("bochs", True, False, what)


def _allow_nesting() -> str:
    """Return the command that switches nesting on; "" where KVM's module says that it is on."""
    for module in ("kvm_intel", "kvm_amd"):
        switch = Path(f"/sys/module/{module}/parameters/nested")
        if switch.exists() and switch.read_text().strip() not in {"1", "Y"}:
            return f"sudo modprobe -r {module} && sudo modprobe {module} nested=1"
    return ""


def _cpu_flags() -> set[str]:
    flags = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags")), "")
    return set(flags.split())


def _memory() -> Check:
    rows = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(rows["MemAvailable"].split()[0]) * 1024
    story = f"{free / GIB:.1f} GiB available"
    if free < MEMORY_NEEDED:
        story += f"; one test needs {MEMORY_NEEDED / GIB:.0f} GiB, so end other programs"
    return Check("memory", free >= MEMORY_NEEDED, True, story)


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0))
    return Check("cores", cores >= 2, False, "1; tests take turns on it, and take longer" if cores == 1 else str(cores))


def _cache() -> Iterator[Check]:
    """Try with a real file whether the cache can be written, and look how much room there is."""
    move = f"export XDG_CACHE_HOME=/a/folder/with/room  # at least {DISK_WANTED / GIB:.0f} GiB for a first run"
    try:
        folder = cache_dir()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * 4096)
    except (OSError, RuntimeError) as error:  # RuntimeError: no HOME, and no such user in the password file
        yield Check("cache", False, True, f"cannot be written: {error}", move)
        return
    yield Check("cache", True, True, str(folder))
    room = os.statvfs(folder)
    free = room.f_bavail * room.f_frsize
    enough, plenty = free >= DISK_NEEDED, free >= DISK_WANTED
    yield Check("disk", plenty, not enough, f"{free / GIB:.1f} GiB free in the cache", "" if plenty else move)


def _kernels() -> Check:
    names = sorted({path.parent.name.rsplit("-", 1)[0] for path in _cached_kernels()})
    mend = "" if names else "make run  # fetches them"
    return Check("kernels", bool(names), False, f"cached: {', '.join(names) or 'none'}", mend)


def _cached_kernels() -> list[Path]:
    try:
        return sorted(_cache_or_temporary().glob("kernels/*/vmlinuz"))
    except PermissionError:  # another user's cache, of which the check of the cache tells
        return []


def _newest_kernel() -> Path | None:
    """Return the cached kernel that was made last; for the trial any kernel will do."""
    return max(_cached_kernels(), key=lambda path: path.stat().st_mtime, default=None)


def _cache_or_temporary() -> Path:
    try:
        return cache_dir()
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"{PROJECT.name}-{os.getuid()}"
