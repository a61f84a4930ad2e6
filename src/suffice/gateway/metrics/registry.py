"""Metrics for Prometheus: plain dictionaries that a request adds to, written out when scraped.

Written here and not by prometheus-client, because its workers share memory-mapped files and its
counters take a lock, and all that is needed is to add to a number. Each worker keeps its own values
and publishes them to a folder; whichever worker is scraped answers for all, under a label `worker`.
Not for several threads: an event loop adds, and scrapes what it added. Label values never come from
a client, so that the number of series is bounded by the configuration.

Names are those of the OpenTelemetry GenAI conventions where there is one.
"""

import os
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from suffice.errors import InputError
from suffice.gateway.metrics.families import FAMILIES, PUBLISHED, Family

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, ...]
Series = dict[Labels, list[float]]


class Metrics:
    """One worker's values; labels are given in the order that their family names them.

    A counter or gauge is one number; a histogram is a count for each bucket, one for what is
    above all of them, and the sum.
    """

    def __init__(self) -> None:
        self._series: dict[str, Series] = {family.name: {} for family in FAMILIES}

    def add(self, family: Family, labels: Labels = (), amount: float = 1.0) -> None:
        """Add to a counter, or to a gauge that counts up and down."""
        series = self._series[family.name]
        value = series.get(labels)
        if value is None:
            series[_checked(family, labels)] = [amount]
        else:
            value[0] += amount

    def set(self, family: Family, labels: Labels = (), *, to: float) -> None:
        """Set a gauge, or a counter that is kept elsewhere."""
        self._series[family.name][_checked(family, labels)] = [to]

    def observe(self, family: Family, labels: Labels = (), *, value: float) -> None:
        """Put a value into its bucket of a histogram."""
        series = self._series[family.name]
        counts = series.get(labels)
        if counts is None:
            counts = series[_checked(family, labels)] = [0.0] * (len(family.buckets) + 2)
        counts[bisect_left(family.buckets, value)] += 1.0
        counts[-1] += value

    def clear(self, family: Family) -> None:
        """Forget a gauge's series, before those that still hold are set."""
        self._series[family.name].clear()

    def values(self) -> "Values":
        """Copy all values, to publish or to expose."""
        return {
            name: [(labels, list(value)) for labels, value in series.items()]
            for name, series in self._series.items()
            if series
        }


Values = dict[str, list[tuple[Labels, list[float]]]]


def expose(workers: Mapping[str, Values]) -> str:
    """Write the values of all workers in Prometheus' text format, families in their fixed order."""
    return "".join(line for family in FAMILIES for line in _family_lines(family, workers) if line)


def publish(folder: Path, worker: str, metrics: Metrics, *, now_s: float) -> None:
    """Leave a worker's values for the others to find, whole or not at all; `now_s` since 1970.

    Raises OSError when the disk refuses.
    """
    metrics.set(PUBLISHED, to=now_s)
    draft = folder / f".{worker}.draft"
    draft.write_bytes(msgspec.msgpack.encode(metrics.values()))
    os.replace(draft, folder / f"{worker}.metrics")  # noqa: PTH105 - the pair of names is plainer


def gather(folder: Path) -> dict[str, Values]:
    """Read what the workers last published, by the name of each worker."""
    return {
        path.stem: msgspec.msgpack.decode(path.read_bytes(), type=Values)
        for path in sorted(folder.glob("*.metrics"))
    }


def _family_lines(family: Family, workers: Mapping[str, Values]) -> Iterator[str]:
    samples = [
        (worker, labels, value)
        for worker, values in workers.items()
        for labels, value in values.get(family.name, ())
    ]
    if samples:
        yield f"# HELP {family.name} {_escape_help(family.help)}\n"
        yield f"# TYPE {family.name} {family.kind}\n"
    for worker, labels, value in samples:
        pairs = dict(zip(family.labels, labels, strict=True)) | {"worker": worker}
        if family.kind == "histogram":
            yield from _histogram_lines(family, pairs, value)
        else:
            yield _line(family.name, pairs, value[0])


def _histogram_lines(family: Family, pairs: Mapping[str, str], value: list[float]) -> Iterator[str]:
    """Write the buckets of one series: each counts what is at or below its bound."""
    below = 0.0
    for bound, count in zip((*family.buckets, float("inf")), value[:-1], strict=True):
        below += count
        yield _line(f"{family.name}_bucket", {**pairs, "le": _number(bound)}, below)
    yield _line(f"{family.name}_sum", pairs, value[-1])
    yield _line(f"{family.name}_count", pairs, below)


def _line(name: str, pairs: Mapping[str, str], value: float) -> str:
    labels = ",".join(f'{key}="{_escape(text)}"' for key, text in pairs.items())
    return f"{name}{{{labels}}} {_number(value)}\n"


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(int(value)) if value.is_integer() else repr(value)


def _escape(text: str) -> str:
    text = text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return text.encode("utf-8", "replace").decode()


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _checked(family: Family, labels: Labels) -> Labels:
    if len(labels) != len(family.labels):
        raise InputError(
            f"{family.name} takes labels {family.labels}, got {labels}",
            hint="give one value for each, in that order",
        )
    return labels
