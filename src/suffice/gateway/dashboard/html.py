"""The few pieces of HTML and SVG that the page is made of; every text is escaped here."""

from collections.abc import Sequence

from msgspec import Struct

from suffice.report.style import escaped as text


class Bar(Struct, frozen=True, kw_only=True):
    """One row: `parts` are shares of the full width, with the names of their colours."""

    name: str
    value: str
    parts: tuple[tuple[float, str], ...]
    note: str = ""


class Pair(Struct, frozen=True, kw_only=True):
    """One moment of a chart with a back and a front column, and its label."""

    name: str
    back: float
    front: float
    label: str


def section(title: str, *parts: str, caption: str = "", wide: bool = False) -> str:
    """Write a section under its finding."""
    below = f'<p class="caption">{text(caption)}</p>' if caption else ""
    kind = ' class="wide"' if wide else ""
    return f"<section{kind}><h2>{text(title)}</h2>{below}{''.join(parts)}</section>"


def tile(name: str, value: str, *, note: str = "", tone: str = "") -> str:
    """Write one large number with what to hold it against."""
    below = f"<dd>{text(note)}</dd>" if note else ""
    kind = f' class="{tone}"' if tone else ""
    return f"<div><dt>{text(name)}</dt><dd{kind}>{text(value)}</dd>{below}</div>"


def bars(rows: Sequence[Bar]) -> str:
    """Write named bars, one below the other."""
    return f'<ul class="bars">{"".join(map(_bar, rows))}</ul>'


def columns(pairs: Sequence[Pair], *, back: str, front: str) -> str:
    """Draw a pair of columns for each moment, the front one narrower; colours by name."""
    most = max((max(pair.back, pair.front) for pair in pairs), default=0.0) or 1.0
    width = 1000.0 / max(len(pairs), 1)
    drawn = "".join(
        f"<g><title>{text(pair.name)}: {text(pair.label)}</title>"
        f"{_column(at * width, width, pair.back / most, share=0.72, hue=back)}"
        f"{_column(at * width, width, pair.front / most, share=0.4, hue=front)}</g>"
        for at, pair in enumerate(pairs)
    )
    ends = f"<span>{text(pairs[0].name)}</span>"
    ends += f"<span>{text(pairs[-1].name)}</span>" if len(pairs) > 1 else ""
    return (
        '<div class="chart"><svg viewBox="0 0 1000 100" preserveAspectRatio="none" '
        f'role="img" aria-label="columns by day">{drawn}</svg></div><p class="ends">{ends}</p>'
    )


def legend(names: Sequence[tuple[str, str]]) -> str:
    """Say which colour is what."""
    entries = (
        f'<span><i style="background: var(--{hue})"></i>{text(name)}</span>' for name, hue in names
    )
    return f'<p class="legend">{"".join(entries)}</p>'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table; its first column is text, the others are numbers."""
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in header)
    body = "".join(f"<tr>{''.join(f'<td>{text(c)}</td>' for c in row)}</tr>" for row in rows)
    whole = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="table">{whole}</div>'


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Write names and what they are."""
    listed = "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows)
    return f'<dl class="facts">{listed}</dl>'


def _bar(bar: Bar) -> str:
    x, drawn = 0.0, ""
    for share, hue in bar.parts:
        width = 100.0 * min(max(share, 0.0), 1.0)
        drawn += f'<rect x="{x:.2f}" width="{width:.2f}" height="10" fill="var(--{hue})"/>'
        x += width
    note = f"<small>{text(bar.note)}</small>" if bar.note else ""
    return (
        f"<li><b>{text(bar.name)}</b><span>{text(bar.value)}</span>"
        f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{drawn}</svg>'
        f"{note}</li>"
    )


def _column(x: float, width: float, height: float, *, share: float, hue: str) -> str:
    wide = min(width * share, 60.0 * share)
    left, tall = x + (width - wide) / 2, 100.0 * max(height, 0.0)
    return (
        f'<rect x="{left:.2f}" y="{100 - tall:.2f}" width="{wide:.2f}" height="{tall:.2f}" '
        f'fill="var(--{hue})"/>'
    )
