"""Everything that a nested host is made of, before anything runs: kernel, paging mode, images, keys."""

from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path

from cpuidlab.base.artifacts import key_of
from cpuidlab.base.errors import UnsupportedError, UsageError
from cpuidlab.kernels.kernel import Kernel
from cpuidlab.kernels.lookup import resolve
from cpuidlab.rig import images
from cpuidlab.rig.emulation import lack
from cpuidlab.rig.guest_config import QUICK_WORDS
from cpuidlab.rig.host_vm import ACCEL, CPU, Boot, qemu_identity
from cpuidlab.rig.keys import Keys, lab_keys

GUEST_KERNEL = "6.1"
PAGINGS = {"npt": "1", "shadow": "0"}
# init_on_free: freed pages are zero, so a frozen rig is small
WORDS = f"console=ttyS0 quiet oops=panic panic=-1 init_on_free=1 {QUICK_WORDS}"


@dataclass(frozen=True)
class Setup:
    """One nested host: kernel, paging mode ("npt" or "shadow") and, where it is another one, the CPU it runs on."""

    kernel: Kernel
    paging: str
    guest_kernel: Kernel
    keys: Keys
    cpu: str = CPU

    @property
    def name(self) -> str:
        """How this host is called in messages and in the cache, such as `5.10+warning-npt`."""
        return f"{self.kernel.label}-{self.paging}"

    @property
    def accel(self) -> str:
        """The accelerator that carries the host."""
        return ACCEL

    @property
    def identity(self) -> str:
        """Changes with the kernels and with QEMU; makes no image, unlike `inputs`."""
        kernels = {"kernel": self.kernel.digest, "guest": self.guest_kernel.digest, "paging": self.paging}
        return key_of({**kernels, "keys": self.keys.digest, "machine": qemu_identity(self.cpu)})

    @cached_property
    def base(self) -> Path:
        """The initramfs without the kernel's modules, the same for every host; made where it is not cached yet."""
        return images.host_base(self.keys, self.guest_kernel, images.hook_library())

    @property
    def words(self) -> str:
        """The host's kernel command line."""
        return f"{WORDS} kvm_amd.npt={PAGINGS[self.paging]}"

    @property
    def boot(self) -> Boot:
        """What the host boots; its image is made where it is not cached, or not any more."""
        return replace(self.thaw, initrd=images.host_image(self.kernel, self.base))

    @property
    def thaw(self) -> Boot:
        """The same for a machine that is thawed and reads no initramfs any more."""
        return Boot(self.kernel.vmlinuz, None, self.words, self.cpu)

    @property
    def inputs(self) -> dict[str, str]:
        """What a frozen host depends on, as inputs of the store."""
        return {
            "kernel": self.kernel.digest,
            "initrd": key_of(images.made_of("host", self.kernel, self.base)),
            "words": self.words,
            "machine": qemu_identity(self.cpu),
        }


@cache
def setup(host: str, paging: str) -> Setup:
    """The setup that a host spec and a paging mode name.

    Raises UsageError where there is no such kernel or paging mode, UnsupportedError where this machine cannot do that
    paging mode, LabError where a kernel cannot be had.
    """
    if paging not in PAGINGS:
        raise UsageError(f"unknown paging mode '{paging}'; there are {' and '.join(PAGINGS)}")
    lacking = lack(paging)
    if lacking:
        raise UnsupportedError(lacking)
    return Setup(resolve(host), paging, resolve(GUEST_KERNEL), lab_keys())
