"""The guests: how QEMU is started for each, and where its sockets and files are."""

import shlex
from dataclasses import replace

import pytest
from cpuidlab.rig import guest_config
from cpuidlab.rig.guest_config import PROFILES, Profile


def words(profile: Profile) -> list[str]:
    """The words of QEMU's own command line."""
    text = profile.command()
    return shlex.split(text[text.index("qemu-system-x86_64") : text.index(f">{guest_config.NESTED.stderr}")])


def option(profile: Profile, name: str) -> str:
    found = words(profile)
    return found[found.index(name) + 1]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
def test_the_vcpus_are_held_and_a_reset_ends_qemu(profile: Profile) -> None:
    assert {"-S", "-no-reboot"} <= set(words(profile))
    assert "accel=kvm" in option(profile, "-machine")


def test_memory_vcpus_and_cpu_are_the_profiles() -> None:
    profile = Profile("other", memory_mib=512, vcpus=3, max_vcpus=7, cpu="EPYC")
    assert option(profile, "-m").split(",")[0] == "512"
    assert option(profile, "-smp") == "3,maxcpus=7,sockets=1,cores=7,threads=1"
    assert option(profile, "-cpu") == "EPYC"


def test_two_profiles_differ_and_each_is_found_by_its_name() -> None:
    assert all(PROFILES[name].name == name for name in PROFILES)
    assert len({profile.command() for profile in PROFILES.values()}) == len(PROFILES)
    assert PROFILES["highmem"].memory_mib > 2048  # so that there is memory above 4 GiB


def test_the_hook_is_in_qemu_alone_and_its_sockets_are_relayed() -> None:
    text = PROFILES["small"].command()
    relays, _, rest = text.partition("(LD_PRELOAD=")
    assert rest.index("cpuidhook.so") < rest.index("qemu-system-x86_64")
    for port, path in (
        (guest_config.QMP_PORT, guest_config.NESTED.qmp_socket),
        (guest_config.HOOK_PORT, guest_config.NESTED.hook_socket),
    ):
        assert f"TCP-LISTEN:{port},bind=127.0.0.1,fork UNIX-CONNECT:{path}" in relays
    assert f"CPUIDHOOK_SOCKET={guest_config.NESTED.hook_socket} CPUIDHOOK_LOG={guest_config.NESTED.hook_log}" in rest


def test_no_device_of_the_guest_is_reached_by_mmio() -> None:
    devices = [word for word in words(PROFILES["small"]) if word.startswith("virtio-")]
    assert len(devices) == 2
    assert all("disable-modern=on" in device and "vectors=0" in device for device in devices)


def test_how_qemu_ended_is_kept() -> None:
    text = PROFILES["small"].command()
    assert f">{guest_config.NESTED.stderr} 2>&1" in text
    assert f"echo $? >{guest_config.NESTED.exit}" in text


def test_a_saved_guest_comes_in_as_one_word() -> None:
    profile = replace(PROFILES["small"], incoming="exec:cat '/a b/guest'")
    qemu = profile.start_command(guest_config.NESTED).partition(" >")[0]
    assert shlex.split(qemu)[-2:] == ["-incoming", "exec:cat '/a b/guest'"]
    assert "-incoming" not in PROFILES["small"].start_command(guest_config.NESTED)


@pytest.mark.parametrize(("words", "cpu"), [("nx=off", "EPYC,nx=off"), ("", "EPYC")])
def test_words_are_added_to_the_cpu_model(words: str, cpu: str) -> None:
    profile = replace(PROFILES["small"], cpu="EPYC")
    assert profile.with_cpu(words) == replace(profile, cpu=cpu)
