"""The HTML report: what is in the file, and what a real browser makes of it."""

import base64
import json
import re
import shutil
import subprocess
from decimal import Decimal
from html.parser import HTMLParser

import pytest

from prefixcache_integrations.canonical import Finding, Usage
from prefixcache_integrations.events import Labels
from prefixcache_integrations.insight.recording import Break
from prefixcache_integrations.insight.report import report
from prefixcache_integrations.insight.report_html import OPEN_ROWS, render
from prefixcache_integrations.insight.report_text import break_line, dollars, duration
from tests.insight.report_calls import DISAGREEMENT, HOSTILE, call, many

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """The tags of a page with their attributes, and whether every one that was opened was closed."""

    VOID = ("meta", "link", "img", "br", "line", "circle", "polyline")

    def __init__(self, html):
        super().__init__()
        self.tags, self.open = [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def test_the_file_is_whole_and_reaches_for_nothing():
    html = render(report(many(60)))
    page = Page(html)

    assert page.open == []
    assert not page.all("link") + page.all("img") + page.all("iframe")
    assert all("src" not in attributes and "href" not in attributes for _, attributes in page.tags)
    assert not re.search(r"https?://|url\(|@import|fetch\(|XMLHttp", html)
    [policy] = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policy.startswith("default-src 'none'")


def test_names_cannot_break_out_of_the_page():
    html = render(
        report(
            [
                call(
                    conversation=HOSTILE,
                    model=HOSTILE,
                    labels=Labels(session=HOSTILE),
                    findings=(Finding(code="below_minimum", message=HOSTILE),),
                    broken=Break(reason="system_changed", lost_tokens=1, path=HOSTILE, remedy=HOSTILE),
                ),
                call(outcome="failed", error=HOSTILE),
            ]
        ),
        title=HOSTILE,
    )

    assert len(Page(html).all("script")) == 1
    assert "alert(1)</script>" not in html


def test_each_call_is_a_bar_with_its_breakpoints_and_its_break():
    broken = Break(
        reason="tool_order_changed", lost_tokens=1_900, path="tools[3].name", offset=2, lost_cost=Decimal("0.00655")
    )
    html = render(report([call(read=500, written=600), call(1, uncached=1_100, broken=broken)]))
    page = Page(html)

    assert len(page.all("li")) == 2
    assert len(page.all("s")) == 2
    assert [i["class"] for i in page.all("i")] == ["read", "written", "written", "uncached", "uncached"]
    assert "tool order changed at tools[3].name, character 2: 1,900 tokens lost, $0.006550" in html
    bars = [div["aria-label"] for div in page.all("div") if div.get("role") == "img"]
    assert bars[0] == (
        "claude-sonnet-4-6, 1,100 tokens: system 500 read, system 500 written, question 100 written; 1 breakpoints"
    )


def test_content_that_was_recorded_is_not_shown():
    assert "canary" not in render(report([call(request={"model": "canary"}, answer="canary")]))


def test_an_empty_recording_says_so():
    assert "Nothing was recorded." in render(report([]))


def test_one_call_alone_has_charts_too():
    html = render(report([call()]))

    assert "<circle" in html
    assert "nan" not in html


def test_calls_of_unknown_cost_are_counted_beside_what_was_spent():
    assert "spent, 1 calls of unknown price" in render(report([call(usage=Usage(), cost=None)]))


def test_conversations_beyond_the_first_calls_are_folded_up():
    page = Page(render(report(many(OPEN_ROWS * 3))))
    folded = ["open" not in details for details in page.all("details")]

    assert any(folded)
    assert not folded[0]
    assert folded == sorted(folded)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (None, "?"),
        (Decimal(0), "$0.00"),
        (Decimal("1234.5"), "$1,234.50"),
        (Decimal("0.0123"), "$0.0123"),
        (Decimal("0.00012"), "$0.000120"),
        (Decimal("-0.5"), "-$0.5000"),
    ],
)
def test_small_amounts_keep_their_digits(amount, text):
    assert dollars(amount) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, "?"), (0.25, "250 ms"), (12.34, "12.3 s")])
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text


