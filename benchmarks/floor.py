"""The floor under every restore: the same saved files, loaded by QEMU itself and logged in to by plain paramiko.

Nothing of the lab's own code is used here on purpose. The command line is the one that
cpuidlab.rig.qemu_command builds; the selftest compares the two.
"""

import json
import os
import re
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paramiko

GUEST_PORT = 2222
SECONDS = 30  # for one answer


@dataclass(frozen=True)
class Floor:
    """Seconds from before QEMU's start until the machine runs, and until the guest in it lets us in over SSH."""

    runs: float
    guest_ssh: float


def command(program: str, kernel: Path, memory: int, console: int, qmp: int) -> list[str]:
    """The command line for a restore by a QEMU, `program`; the numbers are descriptors that it inherits."""
    return (
        f"{program} -nodefaults -no-user-config -display none -no-reboot "
        f"-object memory-backend-file,id=ram,size=1024M,mem-path=/dev/fd/{memory},share=off "
        "-machine q35,accel=tcg,memory-backend=ram -m 1024 -cpu EPYC,svm=on,npt=on -smp 1 "
        "-netdev user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22 "
        "-device virtio-net-pci,netdev=net,romfile=,guest_announce=off -device virtio-rng-pci "
        f"-kernel {kernel} -incoming defer "
        f"-chardev file,id=console,path=/dev/fd/{console} -serial chardev:console "
        f"-chardev socket,id=qmp,fd={qmp} -mon chardev=qmp,mode=control"
    ).split()


def restore(program: str, saved: Path, kernel: Path, client_key: Path) -> Floor:
    """Restore the folder `saved` once. Raises OSError, SSHException or QmpError where that fails; ends its QEMU."""
    key = paramiko.RSAKey.from_private_key_file(str(client_key))
    started = time.perf_counter()
    memory, console = os.open(saved / "ram", os.O_RDONLY), os.memfd_create("console")
    ours, theirs = socket.socketpair()
    ours.settimeout(SECONDS)
    words = command(program, kernel, memory, console, theirs.fileno())
    with subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *words],
        pass_fds=(memory, console, theirs.fileno()), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as qemu:  # fmt: skip
        try:
            for descriptor in (memory, console, theirs.detach()):
                os.close(descriptor)
            table = _run(ours, saved)
            runs = time.perf_counter() - started
            _log_in(table, key)
            return Floor(runs, time.perf_counter() - started)
        finally:
            qemu.kill()
            ours.close()


class QmpError(Exception):
    """QEMU refused a command, or failed to load the saved machine."""


def _run(qmp: socket.socket, saved: Path) -> str:
    """Load the machine and let it run; return QEMU's table of network connections."""
    lines = qmp.makefile("rw")
    json.loads(lines.readline())  # the greeting

    def ask(execute: str, **arguments: Any) -> Any:
        lines.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
        lines.flush()
        while "event" in (answer := json.loads(lines.readline())):
            pass
        if "return" not in answer:
            raise QmpError(f"{execute}: {answer['error']['desc']}")
        return answer["return"]

    ask("qmp_capabilities")
    on = [{"capability": name, "state": True} for name in ("x-ignore-shared", "events")]
    ask("migrate-set-capabilities", capabilities=on)
    ask("migrate-incoming", uri=f"exec:cat '{saved}/state'")
    status = ""
    while status != "completed":
        event = json.loads(lines.readline())
        if event.get("event") == "MIGRATION":
            status = event["data"]["status"]
            if status == "failed":
                raise QmpError("the saved machine does not load")
    ask("cont")
    return str(ask("human-monitor-command", **{"command-line": "info usernet"}))


def _log_in(table: str, key: paramiko.PKey) -> None:
    found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)", table)
    if not found:
        raise QmpError("QEMU forwards no port")
    with socket.create_connection(("127.0.0.1", int(found[1])), SECONDS) as stream:
        host = _ssh(stream, key)
        guest = _ssh(host.open_channel("direct-tcpip", ("127.0.0.1", GUEST_PORT), ("127.0.0.1", 0), SECONDS), key)
        guest.close()
        host.close()


def _ssh(stream: socket.socket | paramiko.Channel, key: paramiko.PKey) -> paramiko.Transport:
    transport = paramiko.Transport(stream)
    transport.start_client(timeout=SECONDS)
    transport.auth_publickey("root", key)
    return transport
