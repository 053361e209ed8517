"""The page of `inspect --html`, looked at in a browser: it works, lies well, and runs nothing that a model brought."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tcompiler.cli.app import app
from tests.cli import hostile_page
from tests.cli.browser import Browser, chromium


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    model = hostile_page.save(folder)
    result = CliRunner().invoke(app, ["inspect", model, "--html", str(folder / "page.html")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder / "page.html"


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(params=[1280, 390], ids=["desktop", "phone"])
def browser(chrome: Browser, page: Path, request: pytest.FixtureRequest) -> Iterator[Browser]:
    """The page in a window; whatever a test does, nothing is asked for, refused or run that should not be."""
    chrome.driver.get("about:blank")
    chrome.requests()
    chrome.console()
    chrome.open(page, request.param, 900)
    yield chrome
    assert chrome.run("return window.pwned") is None
    assert {url for url in chrome.requests() if not url.startswith("data:")} == {page.as_uri()}
    assert chrome.console() == []


def test_names_are_text(browser: Browser) -> None:
    text = browser.run("return document.body.innerText")
    for name in (hostile_page.INPUT, hostile_page.OUTPUTS[0], hostile_page.FILE, r"a\u202eb\u0007c"):
        assert name in text
    assert browser.run("return document.title").endswith(f"{hostile_page.FILE} – tcompiler")
    assert browser.run("return [...document.querySelectorAll('img, iframe, object, embed, link, base')].length") == 0
    assert browser.run("return document.scripts.length") == 1 + browser.run(
        "return document.querySelectorAll('script[type]').length"
    )


def test_nothing_is_wider_than_the_window(browser: Browser) -> None:
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    browser.run("for (const d of document.querySelectorAll('details')) d.open = true")
    browser.wait("[...document.querySelectorAll('.pane pre')].every((pre) => pre.firstChild)")
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    wide = """
        const clipped = (e) => e.scrollWidth > e.clientWidth + 1;
        return [...document.querySelectorAll(".tile dd, .tile small, .facts dd, .note, h2, h3, .pass .name, .tools")]
          .filter(clipped).map((e) => e.textContent);
    """
    assert browser.run(wide) == []


def test_nothing_lies_over_anything_else(browser: Browser) -> None:
    overlaps = """
        const pairs = [], meet = (a, b) =>
          a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
        const among = (selector) => {
          const boxes = [...document.querySelectorAll(selector)].map((e) => [e, e.getBoundingClientRect()]);
          boxes.forEach(([e, a], i) => boxes.slice(i + 1).forEach(([f, b]) => {
            if (meet(a, b)) pairs.push([e.textContent, f.textContent]);
          }));
          return boxes.length;
        };
        const counts = [".card > rect", "main > section", ".tile", "header > *", ".tools > *", ".figures thead th",
          ".roofs .peak", ".grid text"].map(among);
        for (const card of document.querySelectorAll(".card")) {
          const frame = card.querySelector("rect").getBoundingClientRect();
          const texts = [...card.querySelectorAll("text")].map((t) => [t.textContent, t.getBoundingClientRect()]);
          texts.forEach(([t, a], i) => {
            if (a.left < frame.left || a.right > frame.right || a.bottom > frame.bottom) pairs.push([t, "card"]);
            texts.slice(i + 1).forEach(([u, b]) => { if (meet(a, b)) pairs.push([t, u]); });
          });
        }
        return [counts, pairs];
    """
    counts, pairs = browser.run(overlaps)
    slopes = browser.run("return [...document.querySelectorAll('.roofs text.level')].map((t) => t.getCTM().e)")
    assert len(slopes) == 4
    assert min(counts) > 1
    assert pairs == []


def test_every_wire_runs_down_from_its_card_to_the_next(browser: Browser) -> None:
    script = """
        const cards = new Map([...document.querySelectorAll(".card")].map((c) => [c.dataset.n, c]));
        return [...document.querySelectorAll(".wires path")].map((path) => {
          const box = path.getBoundingClientRect();
          const [from, to] = [path.dataset.s, path.dataset.t].map((n) => cards.get(n).getBoundingClientRect());
          return [box.top - from.bottom, to.top - box.bottom];
        });
    """
    ends = browser.run(script)
    assert len(ends) >= 10
    for start, end in ends:
        assert start > -2 and abs(end) < 2


def test_the_table_sorts(browser: Browser) -> None:
    def column(index: int) -> list[str]:
        return browser.run(
            "return [...document.querySelectorAll('#figures tbody tr')].map((r) => r.children[arguments[0]].dataset.v)",
            index,
        )

    def click(key: str) -> str:
        browser.run("arguments[0].click()", browser.find(f"#figures th[data-key={key}] button"))
        return browser.find(f"#figures th[data-key={key}]").get_attribute("aria-sort")

    names = column(0)
    shares = [float(v) for v in column(9)]
    assert shares == sorted(shares, reverse=True)
    assert click("kernel") == "ascending"
    assert column(0) == sorted(names) != names
    assert click("kernel") == "descending"
    assert column(0) == sorted(names, reverse=True)
    for index, key in ((2, "flops"), (4, "bytes"), (5, "limit"), (7, "seconds"), (8, "predicted"), (10, "attained")):
        assert click(key) == "descending"
        values = [float(v) for v in column(index)]
        assert values == sorted(values, reverse=True)
        assert click(key) == "ascending"
        assert [float(v) for v in column(index)] == sorted(values)
    assert browser.run("return document.querySelectorAll('[aria-sort]').length") == 1
    assert sorted(column(0)) == sorted(names)


def test_a_card_leads_to_its_kernel(browser: Browser) -> None:
    link = browser.find(".cards a")
    name = link.find_element("css selector", ".head").text
    browser.run("arguments[0].scrollIntoView({block: 'center'})", link)
    link.click()
    anchor = browser.run("return location.hash")
    assert anchor.startswith("#kernel-")
    assert browser.find(f"{anchor} h3").text == name
    browser.wait("document.querySelector(arguments[0]).getBoundingClientRect().top < innerHeight", anchor)
    browser.wait("document.querySelector(arguments[0] + ' pre').textContent.length > 100", anchor)
    panes = [p.text for p in browser.driver.find_elements("css selector", f"{anchor} pre")]
    assert all(p.startswith("@loop.function\ndef ") for p in panes) and panes[0] != panes[1]


def test_every_stage_of_a_kernel_can_be_read(browser: Browser) -> None:
    browser.run("location.hash = 'kernel-0'")
    begins = {
        "expr": "@expr.program",
        "loop": "@loop.function",
        "scheduled": "@loop.function",
        "trace": "sch.",
        "llvm": "define void @",
        "asm": "\t.file",
    }
    for stage, begin in begins.items():
        browser.run(
            "const s = document.querySelector('#kernel-0 select'); s.value = arguments[0];"
            "s.dispatchEvent(new Event('change'))",
            stage,
        )
        browser.wait("document.querySelector('#kernel-0 pre').textContent.startsWith(arguments[0])", begin)
    pair = browser.find("#kernel-0 .pairs button[data-left=expr]")
    browser.run("arguments[0].click()", pair)
    browser.wait("document.querySelector('#kernel-0 pre').textContent.startsWith('@expr.program')")
    assert pair.get_attribute("aria-pressed") == "true"


def test_folded_lines_of_a_pass_unfold(browser: Browser) -> None:
    browser.run("for (const d of document.querySelectorAll('details.pass')) d.open = true")
    fold = browser.find("tr.fold")
    count = int(fold.get_attribute("data-n"))
    table = "document.querySelector('tr.fold, .unfolded').closest('table')"
    browser.run(
        f"window.table = {table}; window.rows = table.rows.length; arguments[0].querySelector('button').click()", fold
    )
    browser.wait("window.table.rows.length === window.rows + arguments[0] - 1", count)
    lines = browser.run(
        "return [...window.table.rows].slice(1).map((r) => [...r.cells].map((c) => c.textContent))"
        ".filter((r) => r.length === 4)"
    )
    for side in (0, 2):
        numbers = [int(row[side]) for row in lines if row[side]]
        assert numbers == sorted(numbers)
    assert ["", "", "", ""] not in lines
    plain = [row for row in lines if row[1] == row[3]]
    assert len(plain) >= count and all(row[1].strip() for row in plain)


def test_the_graph_zooms_and_is_searched(browser: Browser) -> None:
    def width() -> int:
        return int(browser.find(".viewport svg").get_attribute("width"))

    def press(which: str) -> None:
        browser.run("arguments[0].click()", browser.find(f"[data-zoom={which}]"))

    press("one")
    natural = width()
    press("in")
    assert width() == pytest.approx(1.25 * natural, abs=1)
    press("all")
    assert browser.run("const v = document.querySelector('.viewport'); return v.scrollHeight <= v.clientHeight + 2")
    browser.find("#find").send_keys("softmax")
    assert browser.run("return document.querySelectorAll('.card.hit').length") == 1
    assert browser.find("#found").text == "1 of 1"
    browser.find("#find").clear()
    browser.find("#find").send_keys("no such operator")
    assert browser.find("#found").text == "nothing found"


def test_light_and_dark(browser: Browser) -> None:
    seen = set()
    for _ in range(2):
        browser.find("#theme").click()
        ink, page = browser.run(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor].map("
            "(c) => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3)"
        )
        assert abs(ink - page) > 150
        seen.add(page > 128)
    assert seen == {False, True}


def test_something_is_seen(browser: Browser) -> None:
    browser.run("document.querySelector('#graph').scrollIntoView()")
    count, commonest = browser.colours()
    assert count > 50 and commonest < 0.97
    browser.driver.back()
