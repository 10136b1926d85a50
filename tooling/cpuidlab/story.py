"""What a test is told with: a rig, marks in its logs, changes to its CPUID, and an observation at the end."""

from collections.abc import Sequence

from cpuidlab import cpuid, fate, health, hook, kmsg
from cpuidlab.changes import parse
from cpuidlab.cpuid import Model
from cpuidlab.errors import LabError, LostVMError
from cpuidlab.hook import Call, HookEvent
from cpuidlab.observation import Fate, GuestReport, Observation, VcpuAnswer, which_model
from cpuidlab.rig import READ_KMSG, Rig
from cpuidlab.verdict import agree

LOGIN_SECONDS = (4.0, 10.0)  # for a login after the change; between the two it is asked whether the guest hangs
HEALTH_SECONDS = 20.0  # for the guest's health program
END_SECONDS = 10.0  # after that, for a guest that is dying slowly
MARK = f"cut -d' ' -f1 /proc/uptime; {READ_KMSG}"


class Story:
    """One test on one rig, from the marks at its beginning to the observation at its end. The VM begins stopped."""

    def __init__(self, rig: Rig) -> None:
        """Take the marks: host log, hook log, and where the guest runs its uptime and kernel log, over SSH."""
        self.rig = rig
        self.deadline = rig.deadline
        self.answers: list[VcpuAnswer] = []
        vcpus = rig.hook.list()
        self.vcpus = tuple(vcpu.id for vcpu in vcpus)
        self.runs = any(vcpu.has_run for vcpu in vcpus)
        self._files = rig.files()
        self._host_mark = kmsg.mark(kmsg.parse(self._files["host-log"]))
        self._hook_mark = len(hook.parse_log(self._files["hook-log"]))
        self._uptime, self._guest_mark = self._mark_guest() if self.runs else (0.0, -1)
        self._stop()
        self.before = self._models()
        self.asked = dict(self.before)
        self.after: dict[int, Model] = {}
        self._hang: str | None = None
        self._sick: tuple[str, ...] = ()  # what the console says of a guest that answers no more and has not ended

    def set(self, change: str = "", vcpus: Sequence[int] | None = None, call: Call = 2) -> str:
        """Set the CPUID of each vCPU with that named change made to it, the same as before where none is named.

        The VM must be stopped. Returns the answer of the last call. Raises UsageError where the change would change
        nothing on this CPU.
        """
        for vcpu in self.vcpus if vcpus is None else vcpus:
            self.asked[vcpu] = parse(change).apply(self.before[vcpu]) if change else self.before[vcpu]
            answer = self.rig.hook.set(vcpu, self.asked[vcpu], call)
            self.answers.append(VcpuAnswer(vcpu, answer.word))
        return self.answers[-1].answer

    def observe(self) -> Observation:
        """Let the guest run on, look at everything, and let the witnesses confirm each other.

        Raises LabError where they contradict each other or where nobody can say what became of the guest.
        """
        looked = self._look_at_guest() if self.runs else None  # None: not run, ended, or only its console still speaks
        gone = fate.is_gone(self.rig)
        if not gone:
            self._stop()
            self.after = self._models()
        self._files = self.rig.files()
        ended = fate.of_dead(self.rig, self._hook_events()) if gone else Fate(alive=not self._hang, how=self._hang)
        seen = Observation(
            answers=tuple(self.answers),
            model=None if gone else which_model(self.after, self.asked, self.before),
            host_log=self._host_log(),
            guest=self._report(looked) if ended.alive else None,
            fate=ended,
        )
        agree(seen, [(e.vcpu or 0, e.word) for e in self._hook_events() if e.by == "hook"])
        return seen

    def evidence(self) -> dict[str, str]:
        """All that a reader needs to judge for himself: file name -> text."""
        return {
            "host-log.txt": "".join(
                f"<{record.level}> [{record.seconds:.6f}] {record.text}\n" for record in self._host_log()
            ),
            "guest-console.txt": self._files["guest-console"],
            "qemu-stderr.txt": self._files["qemu-stderr"],
            "hook-log.txt": self._files["hook-log"],
            "qmp.txt": "".join(f"{line}\n" for line in self.rig.qmp.transcript),
            "models-before.txt": _models_text(self.before),
            "models-after.txt": _models_text(self.after),
            "models-diff.txt": self._diff_text(),
        }

    def _look_at_guest(self) -> health.Health | None:
        """Log in anew and look at the guest's health; None where the guest has ended."""
        self.rig.qmp.execute("cont", self.deadline)
        for seconds in LOGIN_SECONDS:
            try:
                guest = self.rig.login(self.deadline.within(seconds))
                return health.parse(guest.run("health", self.deadline.within(HEALTH_SECONDS)))
            except LabError as error:
                failure = error
                self._hang = None if fate.is_gone(self.rig) else fate.stuck(self.rig)
                if self._hang or fate.is_gone(self.rig):
                    return None
        if fate.await_end(self.rig, self.deadline.within(END_SECONDS)):
            return None
        self._sick = fate.last_words(self.rig.files()["guest-console"])
        if isinstance(failure, LostVMError) or not self._sick:
            raise failure
        return None

    def _report(self, looked: health.Health | None) -> GuestReport | None:
        if looked is None:
            return GuestReport(stable=False, troubles=self._sick) if self._sick else None
        models = [self.after[vcpu] for vcpu in self.vcpus]
        found = health.troubles(looked, self._uptime, self._guest_mark, models)
        return GuestReport(stable=not found, troubles=found)

    def _mark_guest(self) -> tuple[float, int]:
        uptime, _, log = self.rig.guest.run(MARK, self.deadline, check=False).partition("\n")
        return float(uptime), kmsg.mark(kmsg.parse(log))

    def _models(self) -> dict[int, Model]:
        return {vcpu: self.rig.hook.get(vcpu) for vcpu in self.vcpus}

    def _stop(self) -> None:
        self.rig.qmp.execute("stop", self.deadline)

    def _host_log(self) -> tuple[kmsg.Record, ...]:
        return kmsg.since(kmsg.parse(self._files["host-log"]), self._host_mark)

    def _hook_events(self) -> tuple[HookEvent, ...]:
        return hook.parse_log(self._files["hook-log"])[self._hook_mark :]

    def _diff_text(self) -> str:
        return "".join(
            f"vCPU {vcpu}: {line}\n"
            for vcpu in self.after
            for line in cpuid.diff(self.before[vcpu], self.after[vcpu]) or ["unchanged"]
        )


def _models_text(models: dict[int, Model]) -> str:
    return "".join(f"vCPU {vcpu}\n{cpuid.to_text(model)}\n" for vcpu, model in models.items())
