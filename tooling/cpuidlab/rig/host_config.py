"""What a nested host is made of: kernel, paging mode, images, keys. Nothing here runs a machine."""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TypeAlias

from cpuidlab.base.artifacts import key_of
from cpuidlab.kernels.host_spec import is_real, parse
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kernels.lookup import resolve
from cpuidlab.rig import bochs_command, images, nesting
from cpuidlab.rig.bochs import bochs
from cpuidlab.rig.bochs_vm import BochsMachine
from cpuidlab.rig.carrier import BOCHS, KVM, TCG, Carrier, carrier
from cpuidlab.rig.guest_config import QUICK_WORDS
from cpuidlab.rig.host_machine import Boot, HostMachine
from cpuidlab.rig.host_qemu import ACCEL
from cpuidlab.rig.host_vm import QemuMachine
from cpuidlab.rig.keys import Keys, lab_keys
from cpuidlab.rig.qemu_command import qemu_identity
from cpuidlab.rig.real_setup import GUEST_KERNEL, RealSetup, real_setup

PAGINGS = ("npt", "shadow")  # of a nested host under TCG
# init_on_free: freed pages are zero, so a snapshot is small
WORDS = f"console=ttyS0 quiet oops=panic panic=-1 init_on_free=1 {QUICK_WORDS}"
# A vCPU that waits would have the host poll for some time of the machine, in which Bochs emulates to no purpose.
BOCHS_WORDS = "kvm.halt_poll_ns=0"


@dataclass(frozen=True)
class Setup:
    """One nested host: its kernel, its paging mode ("npt", "ept" or "shadow"), and what carries it."""

    kernel: Kernel
    paging: str
    guest_kernel: Kernel
    keys: Keys
    carrier: Carrier = TCG

    @property
    def name(self) -> str:
        """The host's name in messages and in the cache, such as `5.10+warning-npt` or `6.1-npt-kvm`."""
        return f"{self.kernel.label}-{self.paging}{self.carrier.suffix}"

    @property
    def column(self) -> str:
        """The host's name in the matrix, such as `6.1` or `6.1-kvm`: each accelerator has columns of its own."""
        return f"{self.kernel.label}{self.carrier.suffix}"

    @property
    def accel(self) -> str:
        """The accelerator of the machine that carries the host."""
        return self.carrier.name

    @property
    def boots_guests(self) -> bool:
        """Tell whether the guest boots for each test: here each test restores a snapshot."""
        return False

    @property
    def patience(self) -> float:
        """How many times as long as under QEMU everything may take."""
        return self.carrier.patience

    @property
    def machine(self) -> type[HostMachine]:
        """The kind of machine that carries the host."""
        return BochsMachine if self.carrier.accel == BOCHS else QemuMachine

    @property
    def identity(self) -> str:
        """Changes with the kernels, the keys and the emulator. Makes no image, unlike `inputs`."""
        kernels = {"kernel": self.kernel.digest, "guest": self.guest_kernel.digest, "paging": self.paging}
        return key_of({**kernels, "keys": self.keys.digest, "machine": self._machine})

    @cached_property
    def base(self) -> Path:
        """The initramfs without the kernel's modules, the same for every host; made where the cache has none."""
        return images.host_base(self.keys, self.guest_kernel, images.hook_library())

    @property
    def words(self) -> str:
        """The host's kernel command line."""
        more = (BOCHS_WORDS,) if self.carrier.accel == BOCHS else ()
        return " ".join((WORDS, *more, self.carrier.paging_word(self.paging)))

    @property
    def boot(self) -> Boot:
        """What a cold host boots. Its initramfs is made where the cache has none, or no longer has it."""
        return replace(self.restored, initrd=images.host_image(self.kernel, self.base, self._programs))

    @property
    def restored(self) -> Boot:
        """The same for a host that is restored and reads no initramfs."""
        return Boot(self.kernel.vmlinuz, None, self.words, self.carrier.accel, self.carrier.cpu)

    @property
    def _programs(self) -> dict[str, Path]:
        """What the initramfs has more than that of other hosts, by the paths there: what stands for a network card."""
        return {"usr/bin/tcpline": images.tcpline()} if self.carrier.accel == BOCHS else {}

    @property
    def _machine(self) -> str:
        """What a saved host depends on beside what it boots: the emulator; under KVM this machine's CPU and kernel."""
        if self.carrier.accel == BOCHS:
            return bochs_command.identity(self.carrier.cpu)
        return f"{qemu_identity(self.carrier.accel, self.carrier.cpu)} {self.carrier.saved_by}".rstrip()

    @property
    def inputs(self) -> dict[str, str]:
        """What a snapshot of the host depends on."""
        return {
            "kernel": self.kernel.digest,
            "initrd": key_of(images.made_of("host", self.kernel, self.base, self._programs)),
            "words": self.words,
            "machine": self._machine,
        }


AnySetup: TypeAlias = Setup | RealSetup


@cache
def setup(host: str, paging: str, accel: str = ACCEL) -> AnySetup:
    """Return the setup for a host spec, a paging mode and the accelerator of nested hosts; a real machine has none.

    Whether KVM nests here is not tried: `check_accel` does that, once for a job.
    Raises UsageError where there is no such kernel, paging mode or accelerator, UnsupportedError where this machine's
    QEMU or KVM, or the real machine that the spec names, cannot do that, LabError where a kernel cannot be fetched or
    built.
    """
    if is_real(host):
        return real_setup(parse(host), paging)
    carries = carrier(accel)
    guests = resolve(GUEST_KERNEL, own=False)
    return Setup(resolve(host), carries.paging(paging), guests, lab_keys(), carries)


def check_accel(accel: str) -> None:
    """Raise UnsupportedError where no nested host runs under the accelerator here; no other is taken instead.

    A host of the guests' kernel is booted to find out whether KVM nests; Bochs is built where it is not there yet.
    Raises UsageError for an unknown accelerator and where there is no compiler, LabError where Bochs cannot be built.
    """
    carries = carrier(accel)
    if accel == BOCHS:
        bochs()
    if accel != KVM:
        return
    kernel = resolve(GUEST_KERNEL, own=False)
    trial = Setup(kernel, carries.two_dimensional, kernel, lab_keys(), carries)
    nesting.check(trial.name, trial.identity, lambda: trial.boot)
