"""The picture as a browser has it: no complaint, no request, no overflow; keys, themes, links."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtool.report import page
from fixtool.report._inputs import Report
from support import report_example as make
from support.browser import Browser, Tab, axe_core, browsing, chromium
from support.html import Strict

pytestmark = pytest.mark.slow(1)  # each opens a page in a browser

PAGES = ("every", "calm", "flips", "hostile", "empty", "covered", "releases", "nights", "weeks",
         "hostile-nights")  # fmt: skip


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name one in FIXTOOL_CHROMIUM")
    with browsing(program, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    flips = make.patch("flips", *[("clean", 1), ("conflict", 1)] * 424, ("clean", 1))
    stopped = make.rebase(("patch-15-conflict", "conflict", "asked"), warnings=["a warning"],
                          session=make.session("patch-15-conflict"), text="1: a = 1: b")  # fmt: skip
    reports: dict[str, Report] = {
        "every": make.report(make.every_verdict(), stopped, [make.result()], plot="kernel.png"),
        "calm": make.report(make.history(make.patch("a", ("clean", 400), ("offset", 449)))),
        "flips": make.report(make.history(flips, make.patch("calm", ("clean", 849)))),
        "hostile": make.hostile(),
        "empty": make.report(None),
        "covered": make.report(None, coverage_json=make.every_standing()),
        "releases": make.report(None, coverage_json=releases_of_a_year()),
    }
    texts = {name: page.html(report) for name, report in reports.items()}
    texts |= {
        "nights": page.nights_html(make.nights(4, 3)),
        "weeks": page.nights_html(make.nights(12, 70)),
        "hostile-nights": page.nights_html(make.nights(2, 3, make.HOSTILE)),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return {name: folder / f"{name}.html" for name in texts}


def releases_of_a_year() -> dict[str, Any]:
    """Fifteen releases: four patches, of which three are absorbed in the middle."""
    fixes = [f"gemma4-a-long-name-{n}" for n in range(3)]
    releases = []
    for n in range(15):
        verdict, by = ("clean", None) if n < 6 else ("absorbed", "0.5.18")
        patches = [make.covered_patch(slug, verdict, by) for slug in fixes]
        kernel = make.covered_patch("gemma4-fused-routing", "conflict" if n == 9 else "clean")
        releases.append((f"0.5.{n + 12}.post1", f"v0.5.{12 + n // 5}", [*patches, kernel]))
    return make.coverage_of_releases(*releases)


def colours(png: bytes) -> set[bytes]:
    """The colours of a screenshot: 8 bits each of red, green, blue and perhaps alpha."""
    width, height, depth, kind = struct.unpack(">IIBB", png[16:26])
    assert depth == 8
    size = {2: 3, 6: 4}[kind]
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += 12 + length
    raw, stride = zlib.decompress(data), width * size
    colours, before = set(), bytearray(stride)
    for y in range(height):
        start = y * (stride + 1)
        before = unfiltered(raw[start], raw[start + 1 : start + 1 + stride], before, size)
        colours |= {bytes(before[x : x + 3]) for x in range(0, stride, size)}
    return colours


def unfiltered(kind: int, line: bytes, before: bytes, size: int) -> bytearray:
    """One row of an image, from its bytes and the row above."""
    row = bytearray(line)
    if kind == 2:
        return bytearray((value + up) & 255 for value, up in zip(row, before, strict=True))
    for x in range(len(row) if kind else 0):
        left, corner = (row[x - size], before[x - size]) if x >= size else (0, 0)
        if kind == 1:
            row[x] = (row[x] + left) & 255
        elif kind == 3:
            row[x] = (row[x] + (left + before[x]) // 2) & 255
        else:
            guess = left + before[x] - corner
            nearest = min((left, before[x], corner), key=lambda value: abs(guess - value))
            row[x] = (row[x] + nearest) & 255
    return row


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_and_fits(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    tab = Tab(browser, pages[name], width=width, dark=width == 360)
    wide = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll, details "
    wide += "pre, .tip, .skip, .fit') && e.getBoundingClientRect().right > innerWidth + 1)"
    assert tab.js("document.documentElement.scrollWidth") <= width
    assert tab.js(f"{wide}.map(e => e.outerHTML.slice(0, 99))") == []
    assert tab.js("document.title") != ""
    assert tab.js("document.scripts.length") == 0
    assert {url[:5] for url in tab.requests()} <= {"file:", "data:"}
    assert [url for url in tab.requests() if url[:5] == "file:"] == [pages[name].as_uri()]
    assert tab.complaints() == []
    tab.close()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", sorted({*PAGES} - {"flips", "covered"}))  # slow, and alike
@pytest.mark.release(sample_of="barriers on a page")
def test_axe_finds_no_barrier(
    browser: Browser, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    axe = axe_core()
    if axe is None:
        pytest.skip("no axe-core here: pip install axe-core-python, or name one in FIXTOOL_AXE")
    tab = Tab(browser, pages[name], width=width, dark=dark)
    tab.js("document.querySelectorAll('details').forEach(e => { e.open = true })")
    assert tab.barriers(axe) == []
    tab.js("document.documentElement.lang = ''")
    (barrier,) = tab.barriers(axe)  # it does look
    assert barrier.startswith("html-has-lang: ")
    tab.close()


@pytest.mark.parametrize("name", PAGES)
def test_the_browser_reads_the_page_as_it_is_written(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    """No element was moved, closed or added to make sense of it, and each link leads somewhere."""
    tab = Tab(browser, pages[name], width=1280)
    written = [node.tag for node in Strict(pages[name].read_text("utf-8")).root.all()]
    assert tab.js("[...document.querySelectorAll('*')].map(e => e.localName)") == written
    inner = "[...document.querySelectorAll('a[href^=\"#\"]')]"
    assert tab.js(f"{inner}.length") > 1
    lost = f"{inner}.filter(a => !document.getElementById(a.getAttribute('href').slice(1)))"
    assert tab.js(f"{lost}.length") == 0
    assert tab.js("[...document.images].every(i => i.complete && i.naturalWidth && i.alt)") is True
    tab.close()


def shown(tab: Tab) -> list[str]:
    """The tooltips that can be seen, wholly inside the window's width."""
    return list(tab.js(
        "[...document.querySelectorAll('.tip')].filter(e => { const b = e.getBoundingClientRect();"
        " return getComputedStyle(e).opacity === '1' && b.width > 40 && b.height > 15 &&"
        " b.left >= 0 && b.right <= innerWidth }).map(e => e.innerText)"
    ))  # fmt: skip


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["calm", "every", "flips"])
def test_a_tooltip_comes_with_tab_and_with_the_mouse(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    tab = Tab(browser, pages[name], width=width)
    assert shown(tab) == []
    tab.press("Tab", 9)
    assert tab.js("document.activeElement.className") == "skip"
    assert tab.js("document.activeElement.getBoundingClientRect().top") >= 0
    for _ in range(60):
        tab.press("Tab", 9)
        if tab.js("document.activeElement.classList.contains('seg')"):
            break
    (text,) = shown(tab)
    assert "2026-05-23" in text
    assert text.startswith("clean, ")
    assert tab.js("document.activeElement.matches(':focus-visible')") is True
    tab.press("Tab", 9)
    (text,) = shown(tab)
    assert "began with" in text
    assert "Author" in text
    tab.js("document.activeElement.blur()")
    box = tab.js(
        "(() => { const e = document.querySelector('.seg'); e.scrollIntoView({block: 'center', "
        "behavior: 'instant'}); const b = e.getBoundingClientRect();"
        " return [b.x + b.width / 2, b.y + b.height / 2] })()"
    )
    tab.point(*box)
    (text,) = shown(tab)
    assert "from where this history begins" in text
    assert tab.complaints() == []
    tab.close()


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", ["covered", "releases"])
def test_each_run_of_the_coverage_says_the_line(
    browser: Browser, pages: dict[str, Path], name: str, width: int
) -> None:
    tab = Tab(browser, pages[name], width=width)
    for _ in range(60):
        tab.press("Tab", 9)
        if tab.js("document.activeElement.classList.contains('seg')"):
            break
    (text,) = shown(tab)
    assert text.startswith({"covered": "line-0, ", "releases": "v0.5.12, 5 releases, 0.5.12"}[name])
    tab.js("document.querySelectorAll('.cover .row')[1].querySelector('.seg').focus()")
    tab.press("Tab", 9)
    (text,) = shown(tab)
    assert "\nline " in text
    href = tab.js("document.activeElement.getAttribute('href')")
    tab.js("document.activeElement.click()")
    assert tab.js("location.hash") == href
    assert tab.js("document.querySelector(':target').localName") == "tr"
    assert tab.complaints() == []
    tab.close()


def test_enter_on_a_run_leads_to_its_line_in_the_table(
    browser: Browser, pages: dict[str, Path]
) -> None:
    tab = Tab(browser, pages["calm"], width=1280)
    tab.js("document.querySelectorAll('.seg')[1].click()")
    assert tab.js("location.hash") == "#p0-1"
    assert tab.js("document.querySelector(':target').innerText").startswith("O\noffset")
    tab.close()


def test_a_screen_reader_hears_names(browser: Browser, pages: dict[str, Path]) -> None:
    tab = Tab(browser, pages["every"], width=1280)
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    heard = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in nodes
        if not node["ignored"]
    ]
    for role in ("link", "image", "table", "region", "heading", "navigation", "columnheader"):
        names = [name for kind, name in heard if kind == role]
        assert names, role
        assert all(names), role
    assert ("main", "") in heard
    links = [name for role, name in heard if role == "link"]
    assert any(name.startswith("clean, 1 commit, 2026-05-23 to 2026-05-23") for name in links)
    tab.close()


def test_both_themes_are_drawn(browser: Browser, pages: dict[str, Path]) -> None:
    grounds = []
    for dark in (False, True):
        tab = Tab(browser, pages["every"], width=360, dark=dark)
        tab.js("document.querySelector('#over-time').scrollIntoView({behavior: 'instant'})")
        shades = colours(tab.screenshot())
        assert len(shades) > 50  # not blank: text, bands and patterns
        grounds.append(tab.js("getComputedStyle(document.body).backgroundColor"))
        rgb = bytes(int(part) for part in grounds[-1].strip("rgb()").split(","))
        assert rgb in shades
        fill = tab.js("getComputedStyle(document.querySelector('.seg.v-clean')).backgroundColor")
        assert bytes(int(part) for part in fill.strip("rgb()").split(",")) in shades
        tab.close()
    assert grounds == ["rgb(244, 246, 248)", "rgb(14, 18, 23)"]
