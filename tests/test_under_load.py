"""A guest under load: what it notices of refused changes, and of two vCPUs that walk its pages by different rules."""

from dataclasses import replace

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.experiment.experiment import Story
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.judge.eras import Era
from cpuidlab.judge.expectations import Promise, changed
from cpuidlab.judge.verdict import Expectation
from cpuidlab.rig.ssh import Program

CHANGES = 200
LOAD = "stress-ng --quiet --verify --cpu 1 --cpu-method int64 --vm 1 --vm-bytes 32M --timeout {}; echo exit $?"


class UnderLoad(PromiseTest):
    """The load verifies its own results; it must end well."""

    def test_many_changes(self) -> None:
        """200 changes in a row, each by a vCPU's own thread between two KVM_RUNs, with verified load on both vCPUs:
        all refused, silently, and the guest notices nothing (feb627e8d6f6); or, where they are accepted, all applied,
        within the rate limit of the lines (63f5a1909f9e), and the guest still works."""
        with self.story() as story:
            load = self._load(story, seconds=6)
            for count in range(CHANGES // len(story.vcpus)):
                story.set(f"maxphyaddr={36 + count % 2}", live=True)
            self._await(story, load)
            self.conclude(story, self._promise(CHANGES))

    def test_one_of_two_in_concert(self) -> None:
        """MAXPHYADDR lowered to 36 on vCPU 1 alone while both walk the same pages under load: accepted, and as all RAM
        is below it nothing breaks, or refused (feb627e8d6f6)."""
        with self.story() as story:
            load = self._load(story, seconds=3)
            story.set("maxphyaddr=36", vcpus=[1], live=True)
            self._await(story, load)
            self.conclude(story, self._promise(1))

    def test_one_of_two_above_ram(self) -> None:
        """MAXPHYADDR lowered to 32 on vCPU 1 alone, RAM above 4 GiB and both under load: where it is accepted, one vCPU
        finds reserved bits in the page tables that both walk, and the guest dies; or refused (feb627e8d6f6)."""
        with self.story(profile="highmem") as story:
            load = self._load(story, seconds=3)
            if story.set("maxphyaddr=32", vcpus=[1], live=True) == ACCEPTED:
                self.conclude(story, changed(1, deadly=True))
            else:
                self._await(story, load)
                self.conclude(story, self._promise(1))

    def _load(self, story: Story, seconds: int) -> Program:
        story.resume()
        return story.rig.guest.start(LOAD.format(seconds), story.deadline)

    def _await(self, story: Story, load: Program) -> None:
        said = story.said(load)
        story.readings.append(f"the load said: {said}")
        story.notes.append("load verified" if said and said.strip() == "exit 0" else "load failed")

    def _promise(self, calls: int) -> Promise:
        def expect(era: Era) -> Expectation:
            return replace(changed(calls)(era), notes=("load verified",))

        return expect
