"""Let other tools in: an `ssh` command line for a running host or guest, with files that only this user reads."""

import re
import shlex
import tempfile
import time
from pathlib import Path

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import UsageError
from cpuidlab.base.progress import say
from cpuidlab.commands.conversation import LOOK_SECONDS
from cpuidlab.rig.guest_config import GUEST_SSH_PORT
from cpuidlab.rig.keys import Keys
from cpuidlab.rig.nested_rig import NestedRig

PORT_SECONDS = 30.0
ADDRESS = "127.0.0.1"
PLAIN = re.compile(r"[\w/.+-]+", re.ASCII)  # a path that ssh takes in any of its options as it is


def keep(rig: NestedRig, guest: bool) -> None:
    """Print the command line on standard output and wait for Ctrl-C. Raises LostVMError where the machine ends.

    The temporary folder must be one that goes with this process, also after kill -9: see own_temp_folder.
    """
    try:
        with rig.machine.connect(Deadline.after(PORT_SECONDS)) as connection:
            port: int = connection.getpeername()[1]
        with tempfile.TemporaryDirectory(prefix="ssh-") as folder:
            print(command_line(Path(folder), rig.setup.keys, port, guest), flush=True)
            say(f"  .. {rig.setup.name} is kept until Ctrl-C")
            while True:
                rig.watch()
                time.sleep(LOOK_SECONDS)
    except KeyboardInterrupt:
        return


def command_line(folder: Path, keys: Keys, port: int, guest: bool) -> str:
    """Write the files into the folder and return the line for a shell; further words of ssh may follow it.

    Raises UsageError where ssh cannot be told of the folder.
    """
    if not PLAIN.fullmatch(str(folder)):
        raise UsageError(f"ssh's options cannot carry the name of the folder {folder}; set TMPDIR to a plain one")
    key, known = folder / "key", folder / "known_hosts"
    key.touch(0o600)
    key.write_bytes((keys.folder / "client_key").read_bytes())
    known.write_text(f"[{ADDRESS}]:{port},[{ADDRESS}]:{GUEST_SSH_PORT} ssh-ed25519 {keys.pinned}\n")
    # not the user's own configuration: nothing in it is meant for this machine
    ssh = ["ssh", "-F", "/dev/null", "-i", str(key), "-o", f"UserKnownHostsFile={known}"]
    ssh += ["-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes"]
    login = f"root@{ADDRESS}"
    if not guest:
        return shlex.join([*ssh, "-p", str(port), login])
    through = shlex.join([*ssh, "-p", str(port), "-W", "%h:%p", login])
    return shlex.join([*ssh, "-o", f"ProxyCommand={through}", "-p", str(GUEST_SSH_PORT), login])
