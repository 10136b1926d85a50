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
        epilog="Exit codes: 0 all well, 1 a promise broken or a matrix got worse, 2 usage, 125 could not be tested.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    doctor = commands.add_parser("doctor", help="what this machine can do, what is missing, and what mends it")
    doctor.set_defaults(run=_doctor)
    kernels = commands.add_parser("kernels", help="the kernels that can be tested: series, versions, cached or not")
    kernels.add_argument("--refresh", action="store_true", help="ask the archive again what there is")
    kernels.set_defaults(run=_kernels)
    compare = commands.add_parser("compare", help="what changed between two matrices; exit 1 if anything got worse")
    compare.add_argument("old", type=Path, metavar="OLD.json", help="the matrix.json of the earlier run")
    compare.add_argument("new", type=Path, metavar="NEW.json", help="the matrix.json of the later run")
    compare.add_argument("--html", type=Path, metavar="FILE", help="write the new matrix's page, with what changed")
    compare.set_defaults(run=_compare)
    for command in (doctor, kernels):
        command.add_argument("--json", action="store_true", help="plain data on standard output")
    return parser


def _compare(options: argparse.Namespace) -> int:
    from cpuidlab import comparetext  # noqa: PLC0415

    return comparetext.main(options.old, options.new, options.html)


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
