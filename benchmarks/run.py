"""The speed figures, each a ratio of two things measured in turns in one run. `make benchmark` calls it.

Exit codes: 0 all targets met, 1 a target missed, 2 usage, 125 could not be measured.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import figures
import floor
import vng
from cpuidlab.base.command import run
from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import BROKEN, INTERRUPTED, OK, UNTESTED, USAGE
from cpuidlab.base.paths import PROJECT
from cpuidlab.base.progress import say, step
from cpuidlab.commands import avocado_job
from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.observe import observed
from cpuidlab.judge.expectations import identical
from cpuidlab.judge.prediction import predicted
from cpuidlab.judge.verdict import Verdict, judge
from cpuidlab.rig.guest_config import PROFILES
from cpuidlab.rig.host_config import Setup, setup
from cpuidlab.rig.host_qemu import host_qemu
from cpuidlab.rig.rig import Rig, Stage
from cpuidlab.rig.snapshots import open_rig, restorable
from figures import Ratio
from paramiko import SSHException

HOST, PAGING, PROFILE = "5.10", "npt", "small"
JOB = ("tests/test_untouched.py", "tests/test_before_run.py", "tests/test_after_run.py")
REPETITIONS, QUICK = 5, 2
RESTORES = 3  # in each repetition: a restore takes a tenth of a cold boot and varies more
RESTORED_SECONDS, COLD_SECONDS = 60.0, 240.0  # deadlines

COLD_SSH, RESTORE_SSH = "cold boot to guest SSH", "restore to guest SSH"
RAW_RUNS, RAW_SSH = "raw QEMU restore until the machine runs", "raw QEMU restore to guest SSH"
TEST_COLD, TEST_RESTORED = "one test, cold, to its verdict", "one test, restored, to its verdict"
JOB_WALL, JOB_TESTS, JOB_FIRST = "job, from command to prompt", "job, sum of its tests", "job, until its first test"
CALLS = "calls of one test, with the state of the vCPUs"
SHELL, VNG = f"cpuidlab shell --host {vng.HOST} -- uname -r", "vng -r KERNEL -- uname -r, without KVM"
RATIOS = (
    Ratio("test_speedup", "a test cold / the same test restored", TEST_COLD, TEST_RESTORED, 8.0, "higher"),
    Ratio("restore_over_floor", "restore to guest SSH / raw QEMU restore to guest SSH", RESTORE_SSH, RAW_SSH, 2.5),
    Ratio("restore_over_raw_run", "restore to guest SSH / raw QEMU until it runs", RESTORE_SSH, RAW_RUNS),
    Ratio("boot_speedup", "cold boot / restore, both to guest SSH", COLD_SSH, RESTORE_SSH, better="higher"),
    Ratio("state_in_test", "calls with the vCPUs' state / the whole test", CALLS, TEST_RESTORED, 0.1),
    Ratio("job_over_tests", "whole job / sum of its tests", JOB_WALL, JOB_TESTS),
)
WITH_VNG = Ratio("shell_over_vng", "vng -r / cpuidlab shell, both for uname -r", VNG, SHELL, 15.0, "higher")


class Benchmark:
    """Measures into `seconds`: what -> one value a repetition, in seconds."""

    def __init__(self, on: Setup, vng_command: list[str]) -> None:
        """Measure on that host; virtme-ng as well where there is a command for it."""
        self.setup = on
        self.vng_command = vng_command
        self.saved = restorable(on, Stage.GUEST_READY, PROFILES[PROFILE])
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def repeat(self, times: int) -> None:
        """Measure everything in turns, `times` times, after one round of the quick ones that does not count."""
        with step("warming up"):
            self._restores()
            self._test(cold=False)
            self._job()
            self._shells()
        self.seconds.clear()
        for number in range(1, times + 1):
            with step(f"repetition {number} of {times}"):
                self._test(cold=True)
                for _ in range(RESTORES):
                    self._restores()
                self._test(cold=False)
                self._job()
                self._shells()

    def per_ratio(self) -> dict[str, Sequence[float]]:
        """The seconds; a cold boot stands beside the restores of its repetition, so it is listed as often."""
        cold = [value for value in self.seconds[COLD_SSH] for _ in range(RESTORES)]
        return {**self.seconds, COLD_SSH: cold}

    def _restores(self) -> None:
        """Our restore and the raw one; who is first changes each time."""
        both = (self._raw_restore, self._restore)
        for one in both if len(self.seconds[RESTORE_SSH]) % 2 else reversed(both):
            one()

    def _restore(self) -> None:
        started = time.perf_counter()
        with open_rig(self.setup, Stage.GUEST_READY, PROFILE, Deadline.after(RESTORED_SECONDS)) as rig:
            _ = rig.guest
            self.seconds[RESTORE_SSH].append(time.perf_counter() - started)

    def _raw_restore(self) -> None:
        try:
            raw = floor.restore(
                host_qemu().program, self.saved, self.setup.kernel.vmlinuz, self.setup.keys.folder / "client_key"
            )
        except (OSError, ValueError, SSHException, floor.QmpError) as error:
            raise LabError(f"the raw restore failed: {error!r}") from error
        self.seconds[RAW_RUNS].append(raw.runs)
        self.seconds[RAW_SSH].append(raw.guest_ssh)

    def _test(self, cold: bool) -> None:
        """The story of tests/test_after_run.py, identical; on its way the cold one passes guest SSH."""
        started = time.perf_counter()
        deadline = Deadline.after(COLD_SECONDS if cold else RESTORED_SECONDS)
        with open_rig(self.setup, Stage.GUEST_READY, PROFILE, deadline, cold) as rig:
            if cold:
                _ = rig.guest
                self.seconds[COLD_SSH].append(time.perf_counter() - started)
            calls = self._tell(rig)
            if not cold:
                self.seconds[CALLS].append(calls)
            self.seconds[TEST_COLD if cold else TEST_RESTORED].append(time.perf_counter() - started)

    def _tell(self, rig: Rig) -> float:
        """Tell the story; return how long its calls took, with the state as text that the evidence keeps."""
        guest = Guest(rig)
        started = time.perf_counter()
        guest.set_cpuid()
        guest.state.read(rig.hook)
        calls = time.perf_counter() - started
        seen = observed(guest)
        found = judge(identical, predicted(self.setup.kernel).among[0], None, seen, promise="", rerun="")
        if found.verdict is not Verdict.PASS:
            raise LabError(f"the test that is measured did not pass: {found.verdict} {found.reason}")
        return calls

    def _shells(self) -> None:
        """One command on a restored host, and one under virtme-ng."""
        if self.vng_command:
            self.seconds[SHELL].append(vng.timed(vng.shell_command()))
            self.seconds[VNG].append(vng.timed(self.vng_command))

    def _job(self) -> None:
        """A whole job in a process of its own; it ends with this one."""
        with tempfile.TemporaryDirectory(prefix="cpuidlab-benchmark-") as folder:
            words = avocado_job.command_line(JOB, Path(folder), "--hosts", HOST, "--paging", PAGING)
            began, started = time.time(), time.perf_counter()
            run(words, seconds=600, cwd=PROJECT)
            self.seconds[JOB_WALL].append(time.perf_counter() - started)
            tests = json.loads(Path(folder, "latest", "results.json").read_text())["tests"]
        self.seconds[JOB_TESTS].append(sum(float(test["time_elapsed"]) for test in tests))
        self.seconds[JOB_FIRST].append(min(float(test["actual_time_start"]) for test in tests) - began)


def main() -> int:
    """Measure, print the tables on standard output, and write the JSON where it is asked for."""
    options = _options()
    try:
        if options.json and not options.json.parent.is_dir():
            raise UsageError(f"there is no folder {options.json.parent} for the JSON")
        on = setup(HOST, PAGING)
        vng_command = vng.vng_command(options.vng_kernel)
        if not vng_command:
            say("benchmark: vng or a kernel for it is not installed; 'cpuidlab shell' is not compared with it")
        benchmark = Benchmark(on, vng_command)
        benchmark.repeat(options.repetitions)
        ratios = (*RATIOS, WITH_VNG) if vng_command else RATIOS
        found = [figures.figure(ratio, benchmark.per_ratio()) for ratio in ratios]
        print(figures.as_text(found, benchmark.seconds))
        if options.json:
            about = _about(on, options.repetitions)
            options.json.write_text(json.dumps(figures.as_json(found, benchmark.seconds, about), indent=1) + "\n")
    except UsageError as error:
        return _complain(str(error), USAGE)
    except (LabError, OSError) as error:
        return _complain(str(error), UNTESTED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    return BROKEN if any(one.met is False for one in found) else OK


def _about(on: Setup, repetitions: int) -> dict[str, Any]:
    return {
        "host": on.kernel.label, "release": on.kernel.release, "paging": on.paging, "accel": on.accel,
        "guest": on.guest_kernel.release, "machine": platform.machine(), "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0], "repetitions": repetitions, "restores_in_each": RESTORES,
    }  # fmt: skip


def _complain(text: str, code: int) -> int:
    say(f"benchmark: {text}")
    return code


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    number = parser.add_mutually_exclusive_group()
    number.add_argument("-n", "--repetitions", type=_count, default=REPETITIONS, help=f"default {REPETITIONS}")
    number.add_argument("--quick", dest="repetitions", action="store_const", const=QUICK, help=f"only {QUICK}")
    parser.add_argument("--vng-kernel", type=Path, metavar="FILE", help="what vng boots; the newest kernel in /boot")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON to FILE as well")
    return parser.parse_args()


def _count(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above zero")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
