"""Write a file so that a reader finds the old text or the new one, never half of it."""

import os
from pathlib import Path


def write_atomically(file: Path, text: str) -> None:
    """Write the text aside, then put it in the file's place; nothing is left aside where that fails."""
    partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text)
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
