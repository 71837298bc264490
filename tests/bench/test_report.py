"""What the table says about given samples."""

import io
import json
import math
from typing import Any

import pytest
from bench.model import COST, RATE, SPEED, Bench, Row, Sample
from bench.report import Line
from bench.rows import ROWS
from rich.console import Console

from bench import report


def _unmeasured(_: Bench) -> Sample:
    raise AssertionError("not measured here")


def _row(kind: str, target: float | None, unit: str = "ms") -> Row:
    return Row("name", "title", kind, unit, target, _unmeasured)


@pytest.mark.parametrize(
    ("kind", "etcd", "kvorum", "ratio", "text", "reached"),
    [
        (RATE, 100.0, 150.0, 1.5, "1.50x", True),
        (RATE, 100.0, 99.0, 0.99, "0.99x", False),
        (COST, 10.0, 5.0, 0.5, "0.50x", True),
        (COST, 10.0, 11.0, 1.1, "1.10x", False),
        (SPEED, 50.0, 2.0, 25.0, "25.0x faster", True),
        (SPEED, 2.0, 50.0, 0.04, "25.0x slower", False),
    ],
)
def test_ratio_and_verdict(
    kind: str, etcd: float, kvorum: float, ratio: float, text: str, reached: bool
) -> None:
    line = Line(_row(kind, 1.0), Sample(etcd), Sample(kvorum))
    assert math.isclose(line.ratio, ratio)
    assert report.ratio_text(line.row, line.ratio) == text
    assert line.reached is reached


def test_one_server_alone_has_no_ratio() -> None:
    line = Line(_row(RATE, 1.0), Sample(5.0), None)
    assert math.isnan(line.ratio)
    assert line.reached is None
    assert line.cells() == ("title", "5.00 ms", "-", "-", "≥ 1x", "", "-")


def test_cells_show_the_latencies_behind_a_figure() -> None:
    assert report.cell(_row(RATE, None, "/s"), Sample(35_021.4, 20.66, 84.42)) == (
        "35,021/s (p50 20.7 ms, p99 84.4 ms)"
    )
    assert report.cell(_row(COST, None), Sample(0.199, 0.199, 0.41)) == "0.20 ms (p99 0.41)"
    assert report.cell(_row(COST, None, "MiB"), Sample(1490.0)) == "1,490 MiB"
    expiry = Sample(12.5, 0.5, 12.5, worst_ms=40.0, generator_share=0.071)
    assert report.cell(_row(COST, None), expiry) == "12.5 ms (p50 0.50, worst 40.0, generator 7% of a core)"


@pytest.mark.parametrize(("kind", "text"), [(RATE, "0.60x"), (COST, "0.25x"), (SPEED, "4.00x faster")])
def test_the_best_rounds_are_compared_too(kind: str, text: str) -> None:
    samples = {"name": {"etcd": [Sample(10.0), Sample(4.0)], "kvorum": [Sample(6.0), Sample(1.0)]}}
    (line,) = report.lines([_row(kind, None)], samples)
    assert line.cells()[-1] == text


def test_medians_are_of_each_figure() -> None:
    assert report.median([]) is None
    assert report.median([Sample(1, 10, 30), Sample(9, 20, 10), Sample(3, 60, 20)]) == Sample(3, 20, 20)


def test_every_form_of_the_table_has_every_row() -> None:
    samples = {row.name: {"etcd": [Sample(4.0, 1.0, 2.0)], "kvorum": [Sample(2.0)]} for row in ROWS}
    lines = report.lines(ROWS, samples)
    about = {"date": "2026-01-02", "command": "python -m bench", "machine": "2 cores"}
    text = report.markdown(lines, about)
    assert text.startswith("## 2026-01-02\n\n`python -m bench`\n\n- machine: 2 cores\n")
    console = Console(width=240, file=io.StringIO(), record=True)
    console.print(report.table(lines))
    shown = console.export_text()
    for row in ROWS:
        assert f"| {row.title} | " in text
        assert row.title in shown
    written: dict[str, Any] = json.loads(json.dumps(report.as_json(lines, samples, about), allow_nan=False))
    assert [row["name"] for row in written["rows"]] == [row.name for row in ROWS]
    assert written["rows"][0]["samples"]["kvorum"] == [
        {"value": 2.0, "p50_ms": None, "p99_ms": None, "worst_ms": None, "generator_share": None}
    ]


def test_rows_have_names_of_their_own() -> None:
    assert len({row.name for row in ROWS}) == len(ROWS)
