"""The look of all charts, and the parts of a figure: a finding, a chart, and its table.

Charts have the colours of a light page; a dark page replaces them by its own. On both, colour-blind
people can tell all hues apart (after Okabe and Ito, 2008).
"""

import json
import math
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path
from typing import Any

import altair as alt
from msgspec import Struct

from suffice.errors import InputError
from suffice.files import write_file
from suffice.report.style import PALETTE

VEGALITE = "6.4"
_LIGHT = {name: on_light for name, (on_light, _) in PALETTE.items()}
CARD, INK, MUTED, GRID = (_LIGHT[name] for name in ("card", "ink", "muted", "grid"))
GREY, BLUE, SKY, GREEN = (_LIGHT[name] for name in ("grey", "blue", "sky", "green"))
AMBER, PURPLE, VERMILION = (_LIGHT[name] for name in ("amber", "purple", "vermilion"))
_LADDER = (SKY, BLUE, GREEN, AMBER, PURPLE)
_LOG_FROM = 8.0  # values further apart than this ratio get a logarithmic axis
_LETTER = 0.033  # width of a letter, as a share of a bar's length on a phone
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif"
_LONG = 18  # most letters of a name in a label
_BAR = 26
MORE = " and "  # between a point's name and the number of those in the same place

Cells = tuple[str, ...]
Point = dict[str, Any]
Chart = Any  # altair types its operators as any kind of chart


class Figure(Struct, frozen=True, kw_only=True):
    """One section: `title` states the finding; `chart` is None if there is nothing to draw.

    `alt` describes the chart for people who cannot see it. `header` and `rows` are its numbers.
    """

    title: str
    caption: str
    alt: str = ""
    chart: Chart = None
    height: int = 260
    header: Cells = ()
    rows: tuple[Cells, ...] = ()


def spec(figure: Figure) -> str:
    """Return a figure's chart as Vega-Lite JSON that is safe inside a `<script>` element."""
    chart = figure.chart.properties(width="container", height=figure.height)
    tree = chart.configure(background="transparent", **_config()).configure_view(stroke=None)
    vega = tree.to_dict(validate=False)  # which takes half of the time; tests validate
    del vega["$schema"]
    return json.dumps(vega, separators=(",", ":")).replace("<", "\\u003c")


@cache
def script() -> str:
    """Return the Vega library and the code that draws with it, as one JavaScript module.

    Making it takes a second, so it is kept among the user's caches.
    """
    from importlib.metadata import version
    from importlib.resources import files

    import vl_convert

    snippet = files("suffice.report").joinpath("draw.js").read_text("utf-8")
    parts = (snippet, version("vl-convert-python"), VEGALITE)
    name = f"charts-{blake2b(repr(parts).encode(), digest_size=8).hexdigest()}.js"
    caches = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "suffice"
    with suppress(OSError, RuntimeError, UnicodeDecodeError):  # RuntimeError: nobody's home
        return (caches.expanduser() / name).read_text("utf-8")
    module = str(vl_convert.javascript_bundle(snippet, vl_version=VEGALITE))
    with suppress(OSError, RuntimeError, InputError):
        folder = caches.expanduser()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(folder / name, module)
    return module


def ladder_colours(rungs: Sequence[str], *, references: Collection[str]) -> dict[str, str]:
    """Return the colour of each rung: a reference is grey, the others follow the ladder."""
    others = [rung for rung in rungs if rung not in references]
    colours = {rung: _LADDER[i % len(_LADDER)] for i, rung in enumerate(others)}
    return {rung: colours.get(rung, GREY) for rung in rungs}


class PlottedData(alt.InlineData):
    """Inline data that is neither copied nor checked with each of the layers that share it.

    Both take longer than drawing does, with a year of days.
    """

    _class_is_valid_at_instantiation = False

    def __deepcopy__(self, memo: object = None) -> "PlottedData":
        """Return the data itself: nothing changes it."""
        return self


