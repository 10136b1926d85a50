"""One change in the forms in which patches are mailed: what is applied is the same bytes, whatever the form."""

import base64
import quopri
from collections.abc import Callable
from pathlib import Path

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.kernels import kbuild, mail, patches

SOURCE = "".join(f"\tint line_{number} = 'ä';\n" for number in range(1, 31))
CPUID, MAIN = "arch/x86/kvm/cpuid.c", "virt/kvm/kvm_main.c"


def hunk(path: str, number: int, old: str, new: str) -> str:
    """A change of one line of SOURCE, with one line of context on each side."""
    before, after = f"\tint line_{number - 1} = 'ä';\n", f"\tint line_{number + 1} = 'ä';\n"
    return (
        f"diff --git a/{path} b/{path}\nindex 1234567..89abcde 100644\n--- a/{path}\n+++ b/{path}\n"
        f"@@ -{number - 1},3 +{number - 1},3 @@ struct kvm_vcpu *vcpu\n {before}-{old}+{new} {after}"
    )


def at(number: int, name: str = "line") -> str:
    return f"\tint {name}_{number} = 'ä';\n"


FIRST = hunk(CPUID, 5, at(5), at(5, "changed"))
SECOND = hunk(MAIN, 9, at(9), "\t/* From here on: 100% = 1 */\n")
THIRD = hunk(CPUID, 20, at(20), at(20, "other"))
CHANGE = FIRST + SECOND + THIRD
DOCS = (
    "diff --git a/Documentation/virt/kvm/api.rst b/Documentation/virt/kvm/api.rst\n"
    "--- a/Documentation/virt/kvm/api.rst\n+++ b/Documentation/virt/kvm/api.rst\n@@ -1,2 +1,2 @@\n-old\n+new\n text\n"
)
SELFTEST = (
    "diff --git a/tools/testing/selftests/kvm/x86/new.c b/tools/testing/selftests/kvm/x86/new.c\n"
    "new file mode 100644\nindex 0000000..1111111\n"
    "--- /dev/null\n+++ b/tools/testing/selftests/kvm/x86/new.c\n@@ -0,0 +1 @@\n+int main(void) { return 0; }\n"
)
FROM = "From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001\n"
SIGNATURE = "-- \n2.39.2\n\n"


def mailed(diff: str, subject: str = "[PATCH] KVM: x86: change it", encoding: str = "8bit", body: str = "") -> str:
    text = f"Why it is changed.\n--- is no header here\n\nSigned-off-by: Jörg <j@example.org>\n---\n x | 2 +-\n\n{diff}"
    return (
        "From: =?UTF-8?q?J=C3=B6rg?= <j@example.org>\nHost: lore.example.org\nDate: Tue, 30 Dec 2025 12:56:41 -0800\n"
        f"Subject: {subject}\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n"
        f"Content-Transfer-Encoding: {encoding}\n\n{body or text + SIGNATURE}"
    )


def format_patch() -> bytes:
    return (FROM + mailed(CHANGE)).encode()


def with_docs_and_selftests() -> bytes:
    return (FROM + mailed(DOCS + FIRST + SELFTEST + SECOND + THIRD)).encode()


def quoted_printable() -> bytes:
    body = quopri.encodestring(f"Why.\n---\n{CHANGE}{SIGNATURE}".encode()).decode()
    return mailed("", encoding="quoted-printable", body=body).encode()


def in_base64() -> bytes:
    body = base64.encodebytes(f"Why.\n---\n{CHANGE}{SIGNATURE}".encode()).decode()
    return mailed("", encoding="base64", body=body).encode()


def with_crlf() -> bytes:
    return format_patch().replace(b"\n", b"\r\n")


def attached() -> bytes:
    parts = "".join(
        f"--XX\nContent-Type: {kind}\nContent-Transfer-Encoding: base64\n{more}\n{base64.encodebytes(text).decode()}\n"
        for kind, more, text in (
            ("text/plain", "", b"see the attachment\n"),
            ("application/octet-stream", 'Content-Disposition: attachment; filename="my.patch"\n', CHANGE.encode()),
        )
    )
    return (
        "From: a@example.org\nSubject: [PATCH] it\nMIME-Version: 1.0\n"
        f'Content-Type: multipart/mixed; boundary="XX"\n\n{parts}--XX--\n'
    ).encode()


def in_latin_1() -> bytes:
    return mailed(CHANGE).replace("charset=UTF-8", "charset=iso-8859-1").encode("latin-1")


FORMS = [format_patch, with_docs_and_selftests, quoted_printable, in_base64, with_crlf, attached, in_latin_1]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for name in (CPUID, MAIN):
        (tmp_path / "source" / name).parent.mkdir(parents=True)
        (tmp_path / "source" / name).write_text(SOURCE)
    return tmp_path / "source"


def applied(patch: patches.Patch, source: Path) -> dict[str, bytes]:
    for diff in patch.diffs:
        kbuild.apply(diff, source)
    return {name: (source / name).read_bytes() for name in (CPUID, MAIN)}


