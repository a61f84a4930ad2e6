"""The bill as one self-contained HTML page, the picture of the money first."""

from collections.abc import Iterator
from typing import Any

import altair as alt

from suffice.bill.screen import PART_NAMES, next_step, show_effect, show_requests, show_tokens
from suffice.bill.sums import Bill, Line
from suffice.bill.what_if import WhatIf
from suffice.report.build import build_page, notes_section
from suffice.report.charts import (
    AMBER,
    BLUE,
    GREEN,
    GREY,
    PURPLE,
    SKY,
    VERMILION,
    Figure,
    along,
    bars,
    data,
    dollars,
    stacked,
)
from suffice.report.headline import Opening, Tile
from suffice.report.style import signed_usd
from suffice.units import show_share, show_usd

COLOURS = {
    "input": SKY,
    "read": BLUE,
    "write": AMBER,
    "output": GREEN,
    "reasoning": PURPLE,
    "unsplit": GREY,
}
_NAMES = {**PART_NAMES, "unsplit": "stated, not split"}
_MOST_BARS = 10
_LABELS = {
    "move-sessions": "30 % of sessions",
    "move-requests": "30 % of requests",
    "move-sub-agents": "sub-agents",
    "lapses": "shorter pauses",
    "missed-prefixes": "no missed prefixes",
    "batch": "batch tier",
    "flex": "flex tier",
    "repeats": "repeated prompts",
}


def bill_page(bill: Bill) -> str:
    """Write the page; names of the log are escaped, and no text of a request is in it."""
    skipped = [
        f"Skipped {'the whole file' if one.rows is None else f'{one.rows:,} rows'} of {one.path}: "
        f"{one.reason}"
        for one in bill.skipped
    ]
    return build_page(
        _opening(bill),
        list(_figures(bill)),
        source=", ".join(bill.sources),
        tail=notes_section([*bill.notes, next_step(bill).replace("\n", " \u2014 "), *skipped]),
    )


def _opening(bill: Bill) -> Opening:
    whole, span = bill.whole, bill.period
    kicker = f"Bill of {', '.join(bill.formats)}"
    if span.first is not None and span.last is not None and span.first.year > 1971:
        kicker += f", {span.first:%-d %B %Y} to {span.last:%-d %B %Y}"
    parts = sorted(PART_NAMES, key=lambda part: -whole.share(part))
    first, second = parts[:2]
    best = max(_to_the_bill(bill), key=lambda change: change.saving_usd or 0, default=None)
    tiles = [
        Tile(name="spent", value=show_usd(whole.usd), note=show_requests(whole.requests)),
        Tile(
            name="tokens in",
            value=show_tokens(whole.tokens["input"]),
            note=_part_note(whole, "cache_read", "input", "read from a cache"),
        ),
        Tile(
            name="tokens out",
            value=show_tokens(whole.tokens["output"]),
            note=_part_note(whole, "reasoning", "output", "of them reasoning"),
        ),
    ]
    if best is not None and (best.saving_usd or 0) > 0:
        tiles.append(
            Tile(name="largest what-if", value=show_effect(best), note=f"{best.title}; unproven")
        )
    lede = (
        f"{show_share(whole.share(first))} of it bought {PART_NAMES[first]}, "
        f"{show_share(whole.share(second))} {PART_NAMES[second]}."
    )
    if whole.unknown_requests:
        lede += f" The cost of {whole.unknown_requests:,} more requests is unknown."
    return Opening(
        kicker=kicker,
        headline=f"{show_usd(whole.usd)} for {show_requests(whole.requests)}",
        lede=lede,
        tiles=tuple(tiles),
    )


def _part_note(line: Line, part: str, whole: str, words: str) -> str:
    """Write the share of a kind of tokens, or that the log does not state it."""
    count, total = line.tokens[part], line.tokens[whole]
    if count is None or not total:
        return f"the log does not state how many were {words.removeprefix('of them ')}"
    return f"{show_share(count / total)} {words}"


def _figures(bill: Bill) -> Iterator[Figure]:
    yield _parts_figure(bill)
    yield _changes_figure(bill)
    yield _days_figure(bill.lines["day"], timezone=bill.period.timezone)
    for name, title in {
        "model": "Models",
        "session": "Sessions",
        "agent": "Main agents and sub-agents",
        "key": "Keys and users",
        "tag": "Tags",
    }.items():
        yield _lines_figure(bill.lines[name], title=title)
    yield Figure(
        title="What the log states, beside list prices",
        caption="Requests with both; the reason is named where one explains the difference."
        if bill.stated
        else "The log states no dollars.",
        header=("model", "requests", "stated", "at list prices", "difference"),
        rows=tuple(
            (
                one.model,
                f"{one.requests:,}",
                show_usd(one.stated_usd),
                show_usd(one.computed_usd),
                one.reason,
            )
            for one in bill.stated
        ),
    )


def _parts_figure(bill: Bill) -> Figure:
    """Draw one bar a model, split by what the money bought; the whole bill on top."""
    models = [line for line in bill.lines["model"] if line.usd][:6]
    shown = [bill.whole, *models] if len(models) > 1 else [bill.whole]
    names = ["whole bill", *(line.name for line in models)] if len(models) > 1 else ["whole bill"]
    shares = {
        f"{name}": {
            _NAMES[part]: float(getattr(line, f"{part}_usd") / line.usd) if line.usd else 0.0
            for part in COLOURS
        }
        for name, line in zip(names, shown, strict=True)
    }
    top = max(PART_NAMES, key=bill.whole.share)
    return Figure(
        title=f"Where the money goes: {PART_NAMES[top]} first",
        caption="Each bar is all that was spent, in all or with one model, by what it bought.",
        alt="; ".join(
            f"{_NAMES[part]} {show_share(bill.whole.share(part))}" for part in PART_NAMES
        ),
        chart=stacked(shares, colours={_NAMES[part]: hue for part, hue in COLOURS.items()}),
        height=72 * len(shares) + 10,
        header=("", "spent", *(_NAMES[part] for part in COLOURS), "requests"),
        rows=tuple(
            (
                name,
                show_usd(line.usd),
                *(show_usd(getattr(line, f"{part}_usd")) for part in COLOURS),
                f"{line.requests:,}",
            )
            for name, line in zip(names, shown, strict=True)
        ),
    )