def data(points: Sequence[Point]) -> Any:
    """Return inline chart data."""
    return PlottedData(values=list(points))


def colour() -> alt.Color:
    """Encode the `colour` field of a mark as its colour."""
    return alt.Color("colour:N", scale=None)


def quoted(name: object) -> str:
    """Put a user's name, such as a rung called `none`, in quotation marks."""
    return f"\u201c{name}\u201d"


def dollars(values: Sequence[float]) -> str:
    """Return the d3 format of an axis of dollars, without exponents and without m for 1/1000."""
    high = max(map(abs, values))
    return "$,.0f" if high >= 20 else "$,.2f" if high >= 0.1 else "$,.3~r"


def along(
    channel: type[alt.X] | type[alt.Y],
    field: str,
    values: Sequence[float],
    *,
    title: str,
    form: str,
    zero: bool = False,
) -> Chart:
    """Encode a quantity on an axis that spans `values`, logarithmic if they lie far apart."""
    low, high = min(values), max(values)
    if zero:
        domain = [min(low, 0.0) - 0.06 * (high - min(low, 0.0)), high + 0.14 * (high - low or 1.0)]
    elif 0 < low < high / _LOG_FROM:
        span = alt.Scale(type="log", domain=[low / 1.5, high * 1.5], nice=False)
        axis = alt.Axis(title=title, format=form, values=_decades(low / 1.5, high * 1.5))
        return channel(f"{field}:Q", scale=span, axis=axis)
    else:
        margin = 0.12 * (high - low) or 0.1 * abs(high) or 1.0
        domain = [low - margin, high + margin]
    axis = alt.Axis(title=title, format=form, tickCount=4, labelOverlap=True)
    return channel(f"{field}:Q", scale=alt.Scale(domain=domain, zero=False, nice=False), axis=axis)


def _decades(low: float, high: float) -> list[float]:
    """Return the ticks of a logarithmic axis: powers of ten, and on a short axis 2 and 5 times."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
    ticks = [float(f"{step}e{power}") for power in powers for step in steps]
    return [tick for tick in ticks if low <= tick <= high]


def down(names: Sequence[str]) -> alt.Y:
    """Encode the `name` of each point as a row, in the order of `names`."""
    labels = alt.Axis(title=None, grid=False, labelFontSize=13, labelLimit=150)
    return alt.Y("name:N", sort=list(names), axis=labels)


def is_ours(name: str) -> bool:
    """Whether a point is suffice's, alone or with others in the same place."""
    return name.partition(MORE)[0] == "suffice"


def labelled(points: Sequence[Point], *, x: alt.X, y: alt.Y, middle: float) -> Chart:
    """Write each point's name beside it, on the side with room, and `dy` pixels down."""
    field = str(x.shorthand).split(":")[0]
    layers = []
    for point in points:
        right = point[field] > middle
        text = alt.Chart(data([point])).mark_text(
            align="right" if right else "left",
            dx=-14 if right else 14,
            dy=point["dy"],
            limit=170,
            fontWeight=700 if is_ours(point["name"]) else 400,
        )
        layers.append(text.encode(x=x, y=y, text=alt.Text("name:N")))
    return alt.layer(*layers)


def stacked(shares: Mapping[str, Mapping[str, float]], *, colours: Mapping[str, str]) -> Chart:
    """Draw one bar of shares for each name, every part in the order and colour of `colours`."""
    parts = [part for name, bar in shares.items() for part in _parts(name, bar, colours)]
    labels = [
        label for name in shares for label in _labels([p for p in parts if p["name"] == name])
    ]
    across = alt.Scale(domain=[0, 1])
    blocks = alt.Chart(data(parts)).mark_bar(size=_BAR, stroke=CARD)
    layers = [
        blocks.encode(
            y=down(list(shares)),
            x=alt.X("start:Q", scale=across, axis=None),
            x2=alt.X2("end:Q"),
            color=colour(),
            tooltip=[alt.Tooltip("part:N"), alt.Tooltip("share:Q", format=".1%")],
        )
    ]
    for label in labels:
        dy = -_BAR // 2 - 9 if label["side"] == "above" else _BAR // 2 + 11
        text = alt.Chart(data([label])).mark_text(align=label["align"], dy=dy)
        at = alt.X("at:Q", scale=across, axis=None)
        layers.append(text.encode(text=alt.Text("text:N"), x=at, y=down(list(shares))))
    return alt.layer(*layers)


