"""Clean roots: do set-up, doctor and smoke work on a distribution where nothing of ours is installed yet?

Each home of tooling/homes.toml is made as a minimal root and tried as root and as an ordinary user with sudo. A home
is tried again where an input of its set-up has changed since the last good run.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from cpuidlab.base import command
from cpuidlab.base.artifacts import file_digest, key_of
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import OK, UNTESTED
from cpuidlab.base.paths import PROJECT, TOOLING, cache_dir
from cpuidlab.base.progress import say, step
from cpuidlab.kernels import aptfetch, mirrors

WORKER = TOOLING / "fresh-root"
USERS = ("user", "root")
TRY_SECONDS = 600
BASE_SECONDS = 300
# What a set-up is made from, beside the archive's packages.
INPUTS = ("Makefile", "tooling/packages.txt", "tooling/setup.sh", "tooling/requirements.lock", "tooling/fresh-root",
          "tooling/homes.toml", "setup.cfg", "guests/common.list", "guests/host/files.list",
          "guests/guest/files.list")  # fmt: skip
# Of this machine's environment and apt configuration: how archives are reached, and nothing else.
WAY_OUT = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", *mirrors.VARIABLES.values())
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
CERTIFICATES_INSIDE = "/etc/ssl/certs/ca-certificates.crt"
APT_WAY_OUT = ("Acquire::http::", "Acquire::https::", "Acquire::Check-")


@dataclass(frozen=True)
class Home:
    """A distribution's release: its suites, the keyring that signs them, and where its archives are."""

    name: str
    suites: tuple[str, ...]
    security: str
    components: str = "main"
    keyring: str = str(aptfetch.KEYRING)
    mirror: str = ""  # a variable that holds the address, where it is not Debian's archive

    def addresses(self) -> tuple[str, str]:
        """Return the addresses of its main and its security archive; UsageError where one is not known."""
        if not self.mirror:
            return mirrors.mirror("main"), mirrors.mirror("security")
        address = os.environ.get(self.mirror)
        if not address:
            raise UsageError(f"no mirror of it is known: set {self.mirror} to the address of one")
        return address, address

    def sources(self) -> str:
        """Return its apt sources, one line a suite."""
        if not Path(self.keyring).exists():
            raise UsageError(f"{self.keyring} is missing; install its keyring's package")
        main, security = self.addresses()
        where = [(main, suite) for suite in self.suites] + [(security, self.security)]
        return "".join(f"deb [signed-by={self.keyring}] {uri} {suite} {self.components}\n" for uri, suite in where)


def homes(names: Sequence[str] = ()) -> list[Home]:
    """Return the homes of these names, all without names; UsageError for one that is not in the table."""
    rows = tomllib.loads((TOOLING / "homes.toml").read_text())["homes"]
    known = {row["name"]: Home(**row | {"suites": tuple(row["suites"])}) for row in rows}
    for name in names:
        if name not in known:
            raise UsageError(f"unknown home '{name}'; there are {', '.join(known)}")
    return [known[name] for name in names or known]


def main(names: Sequence[str], users: Sequence[str], if_changed: bool) -> int:
    """Try the homes and say of each how it went: 0 all good, 1 one is not, 125 where nothing could be tried.

    With `if_changed` a home is left out where nothing has changed since its last good run, and what cannot be tried
    here is said and is no failure.
    """
    unable = _unable()
    if unable:
        say(f"fresh: NOT RUN: {unable}")
        return OK if if_changed else UNTESTED
    codes = [_try_home(home, users, if_changed, required=bool(names)) for home in homes(names)]
    tried = [code for code in codes if code is not None]
    return max(tried, default=OK if if_changed else UNTESTED)


def _try_home(home: Home, users: Sequence[str], if_changed: bool, required: bool) -> int | None:
    """Try one home: 0 good, 1 not good, None where it was not tried."""
    try:
        sources = home.sources()
        stamp = cache_dir() / "fresh" / f"{home.name}-{_key(home, sources)}.good"
    except (UsageError, LabError) as error:
        if required:
            raise
        say(f"fresh: {home.name}: NOT RUN: {error}")
        return None
    if if_changed and stamp.exists():
        say(f"fresh: {home.name}: nothing has changed since the good run of {stamp.read_text().strip()}")
        return None
    with _folder(home, sources) as folder:
        try:
            with step(f"fresh: {home.name}: a minimal root"):
                _work("make", folder, home.suites[0], seconds=BASE_SECONDS)
            for user in users:
                with step(f"fresh: {home.name}: set-up, doctor and smoke as {_AS[user]}"):
                    _work("try", folder, user, seconds=TRY_SECONDS)
        except LabError as error:
            say(f"fresh: {home.name}: FAILED: {error}\n{error.evidence}")
            return 1
    if set(users) == set(USERS):
        stamp.write_text(time.strftime("%Y-%m-%d %H:%M\n"))
    return 0


