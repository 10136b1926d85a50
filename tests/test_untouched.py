"""The control: a guest that nobody touches."""

from cpuidlab.testing import Guest, PromiseTest, promise, untouched


class Untouched(PromiseTest):
    """Without it no silence and no stability elsewhere would mean anything."""

    @promise(untouched)
    def test_nothing_changed(self, guest: Guest) -> None:
        """Nothing is set: the guest stays stable and the host's kernel says nothing, in every era."""
