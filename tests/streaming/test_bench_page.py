"""The pages of the committed results: whole, loading nothing, saying what the JSON says."""

import re
from html.parser import HTMLParser
from pathlib import Path

import orjson
import pytest

from streaming import bench_page, pages

RESULTS = Path(__file__).parents[2] / "benchmarks"
BENCHES = ("latency", "throughput", "growth", "mix", "scale", "engine")
_EMPTY = {"meta"}


class _Whole(HTMLParser):
    """Fails where an element is closed that is not the innermost open one."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in _EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        """`<rect/>` opens nothing."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("bench", BENCHES)
def test_the_committed_page_is_what_the_committed_result_makes(bench, tmp_path):
    report = orjson.loads((RESULTS / f"{bench}.json").read_bytes())
    made = bench_page.write(bench, report, tmp_path / f"{bench}.json").read_text(encoding="utf-8")
    assert made == (RESULTS / f"{bench}.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("bench", BENCHES)
def test_a_page_is_whole_loads_nothing_and_has_a_plot(bench):
    text = (RESULTS / f"{bench}.html").read_text(encoding="utf-8")
    whole = _Whole()
    whole.feed(text)
    assert whole.open == []
    assert "<svg" in text
    assert not re.search(r"<script|https?:|src=|nan|inf<", text)


def test_the_latency_page_says_medians_of_rounds():
    rounds = [
        {"rate": rate, "name": name, "p50": p50 * scale, "p99": 9.0 * scale, "cpu_ms_per_event": 0.5}
        for rate in (100, 200)
        for name, scale in (("wardwatch", 2.0), ("faust", 1.0))
        for p50 in (1.0, 50.0, 3.125)
    ]
    report = {"runs": rounds, "ratios": {str(rate): {"p50_vs_faust": 2.0, "p99_vs_faust": 2.0} for rate in (100, 200)}}
    said = "".join(content for _, content in bench_page._PAGES["latency"][2](report))
    assert "<td>3.12</td>" in said and "<td>6.25</td>" in said and "<td>2.00</td>" in said
    assert "25.00" not in said


def test_bars_are_as_long_as_their_logarithms():
    drawn = pages.bars({"one": (10.0, 100.0), "two": (100.0, 1000.0)}, "a & b")
    assert 'aria-label="a &amp; b"' in drawn
    long, short, longest, as_long = (float(width) for width in re.findall(r'width="([\d.]+)"', drawn))
    assert short < long == as_long < longest
    assert longest - long == pytest.approx(long - short, abs=0.2)


def test_a_bar_of_nothing_has_no_length_and_names_are_escaped():
    drawn = pages.bars({"<b>": (0.0,), "some": (4.0,)}, "t")
    assert "&lt;b&gt;" in drawn and 'width="0.0"' in drawn


def test_lines_rise_with_their_values_and_names_lie_apart():
    drawn = pages.lines({"a": [(1, 1.0), (10, 10.0)], "b": [(1, 5.0), (10, 9.9)]}, "t", "x")
    one, two = (path.split() for path in re.findall(r'points="([^"]+)"', drawn))  # the lower end first
    assert float(one[0].split(",")[1]) > float(one[1].split(",")[1])
    assert float(two[1].split(",")[1]) < float(one[1].split(",")[1])
    names = [float(y) for y in re.findall(r'<text class="[a-e]" x="[\d.]+" y="([\d.-]+)"', drawn)]
    assert names[0] - names[1] >= 15