_AS = {"user": "an ordinary user with sudo", "root": "root"}


def _key(home: Home, sources: str) -> str:
    """Change with every input of the set-up, the list of the release's packages among them."""
    inputs = {name: file_digest(PROJECT / name) for name in INPUTS}
    return key_of(inputs | {"sources": sources, "packages": _package_list(home)})


def _package_list(home: Home) -> str:
    """The digest of the release's signed index. Security updates come daily, and do not count."""
    if home.mirror:
        return ""
    suite = aptfetch.Suite(home.suites[0], "main")
    aptfetch.packages(suite)
    return " ".join(file_digest(path) for path in sorted(suite.folder.glob("state/lists/*Release")))


def _unable() -> str:
    """Why no root can be made here; "" where one can."""
    if not (PROJECT / ".git").exists():
        return f"{PROJECT} is no git clone"
    if shutil.which("mmdebstrap") is None:
        return "mmdebstrap is not installed; 'make setup' installs what is needed"
    if os.getuid() == 0:
        return _says(_namespaces())
    if shutil.which("newuidmap") is None:
        return "neither root, nor newuidmap for a user namespace: sudo apt-get install uidmap"
    return _says(_namespaces())


def _says(prefix: Sequence[str]) -> str:
    done = subprocess.run([*prefix, "true"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode == 0:
        return ""
    return f"this machine allows no namespaces: {command.last_line(done.stderr)}"


def _namespaces() -> list[str]:
    """What makes a worker root over mounts and processes of its own, which all end with this process."""
    user = [] if os.getuid() == 0 else ["--user", "--map-auto", "--map-root-user"]
    return [*command.DIE_WITH_US, "unshare", *user, "--mount", "--pid", "--fork", "--kill-child"]


@contextmanager
def _folder(home: Home, sources: str) -> Iterator[Path]:
    """A folder for one home, gone at the end; what runs that were killed have left goes now."""
    parent = cache_dir() / "fresh"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("*.root"):
        with suppress(Timeout), FileLock(f"{left}.lock").acquire(blocking=False):
            _remove(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{home.name}-", suffix=".root", dir=parent))
    with FileLock(f"{folder}.lock"):
        try:
            _fill(folder, sources)
            yield folder
        finally:
            _remove(folder)


def _remove(folder: Path) -> None:
    subprocess.run([*_namespaces(), WORKER, "remove", folder], stdin=subprocess.DEVNULL, check=False)
    Path(f"{folder}.lock").unlink(missing_ok=True)


def _fill(folder: Path, sources: str) -> None:
    """Put in what the root is told of this machine: the project as it stands, and the way to the archives."""
    folder.chmod(0o755)  # the ordinary user passes through it
    clone = folder / "clone"
    command.run(["git", "clone", "--quiet", "--no-hardlinks", str(PROJECT), str(clone)], seconds=120)
    listed = command.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=PROJECT)
    for name in filter(None, listed.split("\0")):
        (clone / name).unlink(missing_ok=True)
        if (PROJECT / name).exists():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, clone / name)
    (folder / "sources.list").write_text(sources)
    dump = command.run(["apt-config", "dump"]).splitlines()
    (folder / "way-out.conf").write_text("".join(f"{line}\n" for line in dump if line.startswith(APT_WAY_OUT)))
    (folder / "way-out.sh").write_text(_way_out(os.environ, folder))


def _way_out(environment: Mapping[str, str], folder: Path) -> str:
    """The lines of a shell's profile that tell how archives are reached; certificates are copied into `folder`."""
    given = {name: environment[name] for name in WAY_OUT if environment.get(name)}
    bundle = next((environment[name] for name in CERTIFICATES if environment.get(name)), "")
    if bundle:
        shutil.copy(bundle, folder / "certificates")
        given["PIP_CERT"] = CERTIFICATES_INSIDE
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in given.items())


def _work(task: str, folder: Path, word: str, seconds: float) -> None:
    """Run one task of the worker; LabError names the step of it that failed, and has the end of its output."""
    log = folder.with_name(f"{folder.name.rpartition('-')[0]}-{word}.log")
    with log.open("wb") as file:
        process = subprocess.Popen(
            [*_namespaces(), WORKER, task, folder, word], stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            process.kill()
            process.wait()
    if code == 0:
        return
    lines = log.read_text(errors="replace").splitlines()
    begun = [line.removeprefix("== ") for line in lines if line.startswith("== ")]
    what = f"did not end within {seconds:.0f} s" if code is None else f"failed with exit code {code}"
    raise LabError(f"{begun[-1] if begun else task} {what}; all it said is in {log}", "\n".join(lines[-15:]))
