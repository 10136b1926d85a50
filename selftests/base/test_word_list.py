from pathlib import Path

from cpuidlab.base.word_list import read_list


def test_a_list_is_its_words_without_comments_and_blanks(tmp_path: Path) -> None:
    file = tmp_path / "list"
    file.write_text("# comment\n\nkvm-amd\n  virtio_net  \n")
    assert read_list(file) == ["kvm-amd", "virtio_net"]
