"""What is under test: a promise, on one host in one paging mode, by a test of some name. Plain data."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from cpuidlab.judge.expectations import Promise
from cpuidlab.judge.prediction import Prediction, predicted
from cpuidlab.kernels import suites
from cpuidlab.rig.carrier import TWO_DIMENSIONAL
from cpuidlab.rig.host_machine import HostSetup
from cpuidlab.rig.host_qemu import ACCEL
from cpuidlab.rig.rig import Stage


@dataclass(frozen=True)
class RunVariant:
    """One host in one paging mode, as a job names it to the process of a test; "" is what a job does not say.

    `accel` is the accelerator of a nested host, `era` what the user named with --era, `eras` the user's table.
    `kernel` is the digest of the kernel that the job began with. With `reload_kvm` a real machine's KVM may be loaded
    anew in that paging mode.
    """

    host: str = "5.10"
    paging: str = "npt"
    cold: bool = False
    era: str = ""
    eras: str = ""
    kernel: str = ""
    accel: str = ACCEL
    reload_kvm: bool = False

    def prediction(self, place: HostSetup) -> Prediction:
        """What the host is predicted to promise."""
        return predicted(place.kernel, self.era, self.eras)


@dataclass(frozen=True)
class PromiseUnderTest:
    """What a test states before it begins.

    `promise` is what each era promises, and `npt` what it promises in that paging mode where that differs. `calls` is
    how many calls the test makes, None where that depends on KVM's answers. `stage` and `profile` are those of the rig.
    A test of stage HOST_READY gets a `BareVm` instead of a `Guest`, and promises nothing of a guest.
    """

    promise: Promise
    npt: Promise | None = None
    calls: int | None = None
    stage: Stage = Stage.GUEST_READY
    profile: str = "small"

    def in_paging(self, paging: str) -> Promise:
        """What each era promises in that paging mode."""
        promise = self.npt if self.npt and paging in TWO_DIMENSIONAL else self.promise
        if self.stage is Stage.HOST_READY:  # there is no guest
            return lambda of: replace(promise(of), calls=self.calls, guest=None)
        return lambda of: replace(promise(of), calls=self.calls)


@dataclass(frozen=True)
class CaseName:
    """Where a test stands, by which route its changes go, and its promise in words."""

    file: Path
    test_class: str
    method: str
    route: str
    text: str

    @property
    def case(self) -> str:
        """The row of the matrix, such as `after_run/identical`."""
        return f"{self.file.stem.removeprefix('test_')}/{self.method.removeprefix('test_')}"

    def command(self, variant: RunVariant) -> str:
        """The command that runs just this test in just this variant."""
        test = f"{self.file.parent.name}/{self.file.name}:{self.test_class}.{self.method}"
        words = [".venv/bin/avocado", "run", test, "--hosts", variant.host, "--paging", variant.paging]
        words += ["--accel", variant.accel] if variant.accel != ACCEL else []
        words += ["--era", variant.era] if variant.era else []
        words += ["--eras", variant.eras] if variant.eras else []
        table = suites.named_table()
        words += ["--kernels", table] if table else []
        words += ["--cold"] if variant.cold else []
        words += ["--reload-kvm"] if variant.reload_kvm else []
        return shlex.join(words)
