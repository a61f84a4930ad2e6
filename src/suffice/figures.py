"""Write a chart to a file of its own: one self-contained HTML page, or a picture."""

from pathlib import Path
from typing import Any

from suffice.errors import InputError, writing

FORMATS = (".html", ".svg", ".png")


def check_figure(path: Path) -> None:
    """Raise InputError for a name with another ending than `FORMATS`; call it before long work."""
    if path.suffix not in FORMATS:
        raise InputError(f"cannot draw {path}", hint=f"name a file {', '.join(FORMATS)}")


def save_figure(path: Path, chart: Any) -> None:
    """Write an altair chart; an HTML page holds data and script, and needs no network.

    Raises InputError for another ending, or when the disk refuses.
    """
    check_figure(path)
    with writing(path):
        chart.save(str(path), **({"inline": True} if path.suffix == ".html" else {}))
