"""What a nested host is made of: kernel, paging mode, images, keys. Nothing here runs a machine."""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TypeAlias

from cpuidlab.base.artifacts import key_of
from cpuidlab.base.errors import UsageError
from cpuidlab.kernels.host_spec import is_real, parse
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kernels.lookup import resolve
from cpuidlab.rig import images
from cpuidlab.rig.guest_config import QUICK_WORDS
from cpuidlab.rig.host_machine import Boot, HostMachine
from cpuidlab.rig.host_qemu import ACCEL, CPU
from cpuidlab.rig.host_vm import TcgMachine
from cpuidlab.rig.keys import Keys, lab_keys
from cpuidlab.rig.qemu_command import qemu_identity
from cpuidlab.rig.real_setup import GUEST_KERNEL, RealSetup, real_setup

PAGINGS = {"npt": "1", "shadow": "0"}
# init_on_free: freed pages are zero, so a snapshot is small
WORDS = f"console=ttyS0 quiet oops=panic panic=-1 init_on_free=1 {QUICK_WORDS}"


@dataclass(frozen=True)
class Setup:
    """One nested host: its kernel, its paging mode ("npt" or "shadow") and the CPU that QEMU emulates for it."""

    kernel: Kernel
    paging: str
    guest_kernel: Kernel
    keys: Keys
    cpu: str = CPU

    @property
    def name(self) -> str:
        """The host's name in messages and in the cache, such as `5.10+warning-npt`."""
        return f"{self.kernel.label}-{self.paging}"

    @property
    def accel(self) -> str:
        """The accelerator of the machine that carries the host."""
        return ACCEL

    @property
    def boots_guests(self) -> bool:
        """Tell whether the guest boots for each test: here each test restores a snapshot."""
        return False

    @property
    def machine(self) -> type[HostMachine]:
        """The kind of machine that carries the host."""
        return TcgMachine

    @property
    def identity(self) -> str:
        """Changes with the kernels, the keys and QEMU. Makes no image, unlike `inputs`."""
        kernels = {"kernel": self.kernel.digest, "guest": self.guest_kernel.digest, "paging": self.paging}
        return key_of({**kernels, "keys": self.keys.digest, "machine": qemu_identity(self.cpu)})

    @cached_property
    def base(self) -> Path:
        """The initramfs without the kernel's modules, the same for every host; made where the cache has none."""
        return images.host_base(self.keys, self.guest_kernel, images.hook_library())

    @property
    def words(self) -> str:
        """The host's kernel command line."""
        return f"{WORDS} kvm_amd.npt={PAGINGS[self.paging]}"

    @property
    def boot(self) -> Boot:
        """What a cold host boots. Its initramfs is made where the cache has none, or no longer has it."""
        return replace(self.restored, initrd=images.host_image(self.kernel, self.base))

    @property
    def restored(self) -> Boot:
        """The same for a host that is restored and reads no initramfs."""
        return Boot(self.kernel.vmlinuz, None, self.words, self.cpu)

    @property
    def inputs(self) -> dict[str, str]:
        """What a snapshot of the host depends on."""
        return {
            "kernel": self.kernel.digest,
            "initrd": key_of(images.made_of("host", self.kernel, self.base)),
            "words": self.words,
            "machine": qemu_identity(self.cpu),
        }


AnySetup: TypeAlias = Setup | RealSetup


@cache
def setup(host: str, paging: str) -> AnySetup:
    """Return the setup for a host spec and a paging mode.

    Raises UsageError where there is no such kernel or paging mode, UnsupportedError where this machine's QEMU, or the
    real machine that the spec names, cannot do that, LabError where a kernel cannot be fetched or built.
    """
    if is_real(host):
        return real_setup(parse(host), paging)
    if paging not in PAGINGS:
        raise UsageError(f"unknown paging mode '{paging}'; there are {' and '.join(PAGINGS)}")
    return Setup(resolve(host), paging, resolve(GUEST_KERNEL, own=False), lab_keys())
