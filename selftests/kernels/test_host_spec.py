"""Host specs: each form, what is none, and the forms that an error message offers."""

import contextlib
from pathlib import Path

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
        ("deb:/a/linux-image-6.1_6.1.2-1_amd64.deb,/a/b.deb", "deb", "deb:b"),
        ("rpm:kernel core;.rpm", "rpm", "rpm:kernel_core_"),
        ("local", "local", "local"),
        ("ssh://root@lab1:2222", "ssh", "ssh:lab1_2222"),
        ("ssh://lab1", "ssh", "ssh:lab1"),
    ],
)
def test_spec_forms(text: str, kind: str, label: str) -> None:
    spec = host_spec.parse(text)
    assert (spec.kind, spec.label) == (kind, label)


WRONG = [
    "", "5", "5.10+", "v5.10", "tree:", "tree:a,b", "image:a", "image:a,", "ssh://", "ssh://-oProxyCommand=x",
    "5.10.1.2", "deb:", "deb:a.deb,", "rpm:,a.rpm", "deb", "dpkg:a.deb",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_spec_that_is_none(text: str) -> None:
    with pytest.raises(UsageError, match="known forms"):
        host_spec.parse(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("deb:a.rpm", "'a.rpm' does not end in .deb"),
        ("rpm:a.rpm,b", "'b' does not end in .rpm"),
        ("deb:~nobody-here/a.deb", "'~nobody-here/a.deb' is no path"),
        ("deb:a\0.deb", "is no path"),
    ],
)
def test_a_package_that_cannot_be_one(text: str, line: str) -> None:
    with pytest.raises(UsageError, match=line):
        host_spec.parse(text)


def test_packages_in_any_order_with_the_home_for_a_tilde_and_a_link_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x y.deb").symlink_to("blob")
    one = host_spec.parse("deb:~/a.deb, x y.deb,~/a.deb")
    assert one.paths == (Path("/home/me/a.deb"), tmp_path / "x y.deb")
    assert host_spec.parse("deb:x y.deb,~/a.deb").absolute == one.absolute
    assert host_spec.parse(one.absolute).paths == one.paths


def test_a_folder_with_a_comma_cannot_be_part_of_a_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a,b").mkdir()
    monkeypatch.chdir(tmp_path / "a,b")
    with pytest.raises(UsageError, match=r"a,b/k\.deb has a comma in it"):
        host_spec.parse("deb:k.deb")


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("5.10,image:/a/bz,/a/mod,6.1", ("5.10", "image:/a/bz,/a/mod", "6.1")),
        ("deb:/a.deb, b.deb,5.10", ("deb:/a.deb,b.deb", "5.10")),
        ("rpm:a.rpm,b.rpm,deb:c.deb,d.deb", ("rpm:a.rpm,b.rpm", "deb:c.deb,d.deb")),
        ("rpm:a.rpm,rpm:b.rpm", ("rpm:a.rpm", "rpm:b.rpm")),
        ("deb:a.deb,b.rpm", ("deb:a.deb", "b.rpm")),
        ("a.deb,5.10,5.10,", ("a.deb", "5.10")),
    ],
)
def test_the_commas_inside_a_host_do_not_separate_hosts(text: str, specs: tuple[str, ...]) -> None:
    assert host_spec.split_hosts(text) == specs


@given(st.text(alphabet="0159.+:/,@ sshtreimagelocalnwdbp\n"))
def test_spec_parses_or_is_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert host_spec.parse(text).text == text


def test_only_hosts_that_can_be_tested_are_offered() -> None:
    for form in host_spec.FORMS.split(", "):
        kind, _, _ = form.partition(":")
        example = form.replace("[user@]host[:port]", "user@host:22").replace("[", "").replace("...]", "")
        assert host_spec.parse(example).kind == (kind if kind in (*host_spec.OWN, "local", "ssh") else "debian")
