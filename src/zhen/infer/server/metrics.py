"""What Prometheus reads of the server: counts and times, nothing of what was asked or answered."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The counters of one server."""

    def __init__(self, held: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "zhen_requests", "Requests by route and status", ("route", "status"), registry=self.registry
        )
        self.tokens = Counter("zhen_tokens", "Tokens read and made", ("kind",), registry=self.registry)
        self.gone = Counter("zhen_disconnects", "Answers that nobody waited for any more", registry=self.registry)
        self.seconds = Histogram(
            "zhen_request_seconds", "From a request to the end of its answer", ("route",),
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        self.first = Histogram(
            "zhen_first_token_seconds", "From a request to the first piece of its answer",
            registry=self.registry, buckets=_SECONDS,
        )  # fmt: skip
        gauge = Gauge("zhen_requests_held", "Requests waiting or running", registry=self.registry)
        gauge.set_function(held)

    def text(self) -> bytes:
        """In Prometheus' format."""
        return generate_latest(self.registry)
