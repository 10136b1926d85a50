"""Bare VMs from end to end: the client, and the program of the host on a stand-in for KVM."""

import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError
from cpuidlab.base.paths import GUESTS
from cpuidlab.experiment.bare_kvm import OUT, RESET_OFFSET, BareKvm
from cpuidlab.kvm import uapi
from cpuidlab.kvm.cpuid import Entry
from fakehook import HERE, STRICT

MODEL = (Entry(0, 0, 0, 1, 2, 3, 4), Entry(1, 2, 3, 4, 5, 6, 7))


class Pipe:
    """The program with pipes for a connection; it opens /dev/null, for the stand-in needs no device."""

    def __init__(self, built: Path, **kvm: str) -> None:
        env = os.environ | {"LD_PRELOAD": str(built / "fakekvm.so")} | kvm
        self.process = subprocess.Popen(
            [str(built / "barevm")], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def send(self, data: bytes) -> None:
        assert self.process.stdin
        self.process.stdin.write(data.replace(b"/dev/kvm", b"/dev/null"))
        self.process.stdin.flush()

    def recv_line(self, _: float) -> str:
        assert self.process.stdout
        line = self.process.stdout.readline().decode()
        if not line:
            raise LabError("the stream ended")
        return line.removesuffix("\n")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("cc"):
        pytest.skip("no C compiler")
    out = tmp_path_factory.mktemp("built")
    source = GUESTS / "host/barevm.c"
    subprocess.run(["cc", "-std=gnu11", *STRICT, "-o", "barevm", source], cwd=out, check=True)
    subprocess.run(["cc", *STRICT, "-shared", "-fPIC", "-o", "fakekvm.so", HERE / "fakekvm.c"], cwd=out, check=True)
    return out


@pytest.fixture
def pipe(built: Path) -> Iterator[Pipe]:
    pipe = Pipe(built, FAKEKVM_FORBID="1")
    yield pipe
    pipe.process.kill()
    pipe.process.communicate()


@pytest.fixture
def kvm(pipe: Pipe) -> BareKvm:
    return BareKvm(pipe, Deadline.after(20))


def test_a_vcpu_is_made_given_a_model_run_and_frozen(kvm: BareKvm) -> None:
    vm = kvm.create_vm()
    vcpu = kvm.create_vcpu(vm)
    before = kvm.set_model(vcpu, MODEL)
    _exit_next(kvm, vcpu, 2)
    ran = kvm.run(vcpu)
    same, changed = kvm.set_model(vcpu, MODEL), kvm.set_model(vcpu, MODEL[:1])
    assert kvm.transcript == []  # nothing is called before somebody looks
    assert [call.word for call in (before, same, changed)] == ["accepted", "accepted", "EINVAL"]
    assert ran.exit_reason == "IO"
    assert kvm.get_model(vcpu) == MODEL
    assert any(line.endswith(f"{uapi.REQUESTS['KVM_SET_CPUID2']:x} @0 -> -1 22") for line in kvm.transcript)


def test_a_run_that_is_interrupted_has_no_exit_reason(kvm: BareKvm) -> None:
    vcpu = kvm.create_vcpu(kvm.create_vm())
    assert kvm.run(vcpu, immediate_exit=True).exit_reason == "EINTR"


def test_a_count_that_is_not_the_models_own(kvm: BareKvm) -> None:
    vcpu = kvm.create_vcpu(kvm.create_vm())
    assert kvm.set_model(vcpu, MODEL, nent=3).word == "accepted"
    assert kvm.get_model(vcpu) == (*MODEL, Entry(0, 0, 0, 0, 0, 0, 0))
    assert kvm.set_model(vcpu, MODEL, nent=257).word == "E2BIG"


def test_before_6_5_the_count_that_was_set_is_the_true_one() -> None:
    echoed = uapi.cpuid2((*MODEL, Entry(0, 0, 0, 0, 0, 0, 0)))
    assert uapi.model_of(echoed, own=2) == MODEL
    assert uapi.model_of(uapi.cpuid2(MODEL)) == MODEL


def test_descriptors_are_used_again(kvm: BareKvm) -> None:
    first = kvm.create_vm()
    kvm.close(first)
    assert kvm.create_vm() == first
    for _ in range(300):
        kvm.close(kvm.create_vm())
    assert kvm.ioctl(first, "KVM_GET_TSC_KHZ").word == "ENOTTY"  # it is open


def test_memory_holds_the_code_where_a_vcpu_begins(kvm: BareKvm) -> None:
    page = kvm.memory(OUT)
    kvm.map_code(kvm.create_vm(), page)
    region = bytes.fromhex(kvm._ask("get 0 20").text)
    assert struct.unpack("<IIQQ", region[: uapi.REGION_POINTER]) == (0, 0, 0xFFFFF000, 0x1000)
    assert struct.unpack("<Q", region[uapi.REGION_POINTER :]) != (0,)
    assert bytes.fromhex(kvm._ask(f"get {page:x} 1000").text)[RESET_OFFSET:].startswith(OUT)


def test_a_call_that_must_succeed_says_what_was_refused(kvm: BareKvm) -> None:
    with pytest.raises(LabError, match="ioctl 1 aea3 0: ENOTTY"):
        _ = kvm.ioctl(kvm.create_vm(), "KVM_GET_TSC_KHZ").value


def test_no_device_is_a_failure_of_the_lab(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    send = pipe.send
    monkeypatch.setattr(pipe, "send", lambda data: send(data.replace(b"/dev/kvm", b"/no/such/device")))
    with pytest.raises(LabError, match="/dev/kvm cannot be opened on the host: ENOENT"):
        BareKvm(pipe, Deadline.after(20)).settle()


@pytest.mark.parametrize(
    ("request_line", "said"),
    [
        ("fly 1", "not a request: fly"), ("run 1", "not a request: a word is missing"), ("run x 0", "not a request: x"),
        ("close 100", "100 is not below 100"), ("put 1 abc", "not a request: c"), ("put 1 zz", "not a request: zz"),
        ("get 1 10001", "10001 is not below 10001"), ("ioctl 0 1 @100", "100 is not below 100"),
    ],
)  # fmt: skip
def test_what_is_no_request_ends_the_program(pipe: Pipe, request_line: str, said: str) -> None:
    told = pipe.process.communicate(f"{request_line}\n".encode())[1].decode()
    assert said in told
    assert pipe.process.returncode == 2


def test_numbers_are_those_of_the_kernels_header(tmp_path: Path) -> None:
    checks = "".join(f"_Static_assert({name} == {number}U, {name!r});\n" for name, number in uapi.REQUESTS.items())
    source = tmp_path / "numbers.c"
    source.write_text(f"#include <linux/kvm.h>\n{checks.replace(chr(39), chr(34))}")
    subprocess.run(["cc", "-fsyntax-only", source], check=True)


def _exit_next(kvm: BareKvm, vcpu: int, reason: int) -> None:
    kvm._ask(f"ioctl {vcpu:x} fa02 {reason:x}")  # FAKE_EXIT
