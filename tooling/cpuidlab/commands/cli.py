"""The command `cpuidlab`. Each subcommand imports what it needs when it runs, so that the light ones start at once."""
# ruff: noqa: PLC0415

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence

from cpuidlab.base import error_text
from cpuidlab.base.errors import UsageError
from cpuidlab.base.exit_codes import OK
from cpuidlab.commands import arguments


def main(words: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns 0 all as promised, 1 a promise broken, 2 usage, 125 could not be tested."""
    options = arguments.parser().parse_args(words)
    try:
        _use_table(options)
        code = RUN[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return OK
    except (Exception, KeyboardInterrupt) as error:
        line, code = error_text.line_and_code(error)
        print(f"cpuidlab: {line}", file=sys.stderr)
    return code


def _use_table(options: Namespace) -> None:
    """Read the user's table of suites, before a command that takes hosts begins its work."""
    if hasattr(options, "kernels"):
        from cpuidlab.kernels import suites

        suites.use(options.kernels)


def _doctor(options: Namespace) -> int:
    from cpuidlab.commands import doctor

    return doctor.main(options.json)


def _kernels(options: Namespace) -> int:
    from cpuidlab.commands import kernels

    return kernels.main(options.refresh, options.eras, options.json)


def _predict(options: Namespace) -> int:
    from cpuidlab.commands import predict

    if bool(options.releases) == options.page:
        raise UsageError("predict wants either releases or --page")
    if options.page:
        return predict.write_page()
    return predict.main(options.releases, options.eras, options.json)


def _sweep(options: Namespace) -> int:
    from cpuidlab.base import die_with_parent
    from cpuidlab.commands import sweep

    if bool(options.diff) == bool(options.host):
        raise UsageError("sweep wants either --host or --diff")
    if options.diff:
        old, new = options.diff
        return sweep.show_difference(old, new, options.json)
    die_with_parent.own_temp_folder()
    where = (options.host, options.paging, options.cpu, options.host_cpu)
    maps = sweep.make_maps(*where, options.to, accel=options.accel, reload_kvm=options.reload_kvm)
    return sweep.show_maps(maps, options.to, options.json)


def _try(options: Namespace) -> int:
    from cpuidlab.commands import try_change

    names = ("host", "change", "paging", "accel", "profile", "era", "eras", "kernels", "cold", "reload_kvm", "evidence")
    return try_change.run(try_change.Trial(**{name: getattr(options, name) for name in names}))


def _shell(options: Namespace) -> int:
    from cpuidlab.commands import shell

    return shell.main(options)


def _cache(options: Namespace) -> int:
    from cpuidlab.commands import cache

    return cache.main(options.action == "prune", options.all, options.max_size, options.json)


def _nightly(options: Namespace) -> int:
    from cpuidlab.commands import nightly

    return nightly.main(options.out, options.keep, options.hosts, options.words)


def _export(options: Namespace) -> int:
    from cpuidlab.report import kcidb

    print(kcidb.export(options.kcidb, options.origin or kcidb.ORIGIN))
    return OK


def _compare(options: Namespace) -> int:
    from cpuidlab.commands import compare

    return compare.main(options.old, options.new, options.html)


def _merge(options: Namespace) -> int:
    from cpuidlab.commands import merge

    return merge.main(options.matrices, options.out)


def _mutants(options: Namespace) -> int:
    from cpuidlab.base import die_with_parent
    from cpuidlab.commands import avocado_job, mutants, mutation_report, mutation_run

    chosen = mutants.shipped(options.names)
    if options.list:
        for mutant in chosen:
            print(f"{mutant.host:13} {mutant.name:25} {mutant.breaks}")
        return OK
    for file in (options.json, options.markdown):
        if file and (file.is_dir() or not os.access(file if file.exists() else file.absolute().parent, os.W_OK)):
            raise UsageError(f"{file} cannot be written")
    die_with_parent.own_temp_folder()
    if options.build:
        results = mutation_run.build(chosen)
        print(mutation_report.summary(results))
        return mutation_run.exit_code(results)
    results = mutation_run.hunt(chosen, avocado_job.new_folder("mutants"))
    print(mutation_report.table(results))
    print(mutation_report.summary(results))
    if options.json:
        options.json.write_text(mutation_report.to_json(results))
    if options.markdown:
        old = options.markdown.read_text() if options.markdown.exists() else ""
        known = {mutant.name for mutant in mutants.shipped()}
        options.markdown.write_text(mutation_report.markdown(results, old, known))
    return mutation_run.exit_code(results)


def _steady(options: Namespace) -> int:
    from cpuidlab.commands import repeat

    return repeat.main(options.rounds, options.hosts or repeat.HOSTS)


def _fresh(options: Namespace) -> int:
    from cpuidlab.commands import fresh

    return fresh.main(options.homes, [options.user] if options.user else list(fresh.USERS), options.if_changed)


RUN: Mapping[str, Callable[[Namespace], int]] = {
    "doctor": _doctor, "kernels": _kernels, "predict": _predict, "sweep": _sweep, "try": _try, "shell": _shell,
    "cache": _cache, "nightly": _nightly, "export": _export, "compare": _compare, "mutants": _mutants,
    "steady": _steady, "fresh": _fresh, "merge": _merge,
}  # fmt: skip
