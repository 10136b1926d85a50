"""The page and the excerpts in it: whole, small, the same each time, and safe from what stands in a log."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import bigmatrix
import pytest
from cells import CELL, REFUSED, SILENT
from cpuidlab.judge.verdict import Verdict
from cpuidlab.report import excerpts
from cpuidlab.report.cell import Cell
from cpuidlab.report.compare import compare
from cpuidlab.report.matrix_file import write
from cpuidlab.report.page import html
from cpuidlab.report.report import report_of

VOID = {"meta", "col", "input", "wbr"}


class Page(HTMLParser):
    """What a page is made of; closing tags that do not fit are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def data(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[Cell, ...], Path, str]:
    folder = tmp_path_factory.mktemp("job")
    cells = bigmatrix.save(folder)
    return cells, folder, page(cells, folder)


def page(cells: Sequence[Cell], folder: Path | None = None) -> str:
    return html(bigmatrix.report_of_all(cells), folder=folder)


def test_every_place_is_there_once(big: tuple[tuple[Cell, ...], Path, str]) -> None:
    cells, _, text = big
    places = [one for one in Page(text).all("td") if "data-o" in one]
    rows = len({cell.case for cell in cells})
    assert len(places) == rows * 20
    assert sum(one["data-o"] == "untested" for one in places) == len(places) - len(cells)
    assert all(("data-v" in one) == (one["data-o"] != "untested") for one in places)
    assert {one["data-v"] for one in places if one["data-o"] == "error"} == {"ERROR"}
    assert {one["data-v"] for one in places if "data-v" in one} == set(Verdict)
    records = data(text)["records"]
    assert sorted(int(one["data-n"] or 0) for one in places if "data-n" in one) == list(range(len(records)))
    assert len(records) == len(cells)


def test_a_thousand_cells_stay_small(big: tuple[tuple[Cell, ...], Path, str]) -> None:
    cells, _, text = big
    assert len(cells) > 1000
    assert len(text.encode()) < 650 * len(cells)


def test_the_same_cells_are_the_same_page(big: tuple[tuple[Cell, ...], Path, str]) -> None:
    cells, folder, text = big
    assert page(cells, folder) == text


def test_the_evidence_is_in_the_page_and_linked(big: tuple[tuple[Cell, ...], Path, str]) -> None:
    _, folder, text = big
    told = data(text)
    place = next(
        one for one in Page(text).all("td")
        if one.get("data-n") and told["records"][int(one["data-n"] or 0)][0].startswith("warned, guest died (hangs")
    )  # fmt: skip
    numbers = told["records"][int(place["data-n"] or 0)][1]
    parts = dict(told["texts"][number] for number in numbers)
    assert parts["KVM's answers"] == "vCPU 0: accepted\nvCPU 1: accepted"
    assert "may cause guest instability  (x 2)" in parts["host log since the test began"]
    assert parts["guest"].startswith("died after 0.4 s: hangs: vCPU 0")
    links = {one.get("href") for one in Page(text).all("a")}
    assert all(link and (folder / link.replace("%2B", "+")).is_dir() for link in links)


def test_the_page_needs_nothing_from_anywhere(big: tuple[tuple[Cell, ...], Path, str]) -> None:
    text = big[2]
    assert "://" not in text
    assert "src=" not in text
    assert Page(text).all("link") == Page(text).all("img") == []
    assert "default-src 'none'" in text
    for part in ("prefers-color-scheme: dark", "@media print", "6.1.0-48-amd64 on this machine", "1012 s"):
        assert part in text


def test_the_columns_are_in_the_order_of_versions(big: tuple[tuple[Cell, ...], Path, str]) -> None:
    hosts = [one["data-host"] for one in Page(big[2]).all("th") if "data-host" in one]
    assert hosts[::2] == ["5.10", "5.10+warning", "6.1", "6.12", "6.16", "6.17", "6.18.2", "6.18", "7.2", "7.3"]


EVIL = "</script><script>alert(1)</script><img onerror=x>\"'&"


