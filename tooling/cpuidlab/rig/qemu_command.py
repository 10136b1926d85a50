"""QEMU's command line for a nested host, and the identity of the QEMU that carries it."""

from functools import cache

from cpuidlab.base.kept_digests import kept_digest
from cpuidlab.rig.host_machine import Boot
from cpuidlab.rig.host_qemu import qemu_for

MEMORY_MIB = 1024


@cache
def qemu_identity(accel: str, cpu: str) -> str:
    """Return what a snapshot depends on beside what it boots: the digest of QEMU and the words of its command line.

    Raises UsageError where QEMU is not installed.
    """
    _, *words = machine_words(0, accel, cpu, share=True)
    return f"{kept_digest(qemu_for(accel).binary)} {' '.join(words)}"


def machine_words(memory: int, accel: str, cpu: str, share: bool) -> list[str]:
    """Return the words for the machine itself. `memory` is the descriptor of a file.

    With `share` the machine writes into that file; without, a page is copied when the machine writes it.
    """
    # one vCPU: with two, threads of TCG that share the memory were seen to lose a guest now and then (docs/findings.md)
    ram = f"memory-backend-file,id=ram,size={MEMORY_MIB}M,mem-path=/dev/fd/{memory},share={'on' if share else 'off'}"
    return [
        qemu_for(accel).program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-object", ram, "-machine", f"q35,accel={accel},memory-backend=ram", "-m", str(MEMORY_MIB),
        "-cpu", cpu, "-smp", "1",
        "-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22",
        "-device", "virtio-net-pci,netdev=net,romfile=,guest_announce=off", "-device", "virtio-rng-pci",
    ]  # fmt: skip


def cold_words(memory: int, boot: Boot) -> list[str]:
    """Return the words with which a machine boots cold."""
    kernel = ["-kernel", str(boot.kernel), "-initrd", str(boot.initrd), "-append", boot.words]
    return [*machine_words(memory, boot.accel, boot.cpu, share=True), *kernel]


def restore_words(memory: int, boot: Boot, share: bool) -> list[str]:
    """Return the words with which a machine waits for its saved state.

    The machine needs the same option ROMs, thus a kernel, but never reads the initramfs again.
    """
    return [*machine_words(memory, boot.accel, boot.cpu, share), "-kernel", str(boot.kernel), "-incoming", "defer"]


def channel_words(console: int, qmp: int) -> list[str]:
    """Return the words for the serial console, a file, and for QMP, a socket; both are descriptors."""
    return [
        "-chardev", f"file,id=console,path=/dev/fd/{console}", "-serial", "chardev:console",
        "-chardev", f"socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control",
    ]  # fmt: skip
