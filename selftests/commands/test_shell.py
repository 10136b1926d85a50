"""`cpuidlab shell` on a host that is a folder of this machine: words, exit codes, copies, `--keep`."""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fakeshell
import pytest
from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.commands import cli, shell, ssh_access
from fakeshell import ShellRig

SECONDS = 15


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ShellRig]:
    rig = ShellRig(tmp_path)
    fakeshell.stand_in(rig, monkeypatch.setattr)
    monkeypatch.setattr(shell, "die_with", lambda _: None)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        yield rig


def run(home: Path, *options: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    words = [sys.executable, fakeshell.__file__, str(home), *options]
    return subprocess.run(words, input=stdin, capture_output=True, timeout=SECONDS, check=False)


@pytest.mark.parametrize("where", ["host", "guest"])
def test_a_command(where: str, tmp_path: Path) -> None:
    options = ["--guest"] if where == "guest" else []
    script = 'read a; echo "$a $1 $(basename $PWD)"; echo err >&2; exit 3'
    done = run(tmp_path, *options, "--", "sh", "-c", script, "sh", "$HOME a  b", stdin=b"in\n")
    assert (done.returncode, done.stdout, done.stderr) == (3, f"in $HOME a  b {where}\n".encode(), b"err\n")


def test_a_shell_that_reads_a_script(tmp_path: Path) -> None:
    done = run(tmp_path, stdin=b"echo hi\nexit 4\n")
    assert (done.returncode, done.stdout) == (4, b"hi\n")


@pytest.mark.parametrize(
    ("words", "stage"),
    [
        ([], "host_ready"),
        (["--guest"], "guest_ready"),
        (["--stage", "guest_held"], "guest_held"),
        (["--stage", "guest_ready", "--guest"], "guest_ready"),
    ],
)
def test_the_stage(words: list[str], stage: str, tmp_path: Path, rig: ShellRig, capfd: Any) -> None:
    assert cli.main(["shell", *words, "--", "true"]) == 0
    assert (rig.asked, rig.open) == ([stage], False)


@pytest.mark.parametrize(
    "words",
    [
        ["uname"],
        ["--keep", "--", "true"],
        ["--keep", "--accel", "bochs"],
        ["--guest", "--stage", "host_ready"],
        ["--put", "/no/such/file"],
        ["--get", "/etc/passwd:/dev/null", "--", "true"],
        ["--", "x" * 9999],
        ["--host", "ssh://root@lab", "--", "true"],
        ["--host", "local", "--", "true"],
    ],
)
def test_a_usage_error_is_one_line_and_nothing_is_started(words: list[str], rig: ShellRig, capfd: Any) -> None:
    assert cli.main(["shell", *words]) == 2
    said = capfd.readouterr()
    assert (said.out, said.err.count("\n"), rig.asked) == ("", 1, [])


@pytest.mark.parametrize("stage", ["--stage=nonsense", "--nonsense"])
def test_options_that_are_none(stage: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["shell", stage])
    assert stopped.value.code == 2


def test_a_failure_of_the_lab_is_125(rig: ShellRig, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    def lose(*_: Any) -> None:
        raise LabError("QEMU ended")

    monkeypatch.setattr(rig, "watch", lose)
    assert cli.main(["shell", "--", "sleep", "60"]) == 125
    assert capfd.readouterr().err == "cpuidlab: QEMU ended\n"
    rig.host.channels[0].process.kill()
    assert not rig.open


def test_dashes_behind_the_first_belong_to_the_command(tmp_path: Path) -> None:
    assert run(tmp_path, "--", "echo", "--", "--keep", "-h").stdout == b"-- --keep -h\n"


def test_files_go_before_the_command_and_come_after_it(tmp_path: Path, rig: ShellRig, capfd: Any) -> None:
    (tmp_path / "a").write_text("1")
    words = ["--put", f"{tmp_path}/a", "--put", f"{tmp_path}/a:b", "--get", f"c:{tmp_path}/", "--get", f"d:{tmp_path}/"]
    assert cli.main(["shell", *words, "--", "sh", "-c", "cat a b >c; cp c d; exit 5"]) == 5
    assert [(tmp_path / name).read_text() for name in "cd"] == ["11", "11"]


@pytest.mark.parametrize(("command", "code"), [("true", 2), ("false", 1)])
def test_a_file_that_is_not_there_is_one_line(
    command: str, code: int, tmp_path: Path, rig: ShellRig, capfd: Any
) -> None:
    (tmp_path / "host" / "there").write_text("x")
    words = ["--get", f"none:{tmp_path}/", "--get", f"there:{tmp_path}/"]
    assert cli.main(["shell", *words, "--", command]) == code
    assert capfd.readouterr().err == "cpuidlab: --get: none in the VM is not there\n"
    assert (tmp_path / "there").read_text() == "x"


def default_ctrl_c() -> None:
    """What a shell has started in its background ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -15), (signal.SIGKILL, -9)])
def test_a_kept_machine_is_open_until_ctrl_c_and_leaves_nothing(how: signal.Signals, code: int, tmp_path: Path) -> None:
    (tmp_path / "client_key").write_text("PRIVATE")
    words = [sys.executable, fakeshell.__file__, str(tmp_path), "--keep"]
    with tempfile.TemporaryDirectory(dir="/tmp") as temp:
        env = os.environ | {"TMPDIR": temp}
        kept = subprocess.Popen(words, stdout=subprocess.PIPE, env=env, preexec_fn=default_ctrl_c)  # noqa: PLW1509
        try:
            assert kept.stdout is not None
            line = shlex.split(kept.stdout.readline().decode())
            key = Path(line[line.index("-i") + 1])
            assert key.is_relative_to(temp)
            assert key.read_text() == "PRIVATE"
            for path, mode in ((key, 0o600), (key.parent, 0o700), (key.parent.parent, 0o700)):
                assert path.stat().st_mode & 0o777 == mode
            kept.send_signal(how)
            assert kept.stdout.read() == b""  # one line alone, for a script
            assert kept.wait(SECONDS) == code
        finally:
            kept.kill()
            kept.communicate()
        end = time.monotonic() + SECONDS
        while any(Path(temp).iterdir()):
            assert time.monotonic() < end
            time.sleep(0.02)


def test_the_line_for_ssh(tmp_path: Path) -> None:
    keys: Any = ShellRig(tmp_path).setup.keys
    (tmp_path / "client_key").write_text("PRIVATE")
    folder = tmp_path / "ssh"
    folder.mkdir()
    host = shlex.split(ssh_access.command_line(folder, keys, 41234, guest=False))
    assert host[-3:] == ["-p", "41234", "root@127.0.0.1"]
    assert "StrictHostKeyChecking=yes" in host
    assert f"UserKnownHostsFile={folder}/known_hosts" in host
    assert (folder / "known_hosts").read_text() == "[127.0.0.1]:41234,[127.0.0.1]:2222 ssh-ed25519 AAAAC3Nza\n"
    guest = shlex.split(ssh_access.command_line(folder, keys, 41234, guest=True))
    assert guest[-3:] == ["-p", "2222", "root@127.0.0.1"]
    [through] = [word.removeprefix("ProxyCommand=") for word in guest if word.startswith("ProxyCommand=")]
    assert shlex.split(through) == [*host[:-1], "-W", "%h:%p", host[-1]]


def test_a_folder_whose_name_ssh_would_take_apart(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    keys: Any = ShellRig(tmp_path).setup.keys
    with pytest.raises(UsageError, match="set TMPDIR"):
        ssh_access.command_line(folder, keys, 41234, guest=False)
