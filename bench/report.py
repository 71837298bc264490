"""From samples to a table: medians, ratios, verdicts; for the terminal, for Markdown, for JSON."""

import importlib.util
import math
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from bench.model import COST, RATE, SPEED, Row, Sample

_HEADINGS: Final = ("", "etcd 3.5.1", "Kvorum", "ratio", "to reach", "", "of the best rounds")

BUSY: Final = (
    "the machine was busy with other work at the start: that costs etcd, which uses every core, more than "
    "Kvorum; the ratio of the best rounds says more, a quiet machine most"
)
_BUSY_LOAD: Final = 0.7


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the table: each server's medians (None: not run) and best figures (NaN: not run)."""

    row: Row
    etcd: Sample | None
    kvorum: Sample | None
    etcd_best: float = math.nan
    kvorum_best: float = math.nan

    @property
    def ratio(self) -> float:
        """Kvorum / etcd, or for SPEED etcd / Kvorum; of the medians. NaN: not comparable."""
        if self.etcd is None or self.kvorum is None:
            return math.nan
        return self._ratio(self.etcd.value, self.kvorum.value)

    @property
    def best_ratio(self) -> float:
        """The same of each server's best round."""
        return self._ratio(self.etcd_best, self.kvorum_best)

    def _ratio(self, etcd: float, kvorum: float) -> float:
        if not etcd or not kvorum:
            return math.nan
        return etcd / kvorum if self.row.kind == SPEED else kvorum / etcd

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None without a target or a ratio."""
        if self.row.target is None or math.isnan(self.ratio):
            return None
        return self.ratio <= self.row.target if self.row.kind == COST else self.ratio >= self.row.target

    def cells(self) -> tuple[str, ...]:
        """Return the texts of the table's columns."""
        return (
            self.row.title,
            cell(self.row, self.etcd),
            cell(self.row, self.kvorum),
            ratio_text(self.row, self.ratio),
            target_text(self.row),
            {None: "", True: "yes", False: "**no**"}[self.reached],
            ratio_text(self.row, self.best_ratio),
        )


def median(samples: Sequence[Sample]) -> Sample | None:
    """Return the medians of each figure, None for no samples."""
    if not samples:
        return None
    return Sample(*(statistics.median(figure) for figure in zip(*map(astuple, samples), strict=True)))


def best(row: Row, samples: Sequence[Sample]) -> float:
    """Return the best round's figure, NaN for no samples."""
    values = [sample.value for sample in samples] or [math.nan]
    return max(values) if row.kind == RATE else min(values)


def lines(rows: Sequence[Row], samples: Mapping[str, Mapping[str, Sequence[Sample]]]) -> list[Line]:
    """Return the table's lines."""
    made = []
    for row in rows:
        etcd, kvorum = samples[row.name].get("etcd", ()), samples[row.name].get("kvorum", ())
        made.append(Line(row, median(etcd), median(kvorum), best(row, etcd), best(row, kvorum)))
    return made


def cell(row: Row, sample: Sample | None) -> str:
    """Return a figure with its unit, and the latencies behind it."""
    if sample is None:
        return "-"
    figure = f"{_figure(sample.value)} {row.unit}".replace(" /s", "/s")
    unit = "" if row.unit == "ms" else " ms"
    behind = {
        f"p50 {_figure(sample.p50_ms)}{unit}": sample.p50_ms,
        f"p99 {_figure(sample.p99_ms)}{unit}": sample.p99_ms,
        f"worst {_figure(sample.worst_ms)}{unit}": sample.worst_ms,
        f"generator {sample.generator_share:.0%} of a core": sample.generator_share,
    }
    # In a row of durations the figure is one of them, which need not be told twice.
    told = [
        text for text, value in behind.items() if not math.isnan(value) and (unit or value != sample.value)
    ]
    return f"{figure} ({', '.join(told)})" if told else figure


def _figure(value: float) -> str:
    """Return three significant digits; what is past a thousand in full."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio_text(row: Row, ratio: float) -> str:
    """Return ``1.23x``, or ``22x faster`` (``slower``) for SPEED."""
    if math.isnan(ratio):
        return "-"
    if row.kind != SPEED:
        return f"{ratio:.2f}x"
    return f"{_figure(ratio)}x faster" if ratio >= 1 else f"{_figure(1 / ratio)}x slower"


def target_text(row: Row) -> str:
    """Return what the ratio should be."""
    if row.target is None:
        return ""
    return f"{'≤' if row.kind == COST else '≥'} {row.target:g}x{' faster' if row.kind == SPEED else ''}"


def table(all_lines: Sequence[Line]) -> Table:
    """Return the table for a terminal."""
    made = Table(*_HEADINGS)
    for column in (*made.columns[1:4], made.columns[6]):
        column.justify = "right"
    for line in all_lines:
        cells = [text.strip("*") for text in line.cells()]
        made.add_row(*cells, style="" if line.reached is not False else "yellow")
    return made


def markdown(all_lines: Sequence[Line], about: Mapping[str, Any]) -> str:
    """Return the section for ``bench/RESULTS.md``."""
    text = [f"## {about['date']}", "", f"`{about['command']}`", ""]
    text += [f"- {name}: {value}" for name, value in about.items() if name not in ("date", "command")]
    text += ["", "| " + " | ".join(_HEADINGS) + " |", "|---|---:|---:|---:|---|---|---:|"]
    text += ["| " + " | ".join(line.cells()) + " |" for line in all_lines]
    return "\n".join(text) + "\n"


def as_json(
    all_lines: Sequence[Line],
    samples: Mapping[str, Mapping[str, Sequence[Sample]]],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Return everything that was measured, for machines: NaN becomes null."""

    def clean(sample: Sample) -> dict[str, float | None]:
        return {name: None if math.isnan(value) else value for name, value in asdict(sample).items()}

    return {
        "about": dict(about),
        "rows": [
            {
                "name": line.row.name,
                "title": line.row.title,
                "unit": line.row.unit,
                "ratio": None if math.isnan(line.ratio) else line.ratio,
                "best_ratio": None if math.isnan(line.best_ratio) else line.best_ratio,
                "target": line.row.target,
                "reached": line.reached,
                "samples": {
                    server: [clean(sample) for sample in each]
                    for server, each in samples[line.row.name].items()
                },
            }
            for line in all_lines
        ],
    }


def machine() -> dict[str, str]:
    """Return what the figures depend on: the machine and the versions, nothing that names either's owner."""
    cpu = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    memory = _read("/proc/meminfo").split()
    load = os.getloadavg()
    return {
        "machine": f"{os.cpu_count()} cores, {cpu[0].split(': ')[1] if cpu else platform.machine()}",
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "system": f"{platform.system()} {platform.release()}",
        "load generator": _first_line(["h2load", "--version"]),
        "Python": f"{platform.python_implementation()} {platform.python_version()}, Kvorum {_form()}",
        "load average at the start": "{:.1f} {:.1f} {:.1f}".format(*load),
        **({"beware": BUSY} if load[0] > _BUSY_LOAD else {}),
    }


def _form() -> str:
    """Return whether the hot modules are compiled."""
    spec = importlib.util.find_spec("kvorum.rpc.http2")
    return "interpreted" if spec is None or str(spec.origin).endswith(".py") else "compiled"


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def _first_line(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
