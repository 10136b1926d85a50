"""Set-up's Python environment: which Python will do, why pip failed, and an environment that was left half made."""

import signal
import sys
from pathlib import Path

import pytest
from baremachine import PYTHON, Machine, fails_in_one_line


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_old_python_is_named(machine: Machine) -> None:
    old = f'exec {sys.executable} -c "import sys; sys.version_info = (3, 10, 12); $2"'
    machine.has("python3", f"[[ $1 != -V ]] || {{ echo Python 3.10.12; exit; }}\n{old}")
    assert "Python 3.11 or newer is needed, python3 is Python 3.10.12" in fails_in_one_line(machine.setup())


def test_a_python_without_venv(machine: Machine) -> None:
    machine.has("python3", "[[ $2 != *ensurepip* ]]")
    assert "has no venv module" in fails_in_one_line(machine.setup())


def test_a_pip_that_fails_is_one_line_and_the_next_good_run_works(machine: Machine) -> None:
    broken = PYTHON.replace('echo "Collecting thing==1"', '[[ -e mended ]] || { echo "ERROR: no network"; exit 1; }')
    machine.has("python3", broken)
    line = fails_in_one_line(machine.setup())
    assert "pip failed: ERROR: no network" in line
    (machine.project / "mended").touch()
    assert machine.setup().returncode == 0


NO_MATCH = "ERROR: No matching distribution found for thing==1"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (NO_MATCH, NO_MATCH),
        (
            "Could not fetch URL https://index/: There was a problem confirming the ssl certificate: HTTPSConnection"
            "Pool(host='index', port=443): Max retries exceeded with url: /thing/ (Caused by SSLError("
            "SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed"
            " certificate (_ssl.c:1002)')))"
            f" - skipping\n{NO_MATCH}",
            "SSLError: certificate verify failed: self-signed certificate (_ssl.c:1002)",
        ),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError('<pip.C at 0x7>:"
            " Failed to establish a new connection: [Errno -3] Temporary failure in name resolution')': /thing/\n"
            + NO_MATCH,
            "NewConnectionError: Temporary failure in name resolution",
        ),
        (
            "WARNING: Retrying (Retry(0)) after connection broken by 'ReadTimeoutError(\"timed out (15)\")': /t/\n"
            + NO_MATCH,
            'ReadTimeoutError: "timed out (15)',
        ),
        (
            "WARNING: Retrying (Retry(total=4)) after connection broken by 'ProtocolError('x')': /thing/\n"
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES",
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES",
        ),
    ],
)
def test_a_pip_that_fails_names_the_cause(machine: Machine, said: str, reason: str) -> None:
    (machine.project / "said").write_text(said)
    machine.has("python3", PYTHON.replace('echo "Collecting thing==1"', "cat said; exit 1"))
    line = fails_in_one_line(machine.setup())
    assert line.startswith(f"setup: pip failed: {reason}")
    assert line.endswith("all it said is in setup.log; mend that, then run 'make setup' again")


def test_an_environment_that_was_half_emptied_is_made_anew(machine: Machine) -> None:
    """Killed while the old one was removed, and then the old lock came back: its stamp must have gone first."""
    machine.setup()
    lock = machine.project / "tooling/requirements.lock"
    before = lock.read_text()
    lock.write_text("other==1\n")
    machine.has("python3", PYTHON.replace("mkdir -p .venv/bin; rm -f .venv/stamp*;", "kill -9 $PPID;"))
    assert machine.setup().returncode == -signal.SIGKILL
    lock.write_text(before)
    machine.has("python3", PYTHON)
    assert "ok Python packages" in machine.setup().stderr