def _to_the_bill(bill: Bill) -> list[WhatIf]:
    """Return the changes whose effect is known and within the bill: not those to other plans."""
    return [
        change
        for change in bill.what_if
        if change.saving_usd is not None
        and abs(change.saving_usd) <= bill.whole.usd
        and not change.name.startswith("self-hosting-")
    ]


def _changes_figure(bill: Bill) -> Figure:
    """Draw what each change to the bill saves; the others are in the table alone."""
    changes = bill.what_if
    known = _to_the_bill(bill)
    points = [
        {
            "name": _label(change),
            "value": float(change.saving_usd or 0),
            "label": show_effect(change),
            "colour": GREEN if (change.saving_usd or 0) >= 0 else VERMILION,
        }
        for change in sorted(known, key=lambda c: -(c.saving_usd or 0))
    ]
    names = [str(point["name"]) for point in points]
    points = [point for at, point in enumerate(points) if point["name"] not in names[:at]]
    return Figure(
        title="What if: saved in green, dearer in red",
        caption="Answers are assumed to stay as good, which no log can prove; changes do not add "
        "up. A percentage is of what the change touches. The table says what of each is measured, "
        "modelled and unknown.",
        alt="; ".join(f"{change.title}: {show_effect(change)}" for change in known),
        chart=bars(points, title="dollars saved") if points else None,
        height=44 * len(points) + 40,
        header=("change", "effect", "after", "measured", "modelled", "unknown", "proof"),
        rows=tuple(
            (
                change.title,
                show_effect(change),
                _range(change),
                change.measured,
                change.modelled,
                change.unknown,
                _proof(change),
            )
            for change in changes
        ),
    )


def _label(change: WhatIf) -> str:
    """Name a change in a few words: a move by its share or its target, another by its name."""
    if change.name == "move-all":
        return f"all to {change.title.rpartition(' on ')[2]}"
    return _LABELS.get(change.name, change.name.replace("-", " "))


def _range(change: WhatIf) -> str:
    if change.low is not None and change.high is not None:
        return f"{show_usd(change.low)} to {show_usd(change.high)}"
    return "unknown" if change.usd_after is None else signed_usd(change.usd_after)


def _proof(change: WhatIf) -> str:
    if change.proof is None:
        return ""
    cost = "" if change.proof.usd is None else f", {show_usd(change.proof.usd)}"
    return f"{change.proof.labels} {change.proof.unit}s{cost}: {change.proof.command}"


def _days_figure(days: tuple[Line, ...], *, timezone: str) -> Figure:
    dated = [line for line in days if line.name[:4].isdigit()]
    chart: Any = None
    if len(dated) > 1:
        points = [
            {
                "day": line.name,
                "part": _NAMES[part],
                "usd": float(getattr(line, f"{part}_usd")),
                "colour": hue,
            }
            for line in dated
            for part, hue in COLOURS.items()
            if getattr(line, f"{part}_usd")
        ]
        sums = [float(line.usd) for line in dated]
        height = along(alt.Y, "usd", [0.0, *sums], title="dollars", form=dollars(sums), zero=True)
        chart = (
            alt.Chart(data(points))
            .mark_bar()
            .encode(
                x=alt.X("yearmonthdate(day):T", axis=_day_axis(len(dated))),
                y=height.stack("zero"),
                color=alt.Color("colour:N", scale=None),
                tooltip=[
                    alt.Tooltip("day:N"),
                    alt.Tooltip("part:N"),
                    alt.Tooltip("usd:Q", format="$,.2f"),
                ],
            )
        )
    return Figure(
        title="Day by day",
        caption=f"Colours are those of the first figure; days are those of {timezone}.",
        alt=f"{len(dated)} days",
        chart=chart,
        header=("day", "spent", "requests"),
        rows=tuple((line.name, show_usd(line.usd), f"{line.requests:,}") for line in dated),
    )


def _day_axis(days: int) -> alt.Axis:
    """Mark whole days only, about six of them."""
    step = alt.TimeIntervalStep(interval="day", step=max(1, round(days / 6)))
    return alt.Axis(title=None, tickCount=step, format="%-d %b %Y")


def _lines_figure(lines: tuple[Line, ...], *, title: str) -> Figure:
    """Draw the dearest lines of one dimension; nothing where there is one line alone."""
    shown = [line for line in lines if line.usd][:_MOST_BARS]
    if len(lines) < 2 or not shown:
        return Figure(title=title, caption="The log does not tell them apart.")
    points = [
        {"name": line.name, "value": float(line.usd), "label": show_usd(line.usd), "colour": BLUE}
        for line in shown
    ]
    return Figure(
        title=title,
        caption="The dearest first.",
        alt="; ".join(f"{line.name}: {show_usd(line.usd)}" for line in shown),
        chart=bars(points, title="dollars"),
        height=40 * len(points) + 40,
        header=("", "spent", "requests", "tokens in", "tokens out"),
        rows=tuple(
            (
                line.name,
                show_usd(line.usd),
                f"{line.requests:,}",
                *(_count(line.tokens[kind]) for kind in ("input", "output")),
            )
            for line in lines
        ),
    )


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"
