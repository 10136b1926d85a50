"""The control: a guest that nobody touches."""

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.judge.expectations import untouched


class Untouched(PromiseTest):
    """Without it no silence and no stability elsewhere would mean anything."""

    def test_nothing_changed(self) -> None:
        """Nothing is set: the guest stays stable and the host's kernel says nothing, in every era."""
        with self.story() as story:
            self.conclude(story, untouched)