def test_the_page_trusts_nobody(tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/lab-failure.txt").write_bytes(EVIL.encode() + b"\xff\x00\x1b[31m")
    evil = dict.fromkeys(("case", "host", "release", "paging", "route", "accel", "predicted", "probed"), EVIL)
    one = replace(CELL, **evil, facts=replace(SILENT, ended=EVIL), reason=EVIL, evidence="evil", verdict=Verdict.FAIL)
    two = replace(one, host="5.10", evidence="javascript:alert(1)")
    report = report_of([one, two], header={EVIL: EVIL}, planned=[(EVIL, EVIL)])
    text = html(report, folder=tmp_path, changes=compare([CELL], [one]))
    made = Page(text)
    assert len(made.all("script")) == 2
    assert made.all("img") == []
    assert not any(name.startswith("on") for _, attributes in made.tags for name in attributes)
    assert not any((one.get("href") or "").startswith("javascript:") for one in made.all("a"))
    told = data(text)
    assert told["records"][0][0] == EVIL
    assert told["texts"][0][1].startswith(EVIL)


def test_nothing_tested_is_a_page_too() -> None:
    assert "No host was tested." in html(report_of(()))
    assert 'class="rule r-unknown"' in html(report_of((), planned=[("5.10", "npt")]))


def test_what_changed_is_on_the_page() -> None:
    new = replace(CELL, verdict=Verdict.FAIL, facts=REFUSED, reason="refused")
    text = html(report_of([new]), changes=compare([CELL], [new]))
    assert "What changed since last time" in text
    assert "1 cell got worse, on 5.10." in text
    assert [one["class"] for one in Page(text).all("td") if "data-o" in one] == ["o-refused edge new"]
    assert "changed since last time" not in html(report_of([new]))


# excerpts


def test_excerpts_are_short_and_say_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "readings.txt").write_text("".join(f"line {n} {'x' * 1000}\n" for n in range(200)))
    (one,) = excerpts.excerpts(tmp_path)
    lines = one.text.split("\n")
    assert len(lines) == excerpts.LINES + 1
    assert max(map(len, lines)) == excerpts.WIDTH + 1
    assert re.fullmatch(r"… and \d+ lines more", lines[-1])


def test_evidence_that_is_missing_or_garbled_is_left_out(tmp_path: Path) -> None:
    assert excerpts.excerpts(tmp_path / "nowhere") == ()
    (tmp_path / "observation.json").write_text('{"answers": 7}')
    (tmp_path / "qemu-stderr.txt").mkdir()
    (tmp_path / "rerun.txt").write_text("again\n")
    assert excerpts.excerpts(tmp_path) == (excerpts.Excerpt("rerun", "again"),)


def test_the_same_excerpt_is_kept_once_and_all_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (("a", "same"), ("b", "same"), ("c", "y" * 60), ("d", "z" * 60)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rerun.txt").write_text(text)
    monkeypatch.setattr(excerpts, "BUDGET", 70)
    book = excerpts.Excerpts(tmp_path)
    numbers = [book.of(replace(CELL, evidence=name)) for name in "abcd"]
    assert numbers == [(0,), (0,), (1,), (2,)]
    assert [one.text for one in book.all] == ["same", "y" * 60, excerpts.TOO_MUCH]
    assert excerpts.Excerpts(None).of(CELL) == ()


def test_a_matrix_that_fails_everywhere_stays_under_three_megabytes(tmp_path: Path) -> None:
    cells = []
    for number in range(1100):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("readings.txt", "qemu-stderr.txt", "models-diff.txt"):
            (folder / name).write_text("".join(f"{number} {name} {line} {'x' * 300}\n" for line in range(40)))
        case, host = f"changes/case_{number // 20}", f"6.{number % 20}"
        reason = "\n".join(f"cell {number}, line {line}: {'y' * 90}" for line in range(100))
        cells.append(replace(CELL, case=case, host=host, verdict=Verdict.FAIL, reason=reason, evidence=str(number)))
    write(cells, tmp_path / "matrix.json")
    assert len(html(report_of(cells), folder=tmp_path).encode()) < 3_000_000