AFTER = {
    CPUID: SOURCE.replace(at(5), at(5, "changed")).replace(at(20), at(20, "other")).encode(),
    MAIN: SOURCE.replace(at(9), "\t/* From here on: 100% = 1 */\n").encode(),
}


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_each_form_is_the_same_change(form: Callable[[], bytes], tmp_path: Path, source: Path) -> None:
    (tmp_path / "plain.patch").write_text(CHANGE)
    (tmp_path / "form.eml").write_bytes(form())
    plain, patch = (patches.find(str(tmp_path / name)) for name in ("plain.patch", "form.eml"))
    assert [diff.text for diff in patch.diffs] == [CHANGE]
    assert patch.digest == plain.digest
    assert (patch.series, patch.on) == ((), None)  # the mail's header Host is none of ours
    assert applied(patch, source) == AFTER


def cover() -> str:
    return FROM + mailed("", "[PATCH v2 0/3] KVM: x86: a series")


def series() -> list[str]:
    rows = ((1, FIRST), (2, SECOND), (3, THIRD))
    return [FROM + mailed(diff, f"[PATCH v2 {number}/3] KVM: part {number}") for number, diff in rows]


def test_a_series_in_one_mailbox(tmp_path: Path, source: Path) -> None:
    reply = FROM + mailed("> " + "> ".join(FIRST.splitlines(True)) + DOCS, "Re: [PATCH v2 1/3] KVM: part 1")
    first, second, third = series()
    for number, mails in enumerate(([cover(), first, second, third], [third, reply, first, cover(), second])):
        box = tmp_path / f"{number}.mbox"
        box.write_text("\n".join(mails))
        patch = patches.find(str(box))
        assert [diff.text for diff in patch.diffs] == [FIRST, SECOND, THIRD]
        assert patch.diffs[1].name == f"{box} ([PATCH v2 2/3] KVM: part 2)"
    assert applied(patch, source) == AFTER


def test_a_folder_of_patches_is_applied_in_the_order_of_names(tmp_path: Path, source: Path) -> None:
    folder = tmp_path / "v2"
    folder.mkdir()
    for number, text in enumerate([cover(), *series()]):
        (folder / f"{number:04}-part.patch").write_text(text)
    patch = patches.find(str(folder))
    assert (patch.name, [diff.text for diff in patch.diffs]) == ("v2", [FIRST, SECOND, THIRD])
    assert applied(patch, source) == AFTER


def test_the_order_of_files_counts_where_subjects_have_no_numbers(tmp_path: Path) -> None:
    for name, diff in (("b.patch", FIRST), ("a.diff", SECOND)):
        (tmp_path / name).write_text(diff)
    assert [diff.text for diff in patches.find(str(tmp_path)).diffs] == [SECOND, FIRST]


def test_what_is_not_built_is_left_out_and_named(tmp_path: Path) -> None:
    arm = FIRST.replace(CPUID, "arch/arm64/kvm/arm.c")
    (tmp_path / "my.patch").write_text(DOCS + FIRST + SELFTEST + arm)
    patch = patches.find(str(tmp_path / "my.patch"))
    assert patch.left_out == (
        "Documentation/virt/kvm/api.rst",
        "tools/testing/selftests/kvm/x86/new.c",
        "arch/arm64/kvm/arm.c",
    )
    (tmp_path / "my.patch").write_text(DOCS + SELFTEST)
    with pytest.raises(UsageError, match=r"changes nothing of KVM's modules: only Documentation/virt/kvm/api\.rst, t"):
        _ = patches.find(str(tmp_path / "my.patch")).diffs


def test_what_could_change_the_kernel_is_not_left_out(tmp_path: Path, source: Path) -> None:
    (tmp_path / "my.patch").write_text(FIRST + FIRST.replace(CPUID, "mm/slab.c"))
    with pytest.raises(UsageError, match=r"mm/slab\.c is not part of KVM's source"):
        applied(patches.find(str(tmp_path / "my.patch")), source)


def test_one_that_does_not_fit_is_named_by_its_mail(tmp_path: Path, source: Path) -> None:
    (tmp_path / "my.mbox").write_text(series()[0] + series()[1].replace("-\tint line_9", "-\tint nothing"))
    patch = patches.find(str(tmp_path / "my.mbox"))
    with pytest.raises(UsageError, match=r"my\.mbox \(\[PATCH v2 2/3\] KVM: part 2\) does not apply: hunk 1 of virt"):
        applied(patch, source)


def test_a_head_of_ours_counts_only_where_there_is_no_mail(tmp_path: Path) -> None:
    (tmp_path / "ours.patch").write_text(f"Breaks: a promise\n of two lines\nHost: 5.10+warning\n\n{FIRST}")
    ours = patches.find(str(tmp_path / "ours.patch"))
    assert (ours.series, ours.era) == (("5.10",), "warn")
    assert [diff.text for diff in ours.diffs][1:] == [FIRST]
    (tmp_path / "mail.patch").write_text(f"Host: 5.10+warning\nFrom: a@example.org\n\n{FIRST}")
    assert patches.find(str(tmp_path / "mail.patch")).series == ()


def test_a_binary_change_of_a_document_is_left_out(tmp_path: Path) -> None:
    binary = (
        "diff --git a/Documentation/a.png b/Documentation/a.png\nnew file mode 100644\nindex 0000000..1111111\n"
        "GIT binary patch\nliteral 5\nMcmZQzWMT#Y01f~L\n\nliteral 0\nHcmV?d00001\n\n"
    )
    (tmp_path / "my.patch").write_text(binary + FIRST)
    patch = patches.find(str(tmp_path / "my.patch"))
    assert ([diff.text for diff in patch.diffs], patch.left_out) == ([FIRST], ("Documentation/a.png",))


def test_what_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*gone: No such file"):
        mail.read(tmp_path / "gone")
