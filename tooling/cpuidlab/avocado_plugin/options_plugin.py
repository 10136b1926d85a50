"""Avocado's plug-in for the options of `avocado run`. Every `avocado` command loads it, so it imports nothing heavy."""

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

from avocado.core.plugin_interfaces import CLI
from avocado.core.settings import settings

from cpuidlab.avocado_plugin import progress_plugin
from cpuidlab.base.paths import PROJECT

if TYPE_CHECKING:
    from cpuidlab.avocado_plugin.plan import Plan

SECTION = "cpuidlab"

# key, type, what help shows for the value, help; the defaults stand in avocado.cfg
OPTIONS: tuple[tuple[str, type, str | None, str], ...] = (
    ("hosts", str, "HOST,...", "hosts to test, such as 5.10,5.10+warning,newest,rpm:A.rpm,B.rpm; all: every host"),
    ("paging", str, "MODE,...", "paging modes of the host's KVM, comma-separated: npt, shadow"),
    ("accel", str, "ACCEL", "what runs the nested hosts: tcg, an AMD CPU; bochs, an Intel CPU; or this machine's kvm"),
    ("era", str, "ERA", "judge by this era instead of the predicted one: NAME, or HOST=NAME,..."),
    ("eras", str, "FILE", "a table of kernel releases and their eras instead of ~/.config/kvm-cpuid-lab/eras.toml"),
    ("kernels", str, "FILE", "a table of suites to add, instead of ~/.config/kvm-cpuid-lab/kernels.toml"),
    ("cold", bool, None, "boot a rig from the beginning for every test instead of starting a copy of a snapshot"),
    ("reload_kvm", bool, None, "load KVM anew on a real machine for the other paging mode, and put it back"),
    ("resume", str, "JOBDIR", "keep what an interrupted job has decided, and run the rest; last: the latest job"),
)  # fmt: skip


class Options(CLI):  # type: ignore[misc]  # Avocado has no types
    """The options of `avocado run`, and defaults of Avocado's own that depend on this machine."""

    name = SECTION
    description = "Options of the CPUID lab for 'run'"

    def configure(self, parser: Any) -> None:
        """Register the options."""
        from cpuidlab.base.parallel import rigs_at_once  # noqa: PLC0415

        run = parser.subcommands.choices.get("run")
        group = run.add_argument_group("CPUID lab")
        for key, kind, value, text in OPTIONS:
            settings.register_option(
                section=SECTION, key=key, key_type=kind, default=kind(), help_msg=text, parser=group,
                long_arg=f"--{key.replace('_', '-')}", metavar=value,
            )  # fmt: skip
        settings.update_option("run.max_parallel_tasks", rigs_at_once())
        settings.update_option("datadir.paths.logs_dir", str(PROJECT / "job-results"))
        settings.update_option("datadir.paths.test_dir", str(PROJECT / "tests"))

    def run(self, config: Mapping[str, Any]) -> None:
        """Choose what Avocado will print of tests; Avocado holds all output back at this time."""
        progress_plugin.leave_out_tests(config)


def plan_of(config: Mapping[str, Any]) -> "Plan | None":
    """Return the plan that the options stand for; None for a job that does not know them."""
    if config.get(f"{SECTION}.hosts") is None:
        return None
    asked = {key: config[f"{SECTION}.{key}"] for key in ("hosts", "paging", "accel", "era", "cold", "reload_kvm")}
    return _plan(table=config[f"{SECTION}.eras"], **asked)


@cache  # what `all` means must not change while a job runs
def _plan(**asked: Any) -> "Plan":
    from cpuidlab.avocado_plugin.plan import plan  # noqa: PLC0415

    return plan(**asked)
