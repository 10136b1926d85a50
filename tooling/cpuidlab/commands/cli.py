"""The command `cpuidlab`. Each subcommand imports what it needs when it runs, so that the light ones start at once."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cpuidlab.base import error_text
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import INTERRUPTED, OK, UNTESTED, USAGE

ERAS = "a table of kernel releases and their eras instead of ~/.config/kvm-cpuid-lab/eras.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns 0 all as promised, 1 a promise broken, 2 usage, 125 could not be tested."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except UsageError as error:
        return _complain(str(error), USAGE)
    except LabError as error:
        return _complain(error_text.told(error), UNTESTED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return OK
    except Exception as error:  # a trace would end with 1, which says that a promise is broken
        text = error_text.of_system(error) if isinstance(error, OSError) else error_text.of_lab(error)
        return _complain(text, UNTESTED)
    return code


def _complain(text: str, code: int) -> int:
    print(f"cpuidlab: {text}", file=sys.stderr)
    return code


def _folder(text: str) -> Path:
    """A folder for results, there or not."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a file, no folder")
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cpuidlab",
        description="What does a kernel do when a guest's CPUID changes after its vCPU has run?",
        epilog="Exit codes: 0 all well, 1 a promise broken or a matrix got worse, 2 usage, 125 could not be tested.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    doctor = commands.add_parser("doctor", help="what this machine can do, what is missing, and what mends it")
    doctor.set_defaults(run=_doctor)
    kernels = commands.add_parser("kernels", help="the kernels that can be tested: series, versions, cached or not")
    kernels.add_argument("--refresh", action="store_true", help="ask the archive again what there is")
    kernels.add_argument("--eras", metavar="FILE", default="", help=ERAS)
    kernels.set_defaults(run=_kernels)
    sweep = commands.add_parser("sweep", help="which bits of CPUID a kernel lets be changed after KVM_RUN")
    sweep.add_argument("--host", default="", metavar="HOST[,...]", help="the hosts to sweep; all: every usable series")
    sweep.add_argument("--paging", default="npt,shadow", help="npt, shadow or both (both)")
    sweep.add_argument("--cpu", default="", metavar="MODEL", help="another CPU for the guest, as QEMU's -cpu takes it")
    sweep.add_argument(
        "--host-cpu", default="", metavar="MODEL", help="another CPU for the nested host: EPYC,pku=on,la57=on"
    )
    sweep.add_argument("--to", type=_folder, default=Path("sweep-results"), metavar="DIR", help="where maps are kept")
    sweep.add_argument("--diff", type=Path, nargs=2, metavar=("A.json", "B.json"), help="only compare two kept maps")
    sweep.set_defaults(run=_sweep)
    _add_try(commands)
    cache = commands.add_parser("cache", help="what lies in the cache: kinds, sizes, what is stale; and pruning it")
    cache.add_argument("action", nargs="?", choices=["prune"], help="drop what is stale")
    cache.add_argument("--all", action="store_true", help="with prune: drop all that can be made again")
    cache.add_argument("--max-size", metavar="SIZE", help="with prune: drop more, until the cache is smaller, as 6G")
    cache.set_defaults(run=_cache)
    nightly = commands.add_parser("nightly", help="fetch the newest kernels, run the matrix, tell what has changed")
    nightly.add_argument("--out", required=True, type=_folder, metavar="DIR", help="where the nights' results go")
    nightly.add_argument("--keep", type=int, default=30, metavar="N", help="how many nights to keep (30)")
    nightly.add_argument("--hosts", default="all", metavar="HOST,...", help="as of 'avocado run' (all)")
    nightly.add_argument("words", nargs="*", metavar="TEST", help="as of 'avocado run', after --; tests/ by default")
    nightly.set_defaults(run=_nightly)
    export = commands.add_parser("export", help="a matrix in the format of another system, on standard output")
    export.add_argument("--kcidb", required=True, type=Path, metavar="MATRIX.json", help="as a report for KCIDB")
    export.add_argument("--origin", metavar="NAME", help="the CI system's name in KCIDB (kvm_cpuid_lab)")
    export.set_defaults(run=_export)
    compare = commands.add_parser("compare", help="what changed between two matrices; exit 1 if anything got worse")
    compare.add_argument("old", type=Path, metavar="OLD.json", help="the matrix.json of the earlier run")
    compare.add_argument("new", type=Path, metavar="NEW.json", help="the matrix.json of the later run")
    compare.add_argument("--html", type=Path, metavar="FILE", help="write the new matrix's page, with what changed")
    compare.set_defaults(run=_compare)
    for command in (doctor, kernels, sweep, cache):
        command.add_argument("--json", action="store_true", help="plain data on standard output")
    mutants = commands.add_parser("mutants", help="rebuild KVM with one fault at a time and see whether a test notices")
    mutants.add_argument("names", nargs="*", metavar="NAME", help="the mutants to hunt; all where none is named")
    mutants.add_argument("--list", action="store_true", help="show them, with what each breaks, and do nothing")
    mutants.add_argument("--build", action="store_true", help="compile them, and run nothing")
    mutants.add_argument("--json", type=Path, metavar="FILE", help="write the results as plain data")
    mutants.add_argument("--markdown", type=Path, metavar="FILE", help="write the results as a page")
    mutants.set_defaults(run=_mutants)
    steady = commands.add_parser(
        "steady", help="the whole suite again and again on hosts that are whole: no false alarm"
    )
    steady.add_argument("--rounds", type=int, default=20, metavar="N", help="how often (default: 20)")
    steady.add_argument("--hosts", metavar="HOST,...", help="other hosts than one that warns and one that refuses")
    steady.set_defaults(run=_steady)
    _add_fresh(commands)
    return parser


