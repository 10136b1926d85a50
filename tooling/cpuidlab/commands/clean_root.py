"""Make a minimal root of a distribution in a folder, and try the set-up in it.

The worker, tooling/fresh-root, is root over mounts and processes of its own, which all end with this process.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cpuidlab.base import command
from cpuidlab.base.die_with_parent import DIE_WITH_US
from cpuidlab.base.errors import LabError
from cpuidlab.base.paths import PROJECT, TOOLING, cache_dir
from cpuidlab.kernels import mirrors

WORKER = TOOLING / "fresh-root"
# Of this machine's environment and apt configuration: how archives are reached, and nothing else.
WAY_OUT = ("http_proxy", "https_proxy", "no_proxy", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", *mirrors.VARIABLES.values())
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
CERTIFICATES_INSIDE = "/etc/ssl/certs/ca-certificates.crt"
APT_WAY_OUT = ("Acquire::http::", "Acquire::https::", "Acquire::Check-")


def unable() -> str:
    """Return why no root can be made here; "" where one can."""
    if not (PROJECT / ".git").exists():
        return f"{PROJECT} is no git clone"
    if shutil.which("mmdebstrap") is None:
        return "mmdebstrap is not installed; 'make setup' installs what is needed"
    if os.getuid() != 0 and shutil.which("newuidmap") is None:
        return "neither root, nor newuidmap for a user namespace: sudo apt-get install uidmap"
    done = subprocess.run(
        [*_namespaces(), "true"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    return f"this machine allows no namespaces: {command.last_line(done.stderr)}" if done.returncode else ""


@contextmanager
def root_folder(name: str, sources: str) -> Iterator[Path]:
    """Have a folder for the home of that name, gone at the end; `sources` are its apt sources, one line a suite.

    What killed runs have left goes now.
    """
    parent = cache_dir() / "fresh"
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.glob("*.root"):
        with suppress(Timeout), FileLock(f"{left}.lock").acquire(blocking=False):
            _remove(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", suffix=".root", dir=parent))
    with FileLock(f"{folder}.lock"):
        try:
            _fill(folder, sources)
            yield folder
        finally:
            _remove(folder)


def work(task: str, folder: Path, word: str, seconds: float) -> None:
    """Run one task of the worker; LabError names the step that failed, and its evidence is the end of the output."""
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
    raise LabError(f"{begun[-1] if begun else task} {what}; all it printed is in {log}", "\n".join(lines[-15:]))


def _namespaces() -> list[str]:
    """Return the words before a worker's command that make it root of namespaces which end with this process."""
    user = [] if os.getuid() == 0 else ["--user", "--map-auto", "--map-root-user"]
    return [*DIE_WITH_US, "unshare", *user, "--mount", "--pid", "--fork", "--kill-child"]


def _remove(folder: Path) -> None:
    subprocess.run([*_namespaces(), WORKER, "remove", folder], stdin=subprocess.DEVNULL, check=False)
    Path(f"{folder}.lock").unlink(missing_ok=True)


def _fill(folder: Path, sources: str) -> None:
    """Put in what the root gets from this machine: the project as it stands, and the way to the archives."""
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
    """Return lines of a shell's profile that tell how archives are reached; certificates are copied into `folder`."""
    given = {name: environment[name] for name in WAY_OUT if environment.get(name)}
    bundle = next((environment[name] for name in CERTIFICATES if environment.get(name)), "")
    if bundle:
        shutil.copy(bundle, folder / "certificates")
        given["PIP_CERT"] = CERTIFICATES_INSIDE
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in given.items())
