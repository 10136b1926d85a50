"""A word of the user's is one argument of the program at the other end, whatever it holds."""

import subprocess

import pytest
from cpuidlab.base.errors import UsageError
from cpuidlab.commands.far_command import far_line
from hypothesis import given, settings
from hypothesis import strategies as st

WORDS = st.lists(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])), max_size=9)


def run(*words: str, terminal: bool = False) -> subprocess.CompletedProcess[bytes]:
    line = far_line(words, "host", terminal=terminal)
    return subprocess.run(["busybox", "sh", "-c", line], stdin=subprocess.DEVNULL, capture_output=True, check=False)


@given(WORDS)
@settings(max_examples=30, deadline=None)
def test_words_arrive_as_they_are(words: list[str]) -> None:
    assert run("printf", r"%s\0", "", *words).stdout == b"".join(word.encode() + b"\0" for word in ["", *words])


@pytest.mark.parametrize("text", ["$HOME a  b", "a'b", '"`id`"', "a\nb; exit 7", "*", "~", "", "-n;", "\\", "\udcff"])
def test_what_a_shell_would_take_for_more(text: str) -> None:
    line = far_line(["printf", r"%s\0", text], "host", terminal=False)
    said = subprocess.run(["busybox", "sh", "-c", line], capture_output=True, check=True).stdout
    assert said == text.encode(errors="surrogateescape") + b"\0"


@pytest.mark.parametrize("word", ["A=1", "if", "{", "!", "/no/such/program"])
def test_a_first_word_is_the_name_of_a_program(word: str) -> None:
    assert run(word, "printf", "x").returncode == 127


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("true", 0)])
def test_the_exit_code_is_the_programs_own(script: str, code: int, terminal: bool) -> None:
    assert run("sh", "-c", script, terminal=terminal).returncode == code


def test_the_name_in_the_prompt_is_no_command() -> None:
    line = far_line([], "5.10+`id`'$(id)\n host", terminal=True)
    assert "PS1='5.10+_id____id__ host:\\w# ' sh;" in line


def test_a_command_that_the_ssh_server_would_refuse() -> None:
    far_line(["x" * 8900], "host", terminal=False)
    with pytest.raises(UsageError, match="longer than 9000 bytes"):
        far_line(["ü" * 4500], "host", terminal=False)