def _add_fresh(commands: Any) -> None:
    fresh = commands.add_parser("fresh", help="set-up, doctor and smoke in clean roots of distributions")
    fresh.add_argument("homes", nargs="*", metavar="HOME", help="such as debian-13; all where none is named")
    fresh.add_argument("--user", choices=["user", "root"], help="only as an ordinary user, or only as root")
    fresh.add_argument("--if-changed", action="store_true", help="only where an input of the set-up has changed")
    fresh.set_defaults(run=_fresh)


def _add_try(commands: Any) -> None:
    trial = commands.add_parser("try", help="one change of a running guest's CPUID on one host, told as a story")
    trial.add_argument("--host", metavar="HOST", required=True, help="such as 5.10, 5.10+warning, tree:DIR")
    trial.add_argument(
        "--change", metavar="CHANGE", default="", help="such as maxphyaddr=32; else the same CPUID again"
    )
    trial.add_argument("--route", default="hook", help="how the change gets in: hook")
    trial.add_argument("--paging", default="npt", help="npt (the default) or shadow")
    trial.add_argument("--profile", default="small", help="the guest: small (the default) or highmem")
    trial.add_argument("--era", default="", help="judge by this era instead of the predicted one")
    trial.add_argument("--eras", metavar="FILE", default="", help=ERAS)
    trial.add_argument("--cold", action="store_true", help="boot the rig instead of thawing a frozen one")
    trial.add_argument("--evidence", type=_folder, metavar="DIR", help="keep all that was seen in this folder")
    trial.set_defaults(run=_try)


def _compare(options: argparse.Namespace) -> int:
    from cpuidlab.commands import compare  # noqa: PLC0415

    return compare.main(options.old, options.new, options.html)


def _doctor(options: argparse.Namespace) -> int:
    from cpuidlab.commands import doctor  # noqa: PLC0415  # as the module's docstring says

    return doctor.main(options.json)


def _try(options: argparse.Namespace) -> int:
    from cpuidlab.commands import try_change  # noqa: PLC0415

    try_change.check_route(options.route)
    names = ("host", "change", "paging", "profile", "era", "eras", "cold", "evidence")
    return try_change.run(try_change.Trial(**{name: getattr(options, name) for name in names}))


def _kernels(options: argparse.Namespace) -> int:
    from cpuidlab.judge import prediction  # noqa: PLC0415
    from cpuidlab.kernels import lookup  # noqa: PLC0415

    rows = []
    for row in lookup.catalogue(options.refresh):
        said = prediction.of_release(row.release, row.version, options.eras)
        rows.append(asdict(row) | {"predicted": said.era.name, "predicted_by": said.source or "the version"})
    if options.json:
        print(json.dumps({"kernels": rows}, indent=2))
        return 0
    for shown in rows:
        state = shown["lack"] or ("cached" if shown["cached"] else "can be fetched")
        by = "" if shown["predicted_by"] == "the version" else f" (predicted by {shown['predicted_by']})"
        print(f"{shown['series']:6} {shown['version']:24} {shown['predicted']:17} {shown['suite']:20} {state}{by}")
    return 0


def _sweep(options: argparse.Namespace) -> int:
    from cpuidlab.base import die_with_parent  # noqa: PLC0415
    from cpuidlab.commands import sweep  # noqa: PLC0415

    if bool(options.diff) == bool(options.host):
        raise UsageError("sweep wants either --host or --diff")
    if options.diff:
        old, new = options.diff
        return sweep.show_difference(old, new, options.json)
    die_with_parent.own_temp_folder()
    maps = sweep.make_maps(options.host, options.paging, options.cpu, options.host_cpu, options.to)
    return sweep.show_maps(maps, options.to, options.json)


def _cache(options: argparse.Namespace) -> int:
    from cpuidlab.base import artifact_gc  # noqa: PLC0415

    if options.action == "prune":
        limit = artifact_gc.bytes_of(options.max_size) if options.max_size else None
        print(artifact_gc.freed(artifact_gc.prune(options.all, limit)))
    elif options.all or options.max_size:
        raise UsageError("--all and --max-size belong to 'cpuidlab cache prune'")
    else:
        print(artifact_gc.shown(artifact_gc.entries(), options.json))
    return 0


def _nightly(options: argparse.Namespace) -> int:
    from cpuidlab.commands import nightly  # noqa: PLC0415

    return nightly.main(options.out, options.keep, options.hosts, options.words)


def _export(options: argparse.Namespace) -> int:
    from cpuidlab.report import kcidb  # noqa: PLC0415

    print(kcidb.export(options.kcidb, options.origin or kcidb.ORIGIN))
    return 0


def _mutants(options: argparse.Namespace) -> int:
    from cpuidlab.base import die_with_parent  # noqa: PLC0415
    from cpuidlab.commands import avocado_job, mutants, mutation_report, mutation_run  # noqa: PLC0415

    chosen = mutants.shipped(options.names)
    if options.list:
        for mutant in chosen:
            print(f"{mutant.host:13} {mutant.name:25} {mutant.breaks}")
        return 0
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
    for file, write in ((options.json, mutation_report.to_json), (options.markdown, mutation_report.markdown)):
        if file:
            file.write_text(write(results))
    return mutation_run.exit_code(results)


def _fresh(options: argparse.Namespace) -> int:
    from cpuidlab.commands import fresh  # noqa: PLC0415

    return fresh.main(options.homes, [options.user] if options.user else fresh.USERS, options.if_changed)


def _steady(options: argparse.Namespace) -> int:
    from cpuidlab.commands import repeat  # noqa: PLC0415

    return repeat.main(options.rounds, options.hosts or repeat.HOSTS)
