"""What a test changes on a real machine: put back at the end, whatever happens, with the proof."""

from dataclasses import dataclass

from cpuidlab.base.deadline import Deadline
from cpuidlab.base.errors import LabError
from cpuidlab.rig.reach import Reach
from cpuidlab.rig.supervisor import Supervisor


@dataclass(frozen=True)
class Setting:
    """One setting of a machine and its `old` value.

    `look` is a shell command that prints the value now, `put_back` the one that makes it the old one, `told` the
    sentence of the results that is true once it is the old one.
    """

    name: str
    old: str
    look: str
    put_back: str
    told: str


class Settings:
    """The settings that one test has changed on one machine."""

    def __init__(self, reach: Reach, supervisor: Supervisor) -> None:
        """`supervisor` is the one that puts them back."""
        self._reach = reach
        self._supervisor = supervisor
        self._changed: dict[str, Setting] = {}

    def knows(self, name: str) -> bool:
        """Tell whether a setting will be put back already."""
        return name in self._changed

    def will_change(self, setting: Setting, deadline: Deadline) -> None:
        """Have a setting put back at the end: to be called before it is changed. The last changed comes first."""
        self._changed[setting.name] = setting
        undo = "".join(f"{one.put_back}\n" for one in reversed(self._changed.values()))
        self._supervisor.put("undo", undo.encode(), deadline)

    def proofs(self, deadline: Deadline) -> tuple[str, ...]:
        """Say of each setting, after the supervisor's end, that it is back.

        Raises LabError, with the command that mends it, where a setting is not.
        """
        for setting in self._changed.values():
            now = self._reach.run(setting.look, deadline, check=False).strip()
            if now != setting.old:
                was, now = _differing(setting.old, now)
                raise LabError(
                    f"{self._reach.name}: {setting.name} was {was} and is {now} now; put it back: {setting.put_back}"
                )
        return tuple(setting.told for setting in self._changed.values())


def _differing(old: str, new: str) -> tuple[str, str]:
    """Return the lines of each value that the other has not."""
    before, after = old.splitlines(), new.splitlines()
    ours = [" ".join(line for line in one if line not in other) for one, other in ((before, after), (after, before))]
    return ours[0] or "nothing", ours[1] or "nothing"
