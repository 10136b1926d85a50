"""A small CPU model for the selftests, and a hypothesis strategy for any model."""

from cpuidlab.kvm.cpuid import SIGNIFICANT_INDEX, Entry, Model
from hypothesis import strategies as st

EPYC: Model = (
    Entry(0x40000001, 0, 0, 0x0100007B, 0, 0, 0),
    Entry(0x0, 0, 0, 0xD, 0x68747541, 0x444D4163, 0x69746E65),
    Entry(0x1, 0, 0, 0x60FB1, 0x01020800, 0xFEFA3203, 0x178BFBFF),
    Entry(0x7, 0, SIGNIFICANT_INDEX, 0, 0x00100080, 0x00010018, 0),
    Entry(0xB, 0, SIGNIFICANT_INDEX, 0, 1, 0x100, 1),
    Entry(0xD, 0, SIGNIFICANT_INDEX, 7, 0x240, 0x340, 0),
    Entry(0xD, 1, SIGNIFICANT_INDEX, 0xF, 0x340, 0, 0),
    Entry(0x80000000, 0, 0, 0x8000001F, 0x68747541, 0x444D4163, 0x69746E65),
    Entry(0x80000001, 0, 0, 0x60FB1, 0, 1, 0x2593FBFD),
    Entry(0x80000008, 0, 0, 0x3028, 0, 0, 0),
    Entry(0x8000001F, 0, 0, 0, 0x2F, 0, 0),
)

_words = st.integers(0, 0xFFFFFFFF)
entries = st.builds(
    Entry,
    st.sampled_from([0, 1, 7, 0xD, 0x80000008]) | _words,
    st.integers(0, 2) | _words,
    st.integers(0, 7),
    _words,
    _words,
    _words,
    _words,
    st.just((0, 0, 0)) | st.tuples(_words, _words, _words),
)
models = st.lists(entries, max_size=6).map(tuple)
