"""Load in the guest: a program that verifies its own results, on every vCPU."""

from cpuidlab.experiment.guest import Guest
from cpuidlab.experiment.note import Note

_STRESS = "stress-ng --quiet --verify --cpu 1 --cpu-method int64 --vm 1 --vm-bytes 32M --timeout {}; echo exit $?"


class Load:
    """Load that lasts some seconds; its end is awaited where the guest is to outlive it."""

    def __init__(self, guest: Guest, seconds: int) -> None:
        """Let the guest run, under load."""
        guest.resume()
        self._guest = guest
        self._program = guest.start(_STRESS.format(seconds))

    def finish(self) -> None:
        """Wait for the end of the load, and note whether all its results were right."""
        output = self._guest.output_of(self._program)
        self._guest.write_down(f"the load said: {output}")
        verified = output is not None and output.strip() == "exit 0"
        self._guest.note(Note.LOAD_VERIFIED if verified else Note.LOAD_FAILED)
