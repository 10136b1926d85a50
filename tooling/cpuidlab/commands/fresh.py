"""`cpuidlab fresh`: try set-up, doctor and smoke in clean roots, where nothing of the lab is installed yet.

A home is a distribution of tooling/homes.toml. It is made as a minimal root, and tried as root and as an ordinary user
with sudo. It is tried again where an input of its set-up has changed since the last good run.
"""

import time
from collections.abc import Sequence

from cpuidlab.base.artifacts import file_digest, key_of
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.exit_codes import BROKEN, OK, UNTESTED
from cpuidlab.base.paths import PROJECT, cache_dir
from cpuidlab.base.progress import say, step
from cpuidlab.commands import clean_root
from cpuidlab.commands.homes import Home, homes
from cpuidlab.kernels import aptfetch
from cpuidlab.kernels.suite import Suite

USERS = {"user": "an ordinary user with sudo", "root": "root"}
TRY_SECONDS = 600
BASE_SECONDS = 300
# What a set-up is made from, beside the archive's packages.
INPUTS = ("Makefile", "tooling/packages.txt", "tooling/setup.sh", "tooling/requirements.lock", "tooling/fresh-root",
          "tooling/homes.toml", "setup.cfg", "tooling/qemu/qemu-system-x86_64",
          "guests/common.list", "guests/host/files.list",
          "guests/guest/files.list")  # fmt: skip


def main(names: Sequence[str], users: Sequence[str], if_changed: bool) -> int:
    """Try the homes and print of each how it went. Return 0 all good, 1 one is not, 125 where nothing could be tried.

    With `if_changed` a home is left out where nothing has changed since its last good run. A home that cannot be tried
    here is then printed, and is no failure.
    """
    unable = clean_root.unable()
    if unable:
        say(f"fresh: NOT RUN: {unable}")
        return OK if if_changed else UNTESTED
    codes = [_try_home(home, users, if_changed, required=bool(names)) for home in homes(names)]
    tried = [code for code in codes if code is not None]
    return max(tried, default=OK if if_changed else UNTESTED)


def _try_home(home: Home, users: Sequence[str], if_changed: bool, required: bool) -> int | None:
    """Try one home; return 0 for good, 1 for not good, None where the home was not tried."""
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
    with clean_root.root_folder(home.name, sources) as folder:
        try:
            with step(f"fresh: {home.name}: a minimal root"):
                clean_root.work("make", folder, home.suites[0], seconds=BASE_SECONDS)
            for user in users:
                with step(f"fresh: {home.name}: set-up, doctor and smoke as {USERS[user]}"):
                    clean_root.work("try", folder, user, seconds=TRY_SECONDS)
        except LabError as error:
            say(f"fresh: {home.name}: FAILED: {error}\n{error.evidence}")
            return BROKEN
    if set(users) == set(USERS):
        stamp.write_text(time.strftime("%Y-%m-%d %H:%M\n"))
    return OK


def _key(home: Home, sources: str) -> str:
    """Return a key that changes with every input of the set-up, and with the list of the release's packages."""
    inputs = {name: file_digest(PROJECT / name) for name in INPUTS}
    return key_of(inputs | {"sources": sources, "packages": _package_list(home)})


def _package_list(home: Home) -> str:
    """Return the digest of the release's signed index. Security updates come daily, and do not count."""
    if home.mirror:
        return ""
    suite = Suite(home.suites[0], "main")
    aptfetch.packages(suite)
    return " ".join(file_digest(path) for path in sorted(suite.folder.glob("state/lists/*Release")))
