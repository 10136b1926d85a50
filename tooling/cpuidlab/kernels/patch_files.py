"""Read what the patches of a file, a mailbox or a folder change in KVM, in the order in which they are applied."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cpuidlab.base.errors import UsageError
from cpuidlab.kernels import diff, mail
from cpuidlab.kernels.mail import Mail


@dataclass(frozen=True)
class Diff:
    """What one mail or file changes in KVM: `text` is what is applied, `name` tells people where it comes from.

    `left_out` are the files of the patch that cannot change KVM's modules.
    """

    name: str
    text: str
    left_out: tuple[str, ...]


def read(path: Path) -> tuple[Diff, ...]:
    """The diffs of all patches at `path`; covers and answers to patches are passed over.

    Raises UsageError where there is nothing that changes KVM.
    """
    diffs = [_diff(each) for each in _in_order(mail.read(path)) if not each.is_reply]
    left_out = [name for each in diffs for name in each.left_out]
    found = tuple(each for each in diffs if each.text)
    if not found and left_out:
        raise UsageError(f"patch {path} changes nothing of KVM's modules: only {', '.join(left_out)}")
    if not found:
        raise UsageError(f"patch {path} is empty: it changes no file")
    return tuple(each for each in diffs if each.text or each.left_out)


def _in_order(mails: Sequence[Mail]) -> Sequence[Mail]:
    """The mails of a series by their numbers, as a mailbox has them in the order of arrival; others as they are."""
    numbers = [each.number for each in mails if not each.is_reply]
    if None in numbers or len(set(numbers)) < len(numbers):
        return mails
    return sorted(mails, key=lambda each: each.number or 0)


def _diff(each: Mail) -> Diff:
    files = diff.files_of(each.text)
    text = "".join(file.text for file in files if file.built)
    name = f"{each.file} ({each.subject})" if each.subject else str(each.file)
    return Diff(name, text, tuple(file.path for file in files if not file.built))
