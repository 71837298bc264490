"""Metrics: counted for next to nothing where things happen, put into words when somebody asks.

Rooms on the hot path hold plain integers and `Histogram` objects; nobody locks and nothing is exported until
a scrape. `Metrics` knows where to find each figure (`bind`) and writes the Prometheus text format 0.0.4
itself: the client library would put ``_total`` behind names that etcd has without it, and takes ten times as
long. Names, types, labels and buckets come from ``catalogue.py``; only what has been bound is exposed.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias, final

from kvorum.metrics.catalogue import CATALOGUE, HISTOGRAM, Metric

Labels: TypeAlias = tuple[str, ...]
"""Label values, in the catalogue's (alphabetical) order of label names."""


@final
class Histogram:
    """Counts of observations by bucket; about a quarter of a microsecond each.

    One thread writes; a reader may see a bucket without its sum or the other way round, by one observation.
    Invariant: ``len(counts) == len(bounds) + 1``, the last one holding what is above every bound.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds: Final = list(bounds)
        self.counts: Final = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value, in the metric's unit (mostly seconds)."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)


Figure: TypeAlias = float | Histogram
Source: TypeAlias = Histogram | Callable[[], Figure | Mapping[Labels, Figure]]


def histogram(name: str) -> Histogram:
    """Return an empty histogram with the buckets that the catalogue has for a metric."""
    metric = CATALOGUE[name]
    assert metric.type == HISTOGRAM, name
    return Histogram(metric.buckets)


@final
class Metrics:
    """Where each metric's figure is found, and the page of all of them."""

    def __init__(self) -> None:
        self._sources: dict[str, Source] = {}
        self._prefixes: dict[tuple[str, Labels], str] = {}

    def bind(self, name: str, source: Source) -> None:
        """Expose a metric of the catalogue.

        Args:
            name: the metric's name; each is bound once.
            source: the histogram itself, or what is called at each scrape: it returns the figure, or for a
            metric
                with labels the figures by label values.
        """
        assert name in CATALOGUE, f"{name} is not in the catalogue"
        assert name not in self._sources, f"{name} is bound already"
        self._sources[name] = source

    def bound(self) -> frozenset[str]:
        """Return the names that are exposed."""
        return frozenset(self._sources)

    def render(self) -> bytes:
        """Return the page, metrics by name, in the text exposition format 0.0.4."""
        lines: list[str] = []
        for name in sorted(self._sources):
            metric, source = CATALOGUE[name], self._sources[name]
            figures = source if isinstance(source, Histogram) else source()
            lines.append(f"# HELP {name} {metric.help}\n# TYPE {name} {metric.type}\n")
            if isinstance(figures, Mapping):
                for labels in sorted(figures):
                    self._add(lines, metric, labels, figures[labels])
            else:
                self._add(lines, metric, (), figures)
        return "".join(lines).encode()

    def _add(self, lines: list[str], metric: Metric, labels: Labels, figure: Figure) -> None:
        prefix = self._prefixes.get((metric.name, labels))
        if prefix is None:
            prefix = self._prefixes[metric.name, labels] = _label_text(metric, labels)
        if isinstance(figure, Histogram):
            _add_histogram(lines, metric.name, prefix, figure)
        else:
            braces = f"{{{prefix}}}" if prefix else ""
            lines.append(f"{metric.name}{braces} {number(figure)}\n")


def _label_text(metric: Metric, labels: Labels) -> str:
    assert len(labels) == len(metric.labels), (metric.name, labels)
    return ",".join(f'{name}="{escape(value)}"' for name, value in zip(metric.labels, labels, strict=True))


def _add_histogram(lines: list[str], name: str, prefix: str, figure: Histogram) -> None:
    lead = prefix + "," if prefix else ""
    braces = f"{{{prefix}}}" if prefix else ""
    seen = 0
    for bound, count in zip(figure.bounds, figure.counts, strict=False):
        seen += count
        lines.append(f'{name}_bucket{{{lead}le="{number(bound)}"}} {seen}\n')
    seen += figure.counts[-1]
    lines.append(f'{name}_bucket{{{lead}le="+Inf"}} {seen}\n')
    lines.append(f"{name}_sum{braces} {number(figure.total)}\n{name}_count{braces} {seen}\n")


def escape(value: str) -> str:
    """Return a label value as the text format wants it."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


def number(value: float) -> str:
    """Return a number as Go prints it (``strconv`` format g): shortest digits, 1e6 and above as 1e+06.

    Bucket bounds are label values, so dashboards compare them as text.
    """
    if isinstance(value, int) and -1_000_000 < value < 1_000_000:
        return str(value)
    text = repr(float(value))
    if text in ("inf", "-inf", "nan"):
        return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}[text]
    mantissa, _, exponent = text.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return sign + "0"
    scale = point - 1
    if scale < -4 or scale >= 6:
        tail = "." + digits[1:] if len(digits) > 1 else ""
        return f"{sign}{digits[0]}{tail}e{'-' if scale < 0 else '+'}{abs(scale):02d}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    if len(digits) <= point:
        return sign + digits + "0" * (point - len(digits))
    return f"{sign}{digits[:point]}.{digits[point:]}"
