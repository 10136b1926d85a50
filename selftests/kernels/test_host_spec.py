"""Host specs: each form, what is none, and the forms that an error message offers."""

import contextlib

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.kernels import host_spec
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "kind", "label"),
    [
        ("5.10", "debian", "5.10"),
        ("6.18.5", "debian", "6.18.5"),
        ("newest", "debian", "newest"),
        ("5.10+warning", "debian", "5.10+warning"),
        ("5.10+/some/where/fix.patch", "debian", "5.10+fix"),
        ("tree:/usr/src/linux-6.1", "tree", "tree:linux-6.1"),
        ("tree:/odd name;", "tree", "tree:odd_name_"),
        ("image:bzImage,lib/modules/x", "image", "image:bzImage,lib/modules/x"),
        ("local", "local", "local"),
        ("ssh://root@lab1:2222", "ssh", "ssh:lab1_2222"),
        ("ssh://lab1", "ssh", "ssh:lab1"),
    ],
)
def test_spec_forms(text: str, kind: str, label: str) -> None:
    spec = host_spec.parse(text)
    assert (spec.kind, spec.label) == (kind, label)


WRONG = ["", "5", "5.10+", "v5.10", "tree:", "image:a", "image:a,", "ssh://", "ssh://-oProxyCommand=x", "5.10.1.2"]


@pytest.mark.parametrize("text", WRONG)
def test_spec_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="known forms"):
        host_spec.parse(text)


@given(st.text(alphabet="0159.+:/,@ sshtreimagelocalnw\n"))
def test_spec_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert host_spec.parse(text).text == text


def test_only_hosts_that_can_be_tested_are_offered() -> None:
    for form in host_spec.FORMS.split(", "):
        kind, _, _ = form.partition(":")
        example = form.replace("[user@]host[:port]", "user@host:22")
        assert host_spec.parse(example).kind == (kind if kind in ("tree", "image", "local", "ssh") else "debian")
