"""What a console says of a boot that cannot succeed, and what such a boot ends."""

import pytest
from cpuidlab.base.errors import HopelessBootError, LabError, LostVMError
from cpuidlab.rig.console import failed_boot

MIB = 2**20


@pytest.mark.parametrize(
    ("line", "told", "kind"),
    [
        ("[    1.9] Kernel panic - not syncing: VFS: no root", "Kernel panic - not syncing: VFS: no root", LostVMError),
        (
            "[    2.0] Initramfs unpacking failed: write error",
            "Initramfs unpacking failed: write error",
            HopelessBootError,
        ),
        ("ip: SIOCGIFFLAGS: No such device", "ip: SIOCGIFFLAGS: No such device", HopelessBootError),
        ("can't run '/etc/rc': No such file or directory", "can't run '/etc/rc': No such file", HopelessBootError),
        ("LAB: kvm_amd does not load", "LAB: kvm_amd does not load", HopelessBootError),
        ("LAB: kvm_amd does not take npt=0", "LAB: kvm_amd does not take npt=0", HopelessBootError),
        ("LAB: no network card: virtio_net did not load", "LAB: no network card", HopelessBootError),
        ("[    2.1] Kernel panic - not syncing: No working init found.", "No working init found", HopelessBootError),
        ("[    0.000] Command line: console=ttyS0 panic=-1 oops=panic", None, None),
        ("LAB: host up", None, None),
        ("LAB: guest up", None, None),
    ],
)
def test_a_boot_that_cannot_succeed(line: str, told: str | None, kind: type[LabError] | None) -> None:
    failure = failed_boot("6.1-npt", "guest", f"[    0.0] Linux version 6.1\r\n{line}\r\nmore\r\n")
    if told is None:
        assert failure is None
    else:
        assert type(failure) is kind
        assert str(failure).startswith("6.1-npt: the guest's console says: ")
        assert told in str(failure)


@pytest.mark.parametrize("length", range(1, len("LAB: guest up")))
def test_a_line_that_is_just_being_written_says_nothing_yet(length: int) -> None:
    assert failed_boot("6.1-npt", "guest", f"[ 1.0] Freeing initrd memory\r\n{'LAB: guest up'[:length]}") is None


def test_a_panic_that_follows_is_not_the_cause() -> None:
    said = "[ 1.0] Initramfs unpacking failed: write error\r\n[ 2.0] Kernel panic - not syncing: no init\r\n"
    assert "write error" in str(failed_boot("6.1-npt", "host", said))
