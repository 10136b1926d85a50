"""A latent fault, released: an accepted change that harms nothing until the host drops its shadow pages."""

from dataclasses import replace

from cpuidlab.avocado_plugin.base_test import PromiseTest
from cpuidlab.experiment.observation import ACCEPTED
from cpuidlab.experiment.page_probe import Observers, drop_shadow_pages
from cpuidlab.judge.eras import Era
from cpuidlab.judge.expectations import changed
from cpuidlab.judge.verdict import Expectation


class ReleasedFault(PromiseTest):
    """Why 63f5a1909f9e warns of instability: the harm comes when the host does something else, long afterwards."""

    def test_gbpages(self) -> None:
        """The guest's kernel uses memory behind a 1 GiB page, then GBPAGES is cleared: at first nothing happens; after
        a write to nx_huge_pages on the host the same access is an oops (63f5a1909f9e). Under npt, without MMU
        re-initialization (49c6f8756cdf) or where the change is refused (feb627e8d6f6), the guest stays stable."""

        def expect(era: Era) -> Expectation:
            promised = changed(2)(era)
            if era.changed == ACCEPTED and era.lines and self.paging == "shadow":
                return replace(promised, notes=("harmless", "then killed"), guest="harmed")
            return replace(promised, notes=("harmless", "then harmless"))

        with self.story() as story:
            story.resume()
            observers = Observers(story, "3 ram 0")
            story.stop()
            story.set("gbpages=off")
            story.resume()
            story.notes.append(observers.touch("after the change"))
            drop_shadow_pages(story)
            story.notes.append(f"then {observers.touch('after the shadow pages were dropped')}")
            self.conclude(story, expect)
