"""Fetch packages of any suite through apt, in a private state folder: nothing is installed or shared.

Signatures and hashes are checked by apt itself against the distribution's keyring. Each suite has a folder of its
own, so that only the suites which are needed are ever asked for.
"""

import json
import os
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cpuidlab.base import command
from cpuidlab.base.atomic import write_atomically
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.progress import say, step
from cpuidlab.kernels import mirrors
from cpuidlab.kernels.suite import Suite

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
UPDATE_SECONDS = 300  # an index of 10 MB over a slow line
DOWNLOAD_SECONDS = 1200  # linux-source is 120 MB
FRESH_SECONDS = 24 * 3600

# Read after the machine's own apt configuration, so that its proxies and the like stay in force.
# The sandbox user is root because apt's own user may not enter a home folder; it matters only where we are root.
_CONFIG = """\
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "{folder}/suite.sources";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "3";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
APT::Get::AllowUnauthenticated "false";
#clear APT::Architectures;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""

# apt-get(8), --print-uris: address, file name, size and hash of each file of a source package; apt's own downloader.
_SOURCE_FILE = re.compile(r"(?m)^'(?P<uri>[^']+)' (?P<file>\S+\.orig\.tar\.\S+) \d+ (?P<hash>\w+:[0-9a-f]+)$")
_HELPER = "/usr/lib/apt/apt-helper"

_DATE = 'Acquire::Check-{key} "{value}";\n'

_SOURCES = """\
Types: {types}
URIs: {uri}
Suites: {suite}
Components: {component}
Architectures: amd64
Signed-By: {keyring}
"""


def packages(suite: Suite, max_age: float = FRESH_SECONDS) -> dict[str, list[str]]:
    """Return the suite's kernel packages and their versions, newest first; ask the mirror after `max_age` seconds.

    Without the network an older list is used, and that is said. Raises LabError where there is no older list.
    """
    suite.folder.mkdir(parents=True, exist_ok=True)
    with suite.lock():
        known = age(suite)
        if known is None or known >= max_age:
            try:
                _update(suite)
            except LabError as error:
                if known is None:
                    raise
                say(f"  !! {error}; going on with the list of {known / 86400:.0f} days ago")
        return known_packages(suite)


def known_packages(suite: Suite) -> dict[str, list[str]]:
    """Return what `packages` returned last time, without network or processes; nothing where it was never called."""
    try:
        listed: dict[str, list[str]] = json.loads(_listing(suite).read_text())
    except FileNotFoundError:
        return {}
    return listed


def fetch(suite: Suite, wanted: Mapping[str, str], into: Path) -> None:
    """Download the packages `wanted` (name to version) and unpack them all into the folder `into`."""
    downloads = into.with_name(into.name + ".debs")
    downloads.mkdir()
    with suite.lock():
        pairs = [f"{name}={version}" for name, version in wanted.items()]
        _apt(suite, "get", "download", *pairs, seconds=DOWNLOAD_SECONDS, cwd=downloads)
    _unpack(downloads, into)


def fetch_whole(suite: Suite, names: Sequence[str], into: Path) -> None:
    """Download the suite's packages of these names with all that they depend on, and unpack them into `into`."""
    packages(suite, max_age=0)  # else the list may name packages that have left the mirror
    downloads = into.with_name(into.name + ".debs")
    (downloads / "partial").mkdir(parents=True)
    options = ["-y", "--download-only", "--no-install-recommends", "-o", f"Dir::Cache::archives={downloads}/"]
    with suite.lock():
        _apt(suite, "get", *options, "install", *names, seconds=DOWNLOAD_SECONDS)
    _unpack(downloads, into)


def fetch_source(suite: Suite, name: str, version: str, into: Path) -> Path:
    """Download the upstream source of a package into the folder `into`; return the archive's path.

    apt checks the archive against the hash in the suite's signed index. Raises LabError where it is gone.
    """
    with suite.lock():
        files = _apt(suite, "get", "source", "--print-uris", "--only-source", f"{name}={version}", seconds=60)
        found = _SOURCE_FILE.search(files)
        if not found:
            raise LabError(f"{suite.name} has no upstream source of {name} {version}; {_advice(suite)}", files)
        archive = into / found["file"]
        words = [_HELPER, "-c", str(suite.folder / "apt.conf"), "download-file", found["uri"], str(archive)]
        _run(suite, [*words, found["hash"]], seconds=DOWNLOAD_SECONDS)
    return archive


