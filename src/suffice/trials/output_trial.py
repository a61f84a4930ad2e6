"""What all readers of evaluation tools share: a trial from loosely typed fields."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from suffice.errors import InputError
from suffice.types import JSON, Count, CountSource, Trial, TrialStatus, Usage

Knows = Callable[[Any], bool]
Reader = Callable[[Path, Any], Iterator[Trial]]

_MOST = 10**12  # tokens, dollars or seconds of one trial
_MOST_QUALITIES = "scale scores to [0, 1], or name one of the metrics `quality` in plain JSONL"


def output_trial(quality: Any, *, at: str, **fields: Any) -> Trial:
    """Make one trial; a quality that is no number leaves it unscored."""
    if isinstance(quality, bool | int | float) and quality == quality:
        if not 0 <= quality <= 1:
            raise InputError(f"{at}: a score of {quality}, outside [0, 1]", hint=_MOST_QUALITIES)
        status, score = TrialStatus.SCORED, float(quality)
    else:
        status, score = TrialStatus.UNSCORED, None
    if fields.get("error"):
        status, score = TrialStatus.FAILED, None
    if not _is_amount(fields.get("duration_s")):
        fields["duration_s"] = None
    return Trial(**{"text": "", "status": status, "quality": score, **fields})


def stated_usage(**counts: Any) -> Usage:
    """Return the counts that are numbers of 0 or more, as reported."""
    known: JSON = {
        f"{name}_tokens": Count(int(tokens), CountSource.REPORTED)
        for name, tokens in counts.items()
        if _is_amount(tokens)
    }
    return Usage(**known)


def stated_usd(cost: Any) -> Decimal | None:
    """Return a cost of 0 or more; None for anything else."""
    return Decimal(str(cost)) if _is_amount(cost) else None


def _is_amount(value: Any) -> bool:
    """Whether a value is a number that tokens, dollars or seconds may be."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and 0 <= value <= _MOST


def text_of(value: Any) -> str | None:
    """Return a value as text; None stays."""
    return None if value is None else value if isinstance(value, str) else str(value)


def stem_of(path: Path) -> str:
    """Return a file's name without its ending, and without that of its packing."""
    return path.with_suffix("").stem if path.suffix == ".gz" else path.stem


def all_have(*keys: str) -> Knows:
    """Tell an object by its keys."""
    return lambda row: isinstance(row, dict) and all(key in row for key in keys)


def list_of(*keys: str) -> Knows:
    """Tell a list by the keys of its first object."""
    return lambda whole: isinstance(whole, list) and bool(whole) and all_have(*keys)(whole[0])
