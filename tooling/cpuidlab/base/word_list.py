"""Read the lists in guests/: one word a line, with comments."""

from pathlib import Path


def read_list(file: Path) -> list[str]:
    """Return the lines of a list that are neither empty nor comments, without the blanks around them."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]
