"""Make rigs while the tests of earlier hosts run: decide which rig may run now, and which tests may begin."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from cpuidlab.base.errors import LabError, UsageError
from cpuidlab.base.progress import say

Work = Callable[[], object]
ON_A_MACHINE = 2  # of a job's tests at a time on a real machine: one runs there, and the next one starts meanwhile


class Slots:
    """As many rigs as the machine can run, whether a test uses a rig or the rig is being made.

    One rig is always allowed to be made, in turn with the tests; more than one only while no test waits.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._free = number
        self._making = 0
        self._made_last = False
        self._tests_waiting = 0
        self._changed = threading.Condition()

    @contextmanager
    def making(self) -> Iterator[None]:
        """Wait for a slot to make a rig in, and keep the slot for as long as the context lasts."""
        with self._changed:
            self._changed.wait_for(self._may_make)
            self._free, self._making, self._made_last = self._free - 1, self._making + 1, True
        try:
            yield
        finally:
            with self._changed:
                self._free, self._making = self._free + 1, self._making - 1
                self._changed.notify_all()

    def _may_make(self) -> bool:
        return self._free > 0 and (not self._tests_waiting or (not self._making and not self._made_last))

    def a_test_waits(self, number: int) -> None:
        """Note that a test begins (1) or ceases (-1) to wait for a slot."""
        with self._changed:
            self._tests_waiting += number
            self._changed.notify_all()

    def take(self) -> bool:
        """Take a slot for a test; return False where none is free now."""
        with self._changed:
            if not self._free:
                return False
            self._free, self._made_last = self._free - 1, False
            return True

    def give_back(self) -> None:
        """Give the slot of a test back."""
        with self._changed:
            self._free += 1
            self._changed.notify_all()


class Ahead:
    """Makes the rigs of all places, in order. Where a place's rigs cannot be made, the other places go on.

    Places that share a machine share its slots. The threads are daemons: a job that ends does not wait for them, and a
    rig ends with its thread.
    """

    def __init__(self, works: Mapping[str, Sequence[Work]], slots: Mapping[str, Slots]) -> None:
        """`works` and `slots` are those of each place."""
        self._slots = slots
        self._places = frozenset(works)
        self._left = deque(works.items())
        self._done: dict[str, Exception | None] = {}
        self._changed = threading.Condition()
        self._tells = False

    def begin(self) -> None:
        """Start to work in the background."""
        number = sum(slots.number for slots in set(self._slots.values()))
        for _ in range(min(number, len(self._left))):
            threading.Thread(target=self._work, daemon=True, name="ahead").start()

    def slots_of(self, place: str) -> Slots | None:
        """Return the slots that the tests of that place need; None for a place of which nothing is known."""
        return self._slots.get(place)

    def is_ready(self, place: str) -> bool:
        """Tell whether no test of that place need wait: all is made, or cannot be made, or nothing was to be made."""
        return place in self._done or place not in self._places

    def trouble(self, place: str) -> Exception | None:
        """Return why nothing can be tested there; None where all is well."""
        return self._done.get(place)

    def wait(self, place: str) -> Exception | None:
        """Wait until that place is ready, and return why nothing can be tested there; None where all is well."""
        with self._changed:
            self._changed.wait_for(lambda: place in self._done)
        return self._done[place]

    def tell(self) -> None:
        """Print each trouble from now on, and those that there are already."""
        with self._changed:
            self._tells = True
            for place, trouble in self._done.items():
                _say(place, trouble)

    def _work(self) -> None:
        while True:
            try:
                place, works = self._left.popleft()
            except IndexError:
                return
            trouble = self._made(works, self._slots[place])
            with self._changed:
                self._done[place] = trouble
                if self._tells:
                    _say(place, trouble)
                self._changed.notify_all()

    @staticmethod
    def _made(works: Sequence[Work], slots: Slots) -> Exception | None:
        try:
            for work in works:
                with slots.making():
                    work()
        except (LabError, UsageError) as error:
            return error
        except OSError as error:
            return LabError(str(error))
        except Exception as error:  # whatever it is, tests wait for the place
            return LabError(f"{type(error).__name__}: {error}; this is a defect of the lab")
        return None


def _say(place: str, trouble: Exception | None) -> None:
    if trouble:
        say(f"  !! nothing can be tested on {place}: {trouble}")
