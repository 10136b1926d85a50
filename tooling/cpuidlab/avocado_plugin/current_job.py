"""Hold what the plug-ins of one job share: Avocado makes each plug-in by itself and hands none of them to another.

A process runs at most one job. The tests are processes of their own, and see nothing of this.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpuidlab.avocado_plugin.job_display import Display
    from cpuidlab.avocado_plugin.journal import Line
    from cpuidlab.avocado_plugin.plan import Plan
    from cpuidlab.avocado_plugin.rig_scheduler import Ahead


@dataclass
class Job:
    """The job that this process runs. `kept` is what it takes over from the job that it resumes, by test and variant.

    `rigs` makes the rigs while tests run, `display` shows the progress. Each is None until the job has it.
    """

    plan: "Plan | None" = None
    kept: "Mapping[tuple[str, str], Line]" = field(default_factory=dict)
    rigs: "Ahead | None" = None
    display: "Display | None" = None


job = Job()
