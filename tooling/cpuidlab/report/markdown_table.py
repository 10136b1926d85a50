"""Write a table in Markdown, and text that Markdown shows as it is."""

from collections.abc import Sequence


def as_table(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as a table; the first row is its head, and each cell is Markdown already."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join(lines)


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line, also inside a table."""
    for sign in "\\`*_|<>[]":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
