"""Read patches as they are mailed: encodings, line ends, an mbox or a folder with a series, its cover letter."""

import email
import re
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

from cpuidlab.base.errors import UsageError

# The line that begins a mail in an mbox; git format-patch writes it too (git's is_from_line in builtin/mailsplit.c).
_FROM_LINE = re.compile(rb"^From \S+ .*\d\d:\d\d(:\d\d)? .*\d{4}[ \t]*\r?\n", re.MULTILINE)
_NUMBER = re.compile(r"\[[^\]]*\b(\d+)/\d+[^\]]*\]")  # such as [PATCH v2 2/3]
# One of these makes the lines at the head of a file the header of a mail.
HEADERS = {"from", "to", "date", "subject", "message-id", "received", "return-path", "mime-version", "content-type"}
PATCH_SUFFIXES = (".patch", ".diff")


@dataclass(frozen=True)
class Mail:
    """The text of one mail, or of a file that is none; the text is decoded and has line ends of one byte.

    Bytes that are no UTF-8 stand in `text` as Python's surrogateescape has them. `subject` is "" for a plain file.
    """

    file: Path
    subject: str
    text: str

    @property
    def number(self) -> int | None:
        """The mail's number in a series, from its subject; None where there is none."""
        found = _NUMBER.search(self.subject)
        return int(found[1]) if found else None

    @property
    def is_reply(self) -> bool:
        """Whether the mail answers another one: a diff in such a mail is a remark, not a patch."""
        return self.subject.lower().startswith(("re:", "aw:"))


def read(path: Path) -> tuple[Mail, ...]:
    """The mails of a file, or of all files of a folder in the order of their names.

    Raises UsageError where a file cannot be read.
    """
    try:
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        else:
            files = [path]
        return tuple(mail for file in files for mail in _mails(file, file.read_bytes()))
    except OSError as error:
        raise UsageError(f"cannot read {error.filename}: {error.strerror}") from error


def is_mail(head: Message) -> bool:
    """Whether the lines at the head of a file are the header of a mail."""
    return bool(HEADERS & {name.lower() for name in head.keys()})  # noqa: SIM118  a Message is no dictionary


def _mails(file: Path, data: bytes) -> Iterator[Mail]:
    starts = [found.start() for found in _FROM_LINE.finditer(data)]
    if not starts or data[: starts[0]].strip():
        starts = [0]
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        part = _FROM_LINE.sub(b"", data[start:end], count=1) if _FROM_LINE.match(data, start) else data[start:end]
        yield _mail(file, part.lstrip())


def _mail(file: Path, data: bytes) -> Mail:
    message = email.message_from_bytes(data)
    if not is_mail(message):
        return Mail(file, "", _text(data))
    subject = " ".join(str(message.get("Subject", "")).split())
    return Mail(file, subject, "\n".join(_parts(message)))


def _parts(message: Message) -> Iterator[str]:
    """The parts of a mail that may hold a patch, decoded."""
    for part in message.walk():
        attached = str(part.get_filename() or "").endswith(PATCH_SUFFIXES)
        plain = part.get_content_maintype() == "text" and part.get_content_subtype() != "html"
        if part.is_multipart() or not (plain or attached):
            continue
        data = part.get_payload(decode=True)
        assert isinstance(data, bytes)  # noqa: S101  as it is for every part without parts
        yield _text(_in_utf8(data, part.get_content_charset()))


def _in_utf8(data: bytes, charset: str | None) -> bytes:
    """The bytes as UTF-8, as git am has them; unchanged where the charset is unknown or does not fit."""
    try:
        return data.decode(charset or "utf-8").encode()
    except (LookupError, UnicodeDecodeError):
        return data


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape").replace("\r\n", "\n")