# In a real browser. A script that is added to the page presses keys and writes what it saw into the document.

PROBE = """
<script>
const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
const rows = [...document.querySelectorAll("li")];
const at = () => rows.indexOf(document.activeElement);
const shown = [...document.querySelectorAll("details[open] .bar")];
const seen = { rows: rows.length, overflow: document.documentElement.scrollWidth > innerWidth, walk: [] };
seen.open = document.querySelectorAll("details[open]").length;
for (const key of "jjkn") { press(key); seen.walk.push(at()); }
seen.broken = document.activeElement.className;
const notes = [...document.activeElement.querySelectorAll(".note")];
seen.notes = notes.map((note) => [note.innerText, note.getBoundingClientRect().height > 10]);
press("e");
seen.shut = document.querySelectorAll("details:not([open])").length;
const box = shown[0].getBoundingClientRect();
seen.bar = box.width > 100 && box.height > 15;
seen.parts = [...shown[0].querySelectorAll("i")].every((part) => part.getBoundingClientRect().width > 0);
const mark = shown[0].querySelector("s").getBoundingClientRect();
seen.mark = mark.left >= box.left && mark.right <= box.right + 2;
seen.paper = getComputedStyle(document.body).backgroundColor;
seen.ink = getComputedStyle(document.body).color;
seen.read = getComputedStyle(document.querySelector("i.read")).backgroundColor;
seen.milliseconds = performance.now();
document.title = "seen:" + btoa(JSON.stringify(seen));
</script>
</body>"""


@pytest.fixture
def browse(tmp_path):
    if BROWSER is None:
        pytest.skip("no Chromium on PATH (Debian: apt-get install chromium): the report was not seen in a browser")

    def open_page(html, *options, width=1240):
        # The page's own policy allows inline scripts, and nothing from the network.
        file = tmp_path / "report.html"
        file.write_text(html.replace("</body>", PROBE), encoding="utf-8")
        command = [
            *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *(f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", *options),
            *("--dump-dom", file.as_uri()),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)  # noqa: S603 - our own
        return json.loads(base64.b64decode(re.search(r"seen:([\w+/=]+)", done.stdout)[1]))

    return open_page


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


def test_a_browser_shows_the_bars_and_follows_the_keys(browse):
    calls = many(60)
    seen = browse(render(report(calls)))
    first_broken = next(number for number, each in enumerate(calls) if each.broken)

    assert seen["rows"] == 60
    assert seen["walk"][:3] == [0, 1, 0]
    assert seen["walk"][3] == first_broken
    assert seen["broken"] == "broken"
    assert seen["notes"] == [[break_line(calls[first_broken]), True], [DISAGREEMENT, True]]
    assert seen["shut"] == seen["open"]  # all were open: e shuts them
    assert (seen["bar"], seen["parts"], seen["mark"]) == (True, True, True)
    assert not seen["overflow"]


def test_the_page_is_light_or_dark_as_its_reader_likes(browse):
    html = render(report(many(20)))
    light = browse(html, "--blink-settings=preferredColorScheme=1")
    dark = browse(html, "--blink-settings=preferredColorScheme=0")

    assert brightness(light["paper"]) > brightness(light["ink"]) + 400
    assert brightness(dark["ink"]) > brightness(dark["paper"]) + 400
    assert light["read"] != dark["read"]


def test_a_narrow_window_needs_no_scrolling_sideways(browse):
    assert not browse(render(report(many(30))), width=520)["overflow"]


def test_five_thousand_calls_are_no_burden(browse):
    html = render(report(many(5_000)))
    seen = browse(html)

    assert len(html) < 8_000_000
    assert seen["rows"] == 5_000
    assert seen["shut"] == 0  # some were folded up: e opens all
    assert seen["milliseconds"] < 20_000