def _unpack(downloads: Path, into: Path) -> None:
    into.mkdir(exist_ok=True)
    for package in sorted(downloads.glob("*.deb")):
        command.run(["dpkg-deb", "-x", str(package), str(into)], seconds=300)
        package.unlink()
    shutil.rmtree(downloads)


def _listing(suite: Suite) -> Path:
    return suite.folder / "packages.json"


def age(suite: Suite) -> float | None:
    """Return how many seconds ago the suite's list was fetched; None where it never was."""
    try:
        return time.time() - _listing(suite).stat().st_mtime
    except FileNotFoundError:
        return None


def _update(suite: Suite) -> None:
    """Fetch the suite's index and keep the names and versions of its kernel packages as JSON."""
    keyring = suite.keyring or KEYRING
    if not keyring.exists():
        raise UsageError(f"{keyring} is missing: apt-get install debian-archive-keyring")
    for name in ("state/lists/partial", "cache/archives/partial"):
        (suite.folder / name).mkdir(parents=True, exist_ok=True)
    (suite.folder / "status").touch()
    (suite.folder / "apt.conf").write_text(_config(suite))
    uri = suite.mirror or mirrors.mirror(suite.archive)
    calls = suite.calls or suite.name
    types = "deb deb-src" if suite.sources else "deb"
    sources = _SOURCES.format(types=types, uri=uri, suite=calls, component=suite.component, keyring=keyring)
    (suite.folder / "suite.sources").write_text(sources)
    with step(f"package list of {suite.name}"):
        _apt(suite, "get", "update", seconds=UPDATE_SECONDS)
    found = [_apt(suite, "cache", "pkgnames", prefix, seconds=60).split() for prefix in suite.prefixes]
    names = sorted({name for some in found for name in some})
    versions = _versions(_apt(suite, "cache", "madison", *names, seconds=60)) if names else {}
    if suite.table and not versions:  # apt only warns of a component that is not there
        raise LabError(f"{suite.name} holds no package {'*, '.join(suite.prefixes)}*; {_advice(suite)}")
    write_atomically(_listing(suite), json.dumps(versions))


def _config(suite: Suite) -> str:
    config = _CONFIG.format(folder=suite.folder)
    if suite.ended:
        return config + _DATE.format(key="Valid-Until", value="false")
    if suite.table:  # the project's own suites are checked as the machine's apt has it
        return config + "".join(_DATE.format(key=key, value="true") for key in ("Date", "Valid-Until"))
    return config


def _versions(madison: str) -> dict[str, list[str]]:
    """Return package names and their versions, in the order in which `apt-cache madison` lists them: newest first."""
    listed: dict[str, list[str]] = {}
    for line in madison.splitlines():
        name, version, source = (part.strip() for part in line.split("|"))
        if source.endswith("Packages"):
            listed.setdefault(name, []).append(version)
    return listed


def _apt(suite: Suite, tool: str, *arguments: str, seconds: float, cwd: Path | None = None) -> str:
    """Run apt-get or apt-cache with the suite's configuration; raises LabError with apt's own first error."""
    line = [f"apt-{tool}", "-q", "-c", str(suite.folder / "apt.conf"), *arguments]
    return _run(suite, line, seconds=seconds, cwd=cwd)


def _run(suite: Suite, line: list[str], *, seconds: float, cwd: Path | None = None) -> str:
    try:
        return command.run(line, seconds=seconds, cwd=cwd, env={**os.environ, "LC_ALL": "C"})
    except LabError as error:
        raise LabError(
            f"apt cannot read {suite.name} from the mirror: {mirrors.apt_error(error)}; {_advice(suite)}",
            error.evidence,
        ) from error


def _advice(suite: Suite) -> str:
    """Say what to look at where a suite cannot be read."""
    if suite.mirror:
        return f"check the network, and [[suites]] {suite.name} in {suite.table}"
    return f"check the network or set {mirrors.VARIABLES[suite.archive]}"
