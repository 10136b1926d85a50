"""The command `cpuidlab`. Each subcommand imports what it needs when it runs, so that the light ones start at once."""

import argparse
import errno
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from cpuidlab import failure
from cpuidlab.errors import LabError, UsageError

USAGE, UNTESTED, INTERRUPTED = 2, 125, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand. Returns 0 all as promised, 1 a promise broken, 2 usage, 125 could not be tested."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except UsageError as error:
        return _complain(str(error), USAGE)
    except LabError as error:
        return _complain(failure.told(error), UNTESTED)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at its end
        return 0
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        return _complain(f"{error}{'; free some room or set XDG_CACHE_HOME' if full else ''}", UNTESTED)
    return code


def _complain(text: str, code: int) -> int:
    print(f"cpuidlab: {text}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cpuidlab",
        description="What does a kernel do when a guest's CPUID changes after its vCPU has run?",
        epilog="Exit codes: 0 all well, 1 a promise broken, 2 usage, 125 could not be tested.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    doctor = commands.add_parser("doctor", help="what this machine can do, what is missing, and what mends it")
    doctor.set_defaults(run=_doctor)
    kernels = commands.add_parser("kernels", help="the kernels that can be tested: series, versions, cached or not")
    kernels.add_argument("--refresh", action="store_true", help="ask the archive again what there is")
    kernels.set_defaults(run=_kernels)
    cache = commands.add_parser("cache", help="what lies in the cache: kinds, sizes, what is stale; and pruning it")
    cache.add_argument("action", nargs="?", choices=["prune"], help="drop what is stale")
    cache.add_argument("--all", action="store_true", help="with prune: drop all that can be made again")
    cache.add_argument("--max-size", metavar="SIZE", help="with prune: drop more, until the cache is smaller, as 6G")
    cache.set_defaults(run=_cache)
    nightly = commands.add_parser("nightly", help="fetch the newest kernels, run the matrix, tell what has changed")
    nightly.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the nights' results go")
    nightly.add_argument("--keep", type=int, default=30, metavar="N", help="how many nights to keep (30)")
    nightly.add_argument("--hosts", default="all", metavar="HOST,...", help="as of 'avocado run' (all)")
    nightly.add_argument("words", nargs="*", metavar="TEST", help="as of 'avocado run', after --; tests/ by default")
    nightly.set_defaults(run=_nightly)
    export = commands.add_parser("export", help="a matrix in the format of another system, on standard output")
    export.add_argument("--kcidb", required=True, type=Path, metavar="MATRIX.json", help="as a report for KCIDB")
    export.add_argument("--origin", metavar="NAME", help="the CI system's name in KCIDB (kvm_cpuid_lab)")
    export.set_defaults(run=_export)
    for command in (doctor, kernels, cache):
        command.add_argument("--json", action="store_true", help="plain data on standard output")
    return parser


def _doctor(options: argparse.Namespace) -> int:
    from cpuidlab import doctor  # noqa: PLC0415  # as the module's docstring says

    return doctor.main(options.json)


def _kernels(options: argparse.Namespace) -> int:
    from cpuidlab import eras, kernels  # noqa: PLC0415

    rows = [asdict(row) | {"predicted": eras.predict(row.version).name} for row in kernels.catalogue(options.refresh)]
    if options.json:
        print(json.dumps({"kernels": rows}, indent=2))
        return 0
    for row in rows:
        state = row["lack"] or ("cached" if row["cached"] else "can be fetched")
        print(f"{row['series']:6} {row['version']:24} {row['predicted']:17} {row['suite']:20} {state}")
    return 0


def _cache(options: argparse.Namespace) -> int:
    from cpuidlab import cache  # noqa: PLC0415

    if options.action == "prune":
        limit = cache.bytes_of(options.max_size) if options.max_size else None
        print(cache.freed(cache.prune(options.all, limit)))
    elif options.all or options.max_size:
        raise UsageError("--all and --max-size belong to 'cpuidlab cache prune'")
    else:
        print(cache.shown(cache.entries(), options.json))
    return 0


def _nightly(options: argparse.Namespace) -> int:
    from cpuidlab import nightly  # noqa: PLC0415

    return nightly.main(options.out, options.keep, options.hosts, options.words)


def _export(options: argparse.Namespace) -> int:
    from cpuidlab import kcidb  # noqa: PLC0415

    print(kcidb.export(options.kcidb, options.origin or kcidb.ORIGIN))
    return 0
