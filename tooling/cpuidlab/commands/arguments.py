"""Declare the options of every subcommand of `cpuidlab`. Nothing heavy is imported here."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

RELOAD = "load KVM anew on a real machine for the other paging mode, and put it back"
ERAS = "a table of kernel releases and their eras instead of ~/.config/kvm-cpuid-lab/eras.toml"
SUITES = "a table of suites to add, instead of ~/.config/kvm-cpuid-lab/kernels.toml"
ACCEL = "what runs a nested host: tcg, QEMU's AMD (the default); bochs, an Intel; or kvm, this machine's, if it nests"
STAGES = ("host_ready", "guest_held", "guest_ready")  # rig.Stage, which takes long to import
Parser = argparse.ArgumentParser


def parser() -> Parser:
    """Return the parser of the whole command line; `command` of what it parses is the subcommand's name."""
    whole = Parser(
        prog="cpuidlab",
        description="What does a kernel do when a guest's CPUID changes after its vCPU has run?",
        epilog="Exit codes: 0 all well, 1 a promise broken or a matrix got worse, 2 usage, 125 could not be tested.",
    )
    commands = whole.add_subparsers(title="commands", required=True, metavar="COMMAND", dest="command")
    for name, (text, declare) in COMMANDS.items():
        declare(commands.add_parser(name, help=text))
    return whole


