"""`cpuidlab shell` on a host without a VM; as a program: `python fakeshell.py HOME OPTION...`."""

import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from cpuidlab.commands import cli, shell
from fakehost import FakeHost


class ShellRig:
    """A rig whose host and guest are folders of this machine; `asked` is what it was opened with."""

    def __init__(self, home: Path) -> None:
        for name in ("host", "guest"):
            (home / name).mkdir(exist_ok=True)
        self.host, self.guest = FakeHost(home / "host"), FakeHost(home / "guest")
        keys = SimpleNamespace(folder=home, pinned="AAAAC3Nza")
        self.setup = SimpleNamespace(name="7.3-npt", keys=keys, patience=1.0)
        self.machine = SimpleNamespace(connect=lambda _: forwarded())
        self.asked: list[Any] = []
        self.open = False

    def watch(self) -> None:
        """The machine is well."""

    def __enter__(self) -> "ShellRig":
        self.open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.open = False


@contextmanager
def forwarded() -> Any:
    yield SimpleNamespace(getpeername=lambda: ("127.0.0.1", 41234))


def stand_in(rig: ShellRig, patch: Callable[[Any, str, Any], None]) -> None:
    """Let `cpuidlab shell` open `rig` whatever host it is asked for."""

    def restore(_: Any, stage: str, __: Any) -> ShellRig:
        rig.asked.append(stage)
        return rig

    patch(shell, "setup", lambda *_: rig.setup)
    patch(shell, "restorable", lambda _, stage, __: stage)
    patch(shell, "NestedRig", SimpleNamespace(restore=restore))


if __name__ == "__main__":
    stand_in(ShellRig(Path(sys.argv[1])), setattr)
    sys.exit(cli.main(["shell", *sys.argv[2:]]))
