"""The page in a real browser, by keyboard alone; skipped where there is no Chromium."""

from collections.abc import Iterator

import bigmatrix
import browser
import pytest
from cpuidlab.report.page import html
from cpuidlab.report.report import report_of

FOCUS = "document.activeElement"
WHERE = f"[{FOCUS}.closest('tbody')?.dataset.group, {FOCUS}.closest('tr')?.rowIndex, {FOCUS}.cellIndex]"

pytestmark = pytest.mark.skipif(browser.PATH is None, reason=f"none of {', '.join(browser.NAMES)} is installed")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    folder = tmp_path_factory.mktemp("page")
    cells = bigmatrix.save(folder)
    (folder / "matrix.html").write_text(html(report_of(cells, header=bigmatrix.HEADER), folder=folder))
    with browser.browser(folder / "profile") as opened:
        opened.open(folder / "matrix.html")
        yield opened


@pytest.fixture(autouse=True)
def _first_cell(shown: browser.Browser) -> None:
    shown.js("document.getElementById('open').close(), document.getElementById('filters').reset()")
    shown.js("new Promise(done => setTimeout(done, 30)).then(() => document.querySelector('#grid td').focus())")


def choose(shown: browser.Browser, name: str, value: str) -> None:
    """Choose in a filter as its own keys do."""
    shown.js(
        f"(() => {{ const it = document.querySelector('[name={name}]'); it.value = '{value}';"
        "it.dispatchEvent(new Event('change', {bubbles: true})); })()"
    )


def cells(shown: browser.Browser, more: str = "") -> list[str]:
    """The outcomes of the cells that are left."""
    found: list[str] = shown.js(
        f"[...document.querySelectorAll('tr.case:not([hidden]) td:not(.dim){more}')]"
        ".filter(cell => cell.offsetParent).map(cell => cell.dataset.o)"
    )
    return found


def test_nothing_is_asked_from_anywhere_and_nothing_is_complained_of(shown: browser.Browser) -> None:
    assert [one for one in shown.asked if not one.startswith("file:") or not one.endswith("/matrix.html")] == []
    assert shown.complaints == []


def test_tab_comes_to_one_cell_and_arrows_go_on_from_there(shown: browser.Browser) -> None:
    assert shown.js("document.querySelectorAll('#grid td[tabindex=\"0\"]').length") == 1
    first = shown.js(WHERE)
    shown.press("ArrowRight", "ArrowRight", "ArrowDown")
    group, row, column = shown.js(WHERE)
    assert (group, column) == ("before_run", first[2] + 2)
    assert row > first[1]
    shown.press("ArrowUp", "Home")
    assert shown.js(WHERE) == first
    shown.press("ArrowLeft", "ArrowUp")
    assert shown.js(WHERE) == first  # at the edge it stays
    shown.press("End", "PageDown")
    assert shown.js(f"{FOCUS} === [...document.querySelectorAll('tr.case td')].at(-1)")


def test_focus_hints_enter_opens_and_escape_closes(shown: browser.Browser) -> None:
    shown.press("ArrowRight")
    assert "nothing changed, 5.10 shadow" in shown.js("document.getElementById('tip').textContent")
    shown.press(*["ArrowDown"] * 8, "Enter")
    assert shown.js("document.getElementById('open').open") is True
    told = shown.js("document.getElementById('open').innerText")
    for words in (
        "maxphyaddr 32 below ram, 5.10 shadow",
        "guest died",
        "hangs: vCPU 0",
        "RAM above 4 GiB",
        "vCPU 1: accepted",
    ):
        assert words in told
    assert shown.js("document.querySelector('#open a').href").endswith("/data")
    before = shown.js("document.getElementById('grid').querySelector('td[tabindex=\"0\"]').cellIndex")
    shown.press("Escape")
    assert shown.js("document.getElementById('open').open") is False
    assert shown.js(f"{FOCUS}.cellIndex") == before
    shown.press("Escape")
    assert shown.js("document.getElementById('tip').hidden") is True


def test_a_click_opens_and_does_not_leave_the_page(shown: browser.Browser) -> None:
    shown.js("document.querySelector('#grid td a').click()")
    assert shown.js("document.getElementById('open').open") is True


def test_filters_leave_what_fits_and_arrows_keep_to_it(shown: browser.Browser) -> None:
    everything = len(cells(shown))
    choose(shown, "outcome", "known")
    assert set(cells(shown)) == {"known"}
    assert shown.js("document.getElementById('count').value") == f"{len(cells(shown))} cells in 1 rows"
    assert shown.js("document.querySelectorAll('#grid td[tabindex=\"0\"]:not(.dim)').length") == 1
    shown.js("document.querySelector('#grid td[tabindex=\"0\"]').focus()")
    for _ in range(3):
        shown.press("ArrowRight")
        assert shown.js(f"{FOCUS}.dataset.o") == "known"
    choose(shown, "outcome", "")
    choose(shown, "verdict", "FAIL")
    assert len(cells(shown)) == len(bigmatrix.BROKEN)
    choose(shown, "group", "has_run_stays")
    assert len(cells(shown)) == 1
    choose(shown, "verdict", "")
    choose(shown, "group", "")
    choose(shown, "route", "replug")
    assert "ended" in cells(shown)
    choose(shown, "route", "")
    assert len(cells(shown)) == everything


def test_filters_that_leave_nothing_break_nothing(shown: browser.Browser) -> None:
    choose(shown, "verdict", "FAIL")
    choose(shown, "route", "replug")
    assert cells(shown) == []
    shown.js("document.querySelector('button[type=reset]').focus()")
    shown.press("Enter")
    shown.js("new Promise(done => setTimeout(done, 30))")
    assert len(cells(shown)) > 1000
    assert shown.complaints == []


def test_a_filter_is_set_by_keys_alone(shown: browser.Browser) -> None:
    shown.js("document.querySelector('[name=verdict]').focus()")
    shown.press("F")  # the marks stand before the words, so that no letter finds one
    shown.press("ArrowDown")
    shown.js("new Promise(done => setTimeout(done, 30))")
    assert shown.js("document.querySelector('[name=verdict]').value") == "FAIL"
    assert len(cells(shown)) == len(bigmatrix.BROKEN)


@pytest.mark.parametrize("width", [380, 800, 1280, 1920])
def test_the_page_itself_never_scrolls_sideways(shown: browser.Browser, width: int) -> None:
    shown.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
    try:
        assert shown.js("document.documentElement.scrollWidth") <= width
    finally:
        shown.call("Emulation.clearDeviceMetricsOverride")