def _folder(text: str) -> Path:
    """Return the path of a folder for results, which need not exist yet."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a file, no folder")
    return path


def _add_json(command: Parser) -> None:
    command.add_argument("--json", action="store_true", help="print plain data on standard output")


def _add_kernels(command: Parser) -> None:
    command.add_argument("--kernels", metavar="FILE", default="", help=SUITES)


def _kernels(command: Parser) -> None:
    command.add_argument("--refresh", action="store_true", help="ask the archive again what there is")
    command.add_argument("--eras", metavar="FILE", default="", help=ERAS)
    _add_kernels(command)
    _add_json(command)


def _predict(command: Parser) -> None:
    add = command.add_argument
    add("releases", nargs="*", metavar="RELEASE", help="what uname -r says, such as 6.19.0-rc1")
    add("--eras", metavar="FILE", default="", help=ERAS)
    add("--page", action="store_true", help="write docs/predictions.md anew")
    _add_json(command)


def _try(command: Parser) -> None:
    add = command.add_argument
    add("--host", metavar="HOST", required=True, help="such as 5.10, 5.10+warning, tree:DIR, rpm:FILE,FILE")
    add("--change", metavar="CHANGE", default="", help="such as maxphyaddr=32; without it the same CPUID is set again")
    add("--paging", default="npt", help="npt (the default) or shadow")
    add("--accel", default="tcg", help=ACCEL)
    add("--profile", default="small", help="the guest: small (the default) or highmem")
    add("--era", default="", help="judge by this era instead of the predicted one")
    add("--eras", metavar="FILE", default="", help=ERAS)
    _add_kernels(command)
    add("--cold", action="store_true", help="boot the rig instead of starting a copy of a snapshot")
    add("--reload-kvm", action="store_true", help=RELOAD)
    add("--evidence", type=_folder, metavar="DIR", help="keep all that was seen in this folder")


def _shell(command: Parser) -> None:
    command.usage = "cpuidlab shell [options] [-- COMMAND ...]"
    command.epilog = (
        "Exit code: the program's own (128 + n for signal n), 2 usage, 125 the lab failed, 130 interrupted."
        " The machine is restored from its snapshot, and ends with the session."
    )
    add = command.add_argument
    add("--host", default="newest", metavar="HOST", help="such as 7.3, 5.10+warning, tree:DIR, deb:FILE,FILE (newest)")
    add("--paging", default="npt", help="npt (the default) or shadow")
    _add_kernels(command)
    add("--accel", default="tcg", help=ACCEL)
    add("--guest", action="store_true", help="in the guest on that host")
    add("--stage", choices=STAGES, help="of the rig; guest_ready: a shell on the host while the guest runs")
    add("--put", action="append", default=[], metavar="FILE[:TARGET]", help="copy there, before COMMAND")
    add("--get", action="append", default=[], metavar="FILE[:TARGET]", help="copy here, after COMMAND")
    add("--keep", action="store_true", help="print an ssh command line, and keep the machine until Ctrl-C")
    add("words", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the program and its arguments")


def _sweep(command: Parser) -> None:
    add = command.add_argument
    add("--host", default="", metavar="HOST[,...]", help="the hosts to sweep; all: every usable series")
    add("--paging", default="npt,shadow", help="npt, shadow, or npt,shadow (the default)")
    add("--accel", default="tcg", help=ACCEL)
    add("--cpu", default="", metavar="MODEL", help="another CPU for the guest, as QEMU's -cpu takes it")
    add("--host-cpu", default="", metavar="MODEL", help="another CPU for the nested host: EPYC,pku=on,la57=on")
    add("--reload-kvm", action="store_true", help=RELOAD)
    add("--to", type=_folder, default=Path("sweep-results"), metavar="DIR", help="where maps are kept")
    _add_kernels(command)
    add("--diff", type=Path, nargs=2, metavar=("A.json", "B.json"), help="only compare two maps that were kept")
    _add_json(command)


def _cache(command: Parser) -> None:
    add = command.add_argument
    add("action", nargs="?", choices=["prune"], help="drop what is stale")
    add("--all", action="store_true", help="with prune: drop all that can be made again")
    add("--max-size", metavar="SIZE", help="with prune: drop more, until the cache is smaller, as 6G")
    _add_json(command)


def _nightly(command: Parser) -> None:
    add = command.add_argument
    add("--out", required=True, type=_folder, metavar="DIR", help="where the nights' results go")
    add("--keep", type=int, default=30, metavar="N", help="how many nights to keep (30)")
    add("--hosts", default="all", metavar="HOST,...", help="as of 'avocado run' (all)")
    _add_kernels(command)
    add("words", nargs="*", metavar="TEST", help="as of 'avocado run', after --; tests/ by default")


def _export(command: Parser) -> None:
    command.add_argument("--kcidb", required=True, type=Path, metavar="MATRIX.json", help="as a report for KCIDB")
    command.add_argument("--origin", metavar="NAME", help="the CI system's name in KCIDB (kvm_cpuid_lab)")


def _compare(command: Parser) -> None:
    add = command.add_argument
    add("old", type=Path, metavar="OLD", help="the matrix.json of the earlier run, or the job's folder")
    add("new", type=Path, metavar="NEW", help="the same of the later run")
    add("--html", type=Path, metavar="FILE", help="write the new matrix's page, with what changed")


def _merge(command: Parser) -> None:
    add = command.add_argument
    add("matrices", type=Path, nargs="+", metavar="MATRIX", help="a job's matrix.json, or the job's folder")
    add("--out", type=_folder, default=Path("merged"), metavar="DIR", help="where the merged matrix goes (merged)")


def _mutants(command: Parser) -> None:
    add = command.add_argument
    add("names", nargs="*", metavar="NAME", help="the mutants to test; all where none is named")
    add("--list", action="store_true", help="show them, with what each breaks, and do nothing")
    add("--build", action="store_true", help="compile them, and run nothing")
    add("--json", type=Path, metavar="FILE", help="write the results as plain data")
    add("--markdown", type=Path, metavar="FILE", help="write the results into this page; it keeps other mutants' rows")


def _steady(command: Parser) -> None:
    command.add_argument("--rounds", type=int, default=20, metavar="N", help="how often (default: 20)")
    command.add_argument("--hosts", metavar="HOST,...", help="other hosts than one that warns and one that refuses")
    _add_kernels(command)


def _fresh(command: Parser) -> None:
    add = command.add_argument
    add("homes", nargs="*", metavar="HOME", help="such as debian-13; all where none is named")
    add("--user", choices=["user", "root"], help="only as an ordinary user, or only as root")
    add("--if-changed", action="store_true", help="only where an input of the set-up has changed")


# name: help, and what declares the options
COMMANDS: dict[str, tuple[str, Callable[[Parser], Any]]] = {
    "doctor": ("what this machine can do, what is missing, and what mends it", _add_json),
    "kernels": ("the kernels that can be tested: series, versions, cached or not", _kernels),
    "predict": ("the era that a kernel's release promises, and why", _predict),
    "sweep": ("which bits of CPUID a kernel lets be changed after KVM_RUN", _sweep),
    "try": ("one change of a running guest's CPUID on one host, step by step", _try),
    "shell": ("a shell, or one program, on a nested host or in the guest on it", _shell),
    "cache": ("what lies in the cache: kinds, sizes, what is stale; and pruning the cache", _cache),
    "nightly": ("fetch the newest kernels, run the matrix, tell what has changed", _nightly),
    "export": ("a matrix in the format of another system, on standard output", _export),
    "compare": ("what changed between two matrices; exit 1 if anything got worse", _compare),
    "merge": ("one matrix of several jobs that ran apart; exit 125 if two of them disagree", _merge),
    "mutants": ("rebuild KVM with one fault at a time and see whether a test notices", _mutants),
    "steady": ("the whole suite again and again on hosts without a fault: no false alarm", _steady),
    "fresh": ("set-up, doctor and smoke in clean roots of distributions", _fresh),
}
