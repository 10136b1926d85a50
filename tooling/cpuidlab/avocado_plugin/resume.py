"""Going on with an interrupted job: what it has decided and still stands is kept, the rest is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avocado.core.output import LOG_UI

from cpuidlab.avocado_plugin import journal
from cpuidlab.avocado_plugin.journal import Line
from cpuidlab.avocado_plugin.plan import Plan

LAST = "last"


def kept(config: Mapping[str, Any], plan: Plan) -> dict[tuple[str, str], Line]:
    """What stands of the job that --resume names; nothing where it names none.

    Raises UsageError where that is no job's folder.
    """
    named = config.get("cpuidlab.resume")
    if not named:
        return {}
    results = Path(config.get("run.results_dir") or config["datadir.paths.logs_dir"])
    job = (results / "latest" if named == LAST else Path(named)).resolve()  # `latest` will be this job soon
    found = journal.decided(job, lambda test, variant: _key(plan, test, variant))
    LOG_UI.info("RESUMED    : %s, %d tests kept", job, len(found))
    return found


def note(plan: Plan, state: Mapping[str, Any]) -> None:
    """Write a test that has ended, as Avocado tells of it, into its job's journal."""
    name, reason = state["name"], state.get("fail_reason") or ""
    key = _key(plan, name.name, name.variant)
    if key:
        line = Line(name.name, name.variant, key, state["status"], str(reason), state["logdir"])
        journal.note(Path(state["job_logdir"]), line)


def _key(plan: Plan, test: str, variant: str) -> str:
    """What the result of that test depends on; empty for a variant that is not tested."""
    one = next((one for one in plan.variants if one.name == variant), None)
    if one is None:
        return ""
    return journal.key(test, one.setup.identity, one.prediction.name, plan.cold)
