"""The guests by name: the command line of their QEMU on the host, and where its sockets and files are there."""

from dataclasses import dataclass

GUEST_SSH_PORT = 2222
QMP_SOCKET = "/run/qmp.sock"
HOOK_SOCKET = "/run/hook.sock"
QMP_PORT, HOOK_PORT = 4001, 4002  # of the host's loopback: a connection starts no login program on the host
HOOK_LOG = "/run/hook.log"
CONSOLE = "/run/guest.console"
STDERR = "/run/guest.stderr"
EXIT = "/run/guest.exit"
# For the kernels of host and guest. TCG translates a program anew for each address at which the program is mapped: with
# random addresses that was a third of all translation in a test. IPv6 would look for routers, and there are none.
QUICK_WORDS = "norandmaps ipv6.disable=1"
# Devices use I/O ports and INTx, no MMIO: an MMIO exit can end the VM under TCG, see EXITINTINFO in docs/findings.md.
_PORTS = "disable-modern=on,disable-legacy=off,vectors=0"


@dataclass(frozen=True)
class Profile:
    """One guest: its memory in MiB, its vCPUs at boot and at most, and QEMU's CPU model for it."""

    name: str
    memory_mib: int
    vcpus: int = 2
    max_vcpus: int = 4
    cpu: str = "host,host-phys-bits=on"

    def command(self) -> str:
        """Return the shell command that starts this guest's QEMU on the host. Its vCPUs do not run yet (-S)."""
        qemu = " ".join(
            (
                "qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -S",
                f"-machine q35,accel=kvm -cpu {self.cpu} -m {self.memory_mib},slots=2,maxmem=8G",
                f"-smp {self.vcpus},maxcpus={self.max_vcpus}",
                "-kernel /guest/vmlinuz -initrd /guest/initrd",
                f"-append 'console=ttyS0 quiet panic=-1 {QUICK_WORDS}'",
                f"-netdev user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:{GUEST_SSH_PORT}-:22",
                f"-device virtio-net-pci,netdev=net,romfile=,{_PORTS} -device virtio-rng-pci,{_PORTS}",
                f"-serial file:{CONSOLE} -qmp unix:{QMP_SOCKET},server=on,wait=off",
            )
        )
        hook = f"LD_PRELOAD=/lib/cpuidhook.so CPUIDHOOK_SOCKET={HOOK_SOCKET} CPUIDHOOK_LOG={HOOK_LOG}"
        relays = "".join(
            f"socat TCP-LISTEN:{port},bind=127.0.0.1,fork UNIX-CONNECT:{path} >/dev/null 2>&1 </dev/null & "
            for port, path in ((QMP_PORT, QMP_SOCKET), (HOOK_PORT, HOOK_SOCKET))
        )
        return f"{relays}({hook} {qemu} >{STDERR} 2>&1 </dev/null; echo $? >{EXIT}) >/dev/null 2>&1 &"


PROFILES = {
    profile.name: profile
    for profile in (
        # the initramfs has 50 MiB with Debian 13's programs, see images.check_room
        Profile("small", memory_mib=384),
        # q35 puts 2 GiB below 4 GiB and the rest above; Linux allocates from the top, so above 4 GiB
        Profile("highmem", memory_mib=3072),
    )
}
