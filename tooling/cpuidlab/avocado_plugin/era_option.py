"""The words of --era: by which era the user wants each host to be judged."""

from collections.abc import Sequence

from cpuidlab.base.errors import UsageError
from cpuidlab.judge import eras


def chosen_eras(text: str, specs: Sequence[str]) -> dict[str, str]:
    """Return the era for each host, "" where `text` names none: `NAME` is for all hosts, `HOST=NAME` for one.

    Raises UsageError for an era that does not exist, and for a host that is not among `specs`.
    """
    chosen = dict.fromkeys(specs, "")
    for word in sorted(_words(text), key=lambda word: "=" in word):  # a host's own counts more than the one for all
        spec, _, name = word.rpartition("=")
        eras.era(name)
        if spec and spec not in chosen:
            raise UsageError(f"--era names the host '{spec}', which is not tested; hosts: {', '.join(specs)}")
        chosen.update(dict.fromkeys([spec] if spec else specs, name))
    return chosen


def _words(text: str) -> list[str]:
    """Part the text at each comma behind the name of an era: a host may have commas too, as `deb:A,B` has."""
    names = {era.name for era in eras.eras()}
    words, begun = list[str](), ""
    for part in filter(None, map(str.strip, text.split(","))):
        begun = f"{begun},{part}" if begun else part
        if begun.rpartition("=")[2] in names:
            words.append(begun)
            begun = ""
    return [*words, begun] if begun else words
