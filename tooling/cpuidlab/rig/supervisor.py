"""A private folder on a machine that is not the lab's own: of a job, with what all its tests need, or of one test.

The program tooling/supervisor/supervisor.c keeps it: it ends what a test has started there and removes the folder when
the lab is done, and when the lab is gone.
"""

import shlex
import threading
from pathlib import Path

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import ClosedError, LabError
from cpuidlab.base.progress import say
from cpuidlab.rig.reach import FarProgram, Reach
from cpuidlab.rig.streams import ChannelLines

LOCK = "kvm-cpuid-lab"  # one test at a time on a machine
PROGRAM = "supervisor"
ALIVE_SECONDS = 5.0  # the supervisor waits for 30
_FOLDER = """boot=$(cut -c1-8 /proc/sys/kernel/random/boot_id)
d=$(mktemp -d "${{TMPDIR:-/tmp}}/kvm-cpuid-lab.$boot.XXXXXX") || exit 1
trap 'rm -rf "$d"' EXIT HUP INT PIPE TERM"""
# A machine whose kernel has panicked may have kept a folder. The name tells the boot, so nothing in it runs any more.
_REMOVE_OLD = """for old in "${{TMPDIR:-/tmp}}"/kvm-cpuid-lab.*.*; do
  case $old in *".$boot."*) ;; *) [ -O "$old" ] && rm -rf "$old" ;; esac
done"""
# The folder is made by the shell, which also takes the program in: nothing is there before it can be removed again.
_BRING = f"""
umask 077
{_FOLDER}
{_REMOVE_OLD}
echo "folder $d"
head -c {{size}} >{{program}} && [ "$(wc -c <{{program}})" = {{size}} ] || exit 1
chmod 700 {{program}}
trap - EXIT HUP INT PIPE TERM
exec {{program}} {{order}}
"""
_FIND = f"""
umask 077
[ -x {{program}} ] || {{{{ echo "the job's folder is gone" >&2; exit 1; }}}}
{_FOLDER}
echo "folder $d"
trap - EXIT HUP INT PIPE TERM
exec {{program}} {{order}}
"""


class Supervisor:
    """The keeper of one private folder. Usable from the moment it is made until `close`."""

    def __init__(self, reach: Reach, program: Path | str, deadline: Deadline, lock: str = "") -> None:
        """Make the folder; with `lock`, the name that only one supervisor on the machine holds, wait for the turn.

        `program` is the compiled supervisor, a file of ours or the path of the one that a job has brought there.
        Without `lock` nothing can be started. Raises LabError where the machine lacks what is needed, LostVMError where
        the connection fails.
        """
        self._reach = reach
        self._stopped = threading.Event()
        data = program.read_bytes() if isinstance(program, Path) else b""
        order = f'keep "$d" {shlex.quote(lock)}' if lock else 'hold "$d"'
        there = f'"$d/{PROGRAM}"' if data else shlex.quote(str(program))
        begin = (_BRING if data else _FIND).format(size=len(data), program=there, order=order)
        self._far = reach.open(begin)
        self._lines = ChannelLines(self._far.socket, self._far.watch)
        try:
            self.folder = self._expect("folder ", deadline)
            self._program = self.path(PROGRAM) if data else str(program)
            self._far.send(data, deadline)
            self._await_turn(deadline)
        except LabError:
            self.close()
            raise

    def _await_turn(self, deadline: Deadline) -> None:
        answer = self._expect("", deadline)
        # Nothing is sent before the first answer: a `head` may read more than it was told to, and lose what it read.
        threading.Thread(target=self._tell_alive, daemon=True).start()
        if answer == "waiting":
            say(f"  .. {self._reach.name} is busy with another test; this one waits for its turn")
            answer = self._expect("", deadline)
        if answer != "ready":
            raise LabError(f"{self._reach.name}: the supervisor said {answer!r} instead of 'ready'", self._far.stderr())

    def _expect(self, prefix: str, deadline: Deadline) -> str:
        """Return the rest of the next line; it must begin with `prefix`."""
        try:
            line = self._lines.recv_line(deadline.at)
        except ClosedError as error:
            raise self._far.lost() from error
        if not line.startswith(prefix):
            raise LabError(f"{self._reach.name}: instead of '{prefix.strip()}' the machine said {line!r}")
        return line.removeprefix(prefix)

    def put(self, name: str, data: bytes, deadline: Deadline, mode: int = 0o600, unpack: str = "cat") -> str:
        """Write a file into the folder, what `unpack` makes of `data` there; return the file's path."""
        path = self.path(name)
        quoted = shlex.quote(path)
        self._reach.run(f"umask 077; {unpack} >{quoted} && chmod {mode:o} {quoted}", deadline, given=data)
        return path

    def path(self, name: str) -> str:
        """Return the path of a file in the folder."""
        return f"{self.folder}/{name}"

    def start(self, script: str, deadline: Deadline) -> None:
        """Run a shell script in the test's own network; it ends with the folder."""
        self.put("start", script.encode(), deadline)
        self._far.socket.sendall(b"start\n")

    def connect(self, name: str) -> FarProgram:
        """Open a byte stream to a unix socket in the folder."""
        words = [self._program, "connect", self.path(name)]
        return self._reach.open(shlex.join(words))

    def watch(self) -> None:
        """Raise LostVMError where the supervisor or the connection to it is gone."""
        self._far.watch()

    def close(self) -> None:
        """End everything in the folder, and the folder."""
        self._stopped.set()
        self._far.close()

    def _tell_alive(self) -> None:
        while not self._stopped.wait(ALIVE_SECONDS):
            try:
                self._far.socket.sendall(b"alive\n")
            except OSError:
                return
