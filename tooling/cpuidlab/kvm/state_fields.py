"""How the words of a vCPU's state are named: the fields of each part, from tooling/vcpu-state.toml."""

import tomllib
from collections.abc import Iterator
from functools import cache
from typing import Any

from cpuidlab.base.paths import TOOLING

WORD_BYTES = 8  # of the words that the hook compares
_XSAVE_BYTES = {0: 2, 2: 2, 4: 1, 6: 2, 8: 8, 16: 8, 24: 4, 28: 4}  # the FXSAVE area, Intel SDM volume 1, 10.5.1
_XSAVE_NAMES = ("fcw", "fsw", "ftw", "fop", "fip", "fdp", "mxcsr", "mxcsr_mask")
_XMM_AT, _YMM_AT = 160, 576  # in the standard form of the XSAVE area, SDM volume 1, 13.4
Field = tuple[int, int, str]  # its offset and size in bytes, and its name


@cache
def table() -> dict[str, Any]:
    """Return what tooling/vcpu-state.toml holds."""
    return tomllib.loads((TOOLING / "vcpu-state.toml").read_text())


def fields_at(part: str, word: int) -> Iterator[Field]:
    """Yield the fields that lie in a word, with their offsets in it. `word` is its offset in the part.

    A field that is longer than a word is told once for each of its words. Bytes without a name are one field.
    """
    found = [field for field in _fields(part) if field[0] < word + WORD_BYTES and field[0] + field[1] > word]
    if not found:
        yield 0, WORD_BYTES, f"{part}+0x{word:x}"
    for at, size, name in found:
        low, high = max(at, word), min(at + size, word + WORD_BYTES)
        yield low - word, high - low, name if size <= WORD_BYTES else f"{name}[{8 * (high - at) - 1}:{8 * (low - at)}]"


def msr_name(index: str) -> str:
    """Return the name of an MSR, such as `MSR 0x174 IA32_SYSENTER_CS`; `index` is hexadecimal."""
    return f"MSR {index} {table()['msr'].get(index, '')}".strip()


@cache
def _fields(part: str) -> tuple[Field, ...]:
    if part == "lapic":
        return tuple(_lapic())
    return tuple(_xsave()) if part == "xsave" else tuple(_struct(part))


def _struct(part: str) -> Iterator[Field]:
    """Lay out a struct of linux/kvm.h, each field at a multiple of its size as C does."""
    names, at = table()["fields"], 0
    for field in names.get(part, "").split():
        name, size = field.split(":")
        inner = names.get(size)
        for one in [f"{name}.{word}" for word in inner.split()] if inner else [field]:
            name, size = one.split(":")
            yield at, int(size), name
            at += int(size)


def _lapic() -> Iterator[Field]:
    """A register is 4 bytes long, and the next is 16 bytes behind it."""
    names = {int(at, 16): name for at, name in table()["lapic"].items()}
    names |= {
        first + 16 * n: f"{name}{n}"
        for first, name in ((0x100, "ISR"), (0x180, "TMR"), (0x200, "IRR"))
        for n in range(8)
    }
    return ((at, 4, name) for at, name in sorted(names.items()))


def _xsave() -> Iterator[Field]:
    for (at, size), name in zip(_XSAVE_BYTES.items(), _XSAVE_NAMES, strict=True):
        yield at, size, name
    for number in range(8):
        yield 32 + 16 * number, 16, f"st{number}"
    for number in range(16):
        yield _XMM_AT + 16 * number, 16, f"xmm{number}"
    yield 512, 8, "xstate_bv"
    yield 520, 8, "xcomp_bv"
    for number in range(16):
        yield _YMM_AT + 16 * number, 16, f"ymm{number}.high"
