"""Published accuracies on WorldPrediction-WM, to print beside our own."""

import datetime as dt
import functools
import tomllib
from importlib import resources

import msgspec
from msgspec import Struct


class PublishedAccuracies(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Accuracies in percent by system, with the page and the day they were read."""

    source: str
    date: dt.date
    percent: dict[str, float]


@functools.cache
def worldprediction() -> PublishedAccuracies:
    """Read the published accuracies, the best first."""
    text = resources.files("suffice.evidence").joinpath("worldprediction.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), PublishedAccuracies)
