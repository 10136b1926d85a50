"""The guests by name: the command line of their QEMU on the host, and where its sockets and files are there."""

import shlex
from dataclasses import dataclass, replace

GUEST_SSH_PORT = 2222
QMP_PORT, HOOK_PORT = 4001, 4002  # of a nested host's loopback: a connection starts no login program on the host
# For the kernels of host and guest. TCG translates a program anew for each address at which the program is mapped: with
# random addresses that was a third of all translation in a test. IPv6 would look for routers, and there are none.
# The kernel's tests of its own ciphers take a third of a boot under Bochs.
QUICK_WORDS = "norandmaps ipv6.disable=1 cryptomgr.notests"
# Devices use I/O ports and INTx, no MMIO: an MMIO exit can end the VM under TCG, see EXITINTINFO in docs/findings.md.
_LEGACY = "disable-modern=on,disable-legacy=off"
_PORTS = f"{_LEGACY},vectors=0"
RNG = f"virtio-rng-pci,{_PORTS}"
OLD_RNG = f"virtio-rng-pci,{_LEGACY}"  # before 6.0 QEMU knows no vectors of it


@dataclass(frozen=True)
class Layout:
    """Where a host has a guest's kernel, its initramfs, the hook and QEMU, and the `folder` of all other files.

    `rng` is the virtio-rng that this QEMU knows.
    """

    folder: str
    kernel: str
    initrd: str
    hook: str
    qemu: str = "qemu-system-x86_64"
    rng: str = RNG

    @property
    def qmp_socket(self) -> str:
        """The unix socket of QEMU's QMP."""
        return f"{self.folder}/qmp.sock"

    @property
    def hook_socket(self) -> str:
        """The unix socket of the hook."""
        return f"{self.folder}/hook.sock"

    @property
    def hook_log(self) -> str:
        """The file that the hook writes."""
        return f"{self.folder}/hook.log"

    @property
    def console(self) -> str:
        """The file with the guest's serial console."""
        return f"{self.folder}/guest.console"

    @property
    def stderr(self) -> str:
        """The file with all that QEMU prints."""
        return f"{self.folder}/guest.stderr"

    @property
    def exit(self) -> str:
        """The file with QEMU's exit code, once QEMU has ended."""
        return f"{self.folder}/guest.exit"


NESTED = Layout("/run", "/guest/vmlinuz", "/guest/initrd", "/lib/cpuidhook.so")  # on a nested host


@dataclass(frozen=True)
class Profile:
    """One guest: its memory in MiB, its vCPUs at boot and at most, and QEMU's CPU model for it.

    `incoming` is where QEMU takes the state of a saved guest from, as its -incoming says it; "" for a guest that boots.
    """

    name: str
    memory_mib: int
    vcpus: int = 2
    max_vcpus: int = 4
    cpu: str = "host,host-phys-bits=on"
    incoming: str = ""

    def with_cpu(self, words: str) -> "Profile":
        """Return the same guest with these words added to QEMU's CPU model."""
        return replace(self, cpu=",".join(filter(None, (self.cpu, words))))

    def command(self) -> str:
        """Return the shell command that starts this guest's QEMU on a nested host. Its vCPUs do not run yet (-S)."""
        relays = "".join(
            f"socat TCP-LISTEN:{port},bind=127.0.0.1,fork UNIX-CONNECT:{path} >/dev/null 2>&1 </dev/null & "
            for port, path in ((QMP_PORT, NESTED.qmp_socket), (HOOK_PORT, NESTED.hook_socket))
        )
        return relays + self.start_command(NESTED)

    def start_command(self, layout: Layout) -> str:
        """Return the shell command that starts this guest's QEMU in the background, with these files."""
        qemu = " ".join(
            (
                f"{shlex.quote(layout.qemu)} -nodefaults -no-user-config -display none -no-reboot -S",
                f"-machine q35,accel=kvm -cpu {self.cpu} -m {self.memory_mib},slots=2,maxmem=8G",
                # before 6.2 QEMU made sockets of the CPUs, if it was not told
                f"-smp {self.vcpus},maxcpus={self.max_vcpus},sockets=1,cores={self.max_vcpus},threads=1",
                f"-kernel {layout.kernel} -initrd {layout.initrd}",
                f"-append 'console=ttyS0 quiet panic=-1 {QUICK_WORDS}'",
                f"-netdev user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{GUEST_SSH_PORT}-:22",
                f"-device virtio-net-pci,netdev=net,romfile=,{_PORTS} -device {layout.rng}",
                f"-serial file:{layout.console} -qmp unix:{layout.qmp_socket},server=on,wait=off",
            )
        )
        qemu += f" -incoming {shlex.quote(self.incoming)}" if self.incoming else ""
        socket_and_log = f"CPUIDHOOK_SOCKET={layout.hook_socket} CPUIDHOOK_LOG={layout.hook_log}"
        hooked = f"LD_PRELOAD={layout.hook} {socket_and_log} {qemu}"
        return f"({hooked} >{layout.stderr} 2>&1 </dev/null; echo $? >{layout.exit}) >/dev/null 2>&1 &"


PROFILES = {
    profile.name: profile
    for profile in (
        # the initramfs has 50 MiB with Debian 13's programs, see images.check_room
        Profile("small", memory_mib=384),
        # q35 puts 2 GiB below 4 GiB and the rest above; Linux allocates from the top, so above 4 GiB
        Profile("highmem", memory_mib=3072),
    )
}
