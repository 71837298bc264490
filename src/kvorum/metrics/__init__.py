"""A side room: figures about the process and its work, for Prometheus.

``registry.py`` holds histograms and writes the page, ``catalogue.py`` knows every name, ``process.py`` and
``calls.py`` find the figures of the process and of the gRPC calls. Knows no other room: whoever has a
figure is asked through a function (`Metrics.bind`). Deliberately not here: counting itself, which is plain
integers where things happen.
"""

from kvorum.metrics.calls import bind_calls
from kvorum.metrics.process import bind_process
from kvorum.metrics.registry import Figure, Histogram, Labels, Metrics, Source, histogram

__all__ = ["Figure", "Histogram", "Labels", "Metrics", "Source", "bind_calls", "bind_process", "histogram"]
