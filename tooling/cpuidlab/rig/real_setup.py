"""What a job knows of a real machine before it tests there: its kernel as it runs, and what is brought to it."""

import atexit
import gzip
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TypeVar

from cpuidlab.base.artifact_kinds import Kind
from cpuidlab.base.artifacts import key_of, made
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import UsageError
from cpuidlab.base.paths import GUESTS, TOOLING
from cpuidlab.kernels.bzimage import Banner
from cpuidlab.kernels.host_spec import HostSpec
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kernels.lookup import resolve
from cpuidlab.rig import images
from cpuidlab.rig.carrier import TWO_DIMENSIONAL
from cpuidlab.rig.compiled import compiled
from cpuidlab.rig.job_folder import Cargo
from cpuidlab.rig.keys import Keys, lab_keys
from cpuidlab.rig.machine_facts import PAGING_PARAMETER, MachineFacts, ask
from cpuidlab.rig.reach import Reach

T = TypeVar("T")
PACKED = Kind("packed", cost=5)  # a guest's image as it is brought to a real machine
ASK_SECONDS = 30.0
GUEST_KERNEL = "6.1"


@dataclass(frozen=True)
class RealSetup:
    """One real machine in one paging mode ("npt", "ept" or "shadow").

    With `reload_kvm` its vendor module may be loaded anew for that mode.
    """

    kernel: Kernel
    paging: str
    guest_kernel: Kernel
    keys: Keys
    reach: Reach
    facts: MachineFacts
    reload_kvm: bool = False

    @property
    def name(self) -> str:
        """The host's name in messages, such as `local-npt`."""
        return f"{self.kernel.label}-{self.paging}"

    @property
    def column(self) -> str:
        """The machine's name in the matrix."""
        return self.kernel.label

    @property
    def accel(self) -> str:
        """What runs the guest: the machine's own KVM, with its module."""
        return f"kvm ({self.facts.module.removeprefix('kvm_')})"

    @property
    def boots_guests(self) -> bool:
        """Tell whether a test's guest may have to boot first: a machine of the user's is never restored."""
        return True

    @property
    def patience(self) -> float:
        """How many times as long as on a nested host under QEMU everything may take: not longer."""
        return 1.0

    @property
    def identity(self) -> str:
        """Changes with the machine's kernel and with each of its boots."""
        return key_of({"kernel": self.kernel.digest, "paging": self.paging, "keys": self.keys.digest})

    @property
    def mismatch(self) -> str:
        """Why nothing can be tested in this paging mode; empty where it can, or where the module may be loaded anew."""
        if self.reload_kvm or self.paging == self.facts.paging:
            return ""
        runs = f"{self.facts.name} runs {self.facts.module} with {self.facts.paging} paging, not with {self.paging}"
        return f"{runs}; --reload-kvm would load it anew for the test"

    @cached_property
    def cargo(self) -> Cargo:
        """The files that are brought to the machine; made where the cache has none."""
        return Cargo(
            supervisor=compiled("supervisor", [TOOLING / "supervisor/supervisor.c"], "-static"),
            readout=compiled("readout", [GUESTS / "readout.c"], "-static"),
            barevm=images.barevm(),
            hook=images.hook_library(),
            kernel=self.guest_kernel.vmlinuz,
            initrd=_packed(images.guest_image(self.guest_kernel, self.keys)),
        )


def _packed(image: Path) -> Path:
    """Return the image packed by gzip, kept in the cache: a third of the bytes to bring to a machine."""

    def pack(folder: Path) -> None:
        with gzip.open(folder / "initrd.gz", "wb", compresslevel=1) as packed:
            packed.write(image.read_bytes())

    return made(PACKED, "guest", {"image": image.parent.name}, pack) / "initrd.gz"


@cache
def real_setup(spec: HostSpec, paging: str) -> RealSetup:
    """Ask a machine what it is, and return its setup; npt and ept both stand for the two-dimensional mode that it has.

    Raises UnsupportedError where it cannot be tested, UsageError without ssh, LabError where it does not answer.
    """
    reach = _reach(spec)
    facts = _facts(reach)
    banner = Banner(facts.version.removeprefix("Linux version "))
    if banner.release != facts.release:
        raise UsageError(f"{reach.name}: /proc/version tells another release than uname: {facts.version}")
    digest = key_of({"release": facts.release, "version": facts.version, "node": facts.node, "boot": facts.boot})
    kernel = Kernel(spec.text, spec.label, facts.release, banner.version, "", Path(), Path(), digest)
    mode = PAGING_PARAMETER.get(facts.module, paging) if paging in TWO_DIMENSIONAL else paging
    return RealSetup(kernel, mode, resolve(GUEST_KERNEL, own=False), lab_keys(), reach, facts)


def _facts(reach: Reach) -> MachineFacts:
    """Ask the machine, or take what the job around this test was told: between two turns KVM may be away there."""
    variable = f"CPUIDLAB_FACTS_{key_of({'machine': reach.name})}"
    if variable not in os.environ:
        os.environ[variable] = json.dumps(asdict(ask(reach, Deadline.after(ASK_SECONDS))))
    return MachineFacts(**json.loads(os.environ[variable]))


def may_reload(setup: T, allowed: bool) -> T:
    """Return the setup with the right to load KVM anew, where it is a real machine's."""
    return replace(setup, reload_kvm=allowed) if isinstance(setup, RealSetup) else setup


@cache
def _control_folder() -> Path:
    """A private folder for ssh's control sockets.

    Each test has a connection of its own: a server may allow no more than ten programs in one (MaxSessions of OpenSSH),
    and dropbear loses the exit code of a program that ends together with another.
    """
    folder = tempfile.TemporaryDirectory(prefix="ssh-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _reach(spec: HostSpec) -> Reach:
    if spec.kind == "local":
        return Reach("local")
    if shutil.which("ssh") is None:
        raise UsageError(f"host '{spec.text}' needs ssh, which is not installed: sudo apt-get install openssh-client")
    return Reach.ssh(spec.location, _control_folder())