def _parts(name: str, shares: Mapping[str, float], colours: Mapping[str, str]) -> list[Point]:
    """Return the parts of one bar, end to end."""
    ends = list(accumulate(shares.get(part, 0.0) for part in colours))
    points: list[Point] = [
        {"name": name, "part": part, "share": shares.get(part, 0.0), "end": end, "colour": hue}
        for (part, hue), end in zip(colours.items(), ends, strict=True)
    ]
    return [p | {"start": p["end"] - p["share"]} for p in points if p["share"] > 0]


def _labels(parts: Sequence[Point]) -> list[Point]:
    """Place a label above or below each part, the largest first, if it fits on a phone."""
    labels: list[Point] = []
    for part in sorted(parts, key=lambda part: -part["share"]):
        name = part["part"] if len(part["part"]) <= _LONG else f"{part['part'][:_LONG]}\u2026"
        text = f"{name} {100 * part['share']:.0f} %"
        width = _LETTER * len(text)
        start, end = part["start"], part["start"] + width
        place: Point = {"at": start, "from": start, "to": end, "align": "left"}
        if end > 1.0:
            end = part["end"]
            place = {"at": end, "from": end - width, "to": end, "align": "right"}
        for side in ("above", "below"):
            label = place | {"name": part["name"], "text": text, "side": side}
            if not any(_collide(label, other) for other in labels):
                labels.append(label)
                break
    return labels


def _collide(one: Point, other: Point) -> bool:
    apart = one["from"] >= other["to"] or other["from"] >= one["to"]
    return one["side"] == other["side"] and not apart


def bars(points: Sequence[Point], *, title: str) -> Chart:
    """Draw a horizontal bar of dollars for each point: `name`, `value`, `label` and `colour`."""
    values = [point["value"] for point in points]
    low = min(0.0, *values)
    room = [1 - min(_LETTER * len(point["label"]), 0.7) for point in points]  # beside each label
    reach = max((max(0.0, v) - low) / share for v, share in zip(values, room, strict=True))
    ends = [low, low + reach or 1.0]
    x = along(alt.X, "value", ends, title=title, form=dollars(values), zero=True)
    rows = alt.Chart(data([point | {"label_at": max(0.0, point["value"])} for point in points]))
    rows = rows.encode(y=down([point["name"] for point in points]))
    blocks = rows.mark_bar(size=_BAR, cornerRadiusEnd=3).encode(x=x, color=colour())
    labels = rows.mark_text(align="left", dx=7).encode(
        x=alt.X("label_at:Q"), text=alt.Text("label:N")
    )
    return blocks + labels


def _config() -> dict[str, Any]:
    fonts = {"labelFont": _FONT, "titleFont": _FONT, "labelColor": MUTED, "titleColor": MUTED}
    axes = fonts | {
        "labelFontSize": 12,
        "titleFontSize": 12.5,
        "titleFontWeight": "normal",
        "domain": False,
        "ticks": False,
        "gridColor": GRID,
        "labelPadding": 6,
        "titlePadding": 10,
    }
    above = {"titleAngle": 0, "titleAlign": "left", "titleAnchor": "end", "titleX": 0}
    return {
        "font": _FONT,
        "axis": axes,
        "axisX": {"titleAnchor": "end", "labelSeparation": 12},
        "axisY": above | {"titleY": -14, "titleBaseline": "bottom"},
        "text": {"font": _FONT, "fontSize": 13, "color": INK},
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": {"left": 2, "right": 6, "top": 4, "bottom": 2},
    }
