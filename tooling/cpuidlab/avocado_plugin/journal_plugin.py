"""Avocado's plug-in that writes the journal: what an interrupted job has decided need not be run again."""

from collections.abc import Mapping
from typing import Any

from avocado.core.plugin_interfaces import ResultEvents

from cpuidlab.avocado_plugin.options_plugin import SECTION, plan_of


class Journal(ResultEvents):  # type: ignore[misc]  # Avocado has no types
    """Writes down each test as it ends."""

    name = SECTION
    description = "Journal of the CPUID lab: journal.jsonl"

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Keep the options of the job that Avocado makes this for."""
        self._config = config

    def end_test(self, result: Any, state: Mapping[str, Any]) -> None:
        """Note a test that has ended."""
        from cpuidlab.avocado_plugin import resume  # noqa: PLC0415

        plan = plan_of(self._config)
        if plan is not None:
            resume.note(plan, state)

    def pre_tests(self, job: Any) -> None:
        """Do nothing: Avocado asks for the method."""

    def start_test(self, result: Any, state: Mapping[str, Any]) -> None:
        """Do nothing."""

    def test_progress(self, progress: bool = False) -> None:
        """Do nothing."""

    def post_tests(self, job: Any) -> None:
        """Do nothing."""
