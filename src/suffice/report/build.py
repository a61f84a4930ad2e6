"""Write a report as one self-contained HTML page."""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from string import Template

from suffice import __version__
from suffice.report.charts import Cells, Figure, script, spec
from suffice.report.headline import Opening, Tile, ledger_opening, trials_opening
from suffice.report.ledger_figures import ledger_figures
from suffice.report.ledger_summary import LedgerReport
from suffice.report.style import PALETTE, escaped, head_of_page
from suffice.report.summary import CertifyVerdict, TrialsReport
from suffice.report.trial_figures import trial_figures

Report = TrialsReport | LedgerReport

# The browser may load only what is in the page. Vega compiles its expressions, so it needs eval.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "img-src data:"
)


def build_report(report: Report) -> str:
    """Write a report as one self-contained HTML page; text from users is escaped."""
    if isinstance(report, TrialsReport):
        opening, figures = trials_opening(report), list(trial_figures(report))
        promise = _verdict(report.verdict, reference=report.reference)
    else:
        opening, promise = ledger_opening(report), ""
        figures = list(ledger_figures(report)) if report.whole.requests else []
    return build_page(opening, figures, lead=promise, source=report.source)


def build_page(
    opening: Opening, figures: Sequence[Figure], *, source: str, lead: str = "", tail: str = ""
) -> str:
    """Write one page: its opening, and every figure that has data.

    `lead` and `tail` are HTML before and after the figures: see `promise_section` and
    `notes_section`.
    """
    present = [figure for figure in figures if figure.chart is not None or figure.rows]
    charts = {f"chart-{i}": f for i, f in enumerate(present) if f.chart is not None}
    sections = [_section(figure, name=f"chart-{i}") for i, figure in enumerate(present)]
    missing = _missing([f for f in figures if f.chart is None and not f.rows])
    return Template(_asset("template.html")).substitute(
        head=head_of_page(
            f"{opening.headline} - suffice", style=_asset("style.css"), policy=_POLICY
        ),
        kicker=escaped(opening.kicker),
        headline=escaped(opening.headline),
        lede=escaped(opening.lede),
        tiles="".join(map(_tile, opening.tiles)),
        sections="\n".join([lead, *sections, missing, tail]),
        palette=json.dumps(dict(PALETTE.values())),
        charts="\n".join(
            f'<script type="application/json" id="{name}">{spec(figure)}</script>'
            for name, figure in charts.items()
        ),
        footer=escaped(f"Written by suffice {__version__} from {source}."),
        script=script() if charts else "",
    )


def promise_section(facts: Mapping[str, str | None], *, limits: Sequence[str]) -> str:
    """Write a certificate in words, with the limits that it states."""
    listed = "".join(
        f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>"
        for name, value in facts.items()
        if value
    )
    items = "".join(f"<li>{escaped(limit)}</li>" for limit in limits)
    items = items and f"<ul>{items}</ul>"
    title = "<h2>What is promised, and what is not</h2>"
    return f'<section class="facts promise">{title}<dl>{listed}</dl>{items}</section>'


def notes_section(notes: Sequence[str]) -> str:
    """Write the notes on the figures as a list."""
    items = "".join(f"<li>{escaped(note)}</li>" for note in notes)
    return items and f'<section class="facts"><h2>What to know</h2><ul>{items}</ul></section>'


def _asset(name: str) -> str:
    return files("suffice.report").joinpath(name).read_text("utf-8")


def _tile(tile: Tile) -> str:
    note = f"<dd>{escaped(tile.note)}</dd>" if tile.note else ""
    tone = f' class="{tile.tone}"' if tile.tone else ""
    return f"<div><dt>{escaped(tile.name)}</dt><dd{tone}>{escaped(tile.value)}</dd>{note}</div>"


def _section(figure: Figure, *, name: str) -> str:
    """Write one figure: its finding, its chart if any, and its table."""
    parts = [
        f"<h2>{escaped(figure.title)}</h2>",
        f'<p class="caption">{escaped(figure.caption)}</p>',
    ]
    table = _table(figure.header, figure.rows) if figure.rows else ""
    if figure.chart is not None:
        parts.append(
            f'<figure role="img" aria-label="{escaped(figure.alt)}" data-chart="{name}">'
            '<div class="chart"></div></figure>'
        )
        table = table and f"<details><summary>The numbers</summary>{table}</details>"
    return f"<section>{''.join(parts)}{table}</section>"


def _missing(figures: Sequence[Figure]) -> str:
    """List the figures that this report cannot show, with the reasons."""
    items = "".join(f"<dt>{escaped(f.title)}</dt><dd>{escaped(f.caption)}</dd>" for f in figures)
    return items and f'<section class="facts"><h2>Not in this report</h2><dl>{items}</dl></section>'


def _table(header: Cells, rows: Sequence[Cells]) -> str:
    head = _cells(header, tag='th scope="col"')
    body = "".join(f"<tr>{_cells(row, tag='td')}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="table">{table}</div>'


def _cells(cells: Iterable[str], *, tag: str) -> str:
    end = tag.split()[0]
    return "".join(f"<{tag}>{escaped(cell)}</{end}>" for cell in cells)


def _verdict(verdict: CertifyVerdict | None, *, reference: str) -> str:
    """Write the certificate, if there is one."""
    if verdict is None or not verdict.certified:
        return ""
    facts = {
        "promise": f"P(risk \u2264 {verdict.alpha:g}) \u2265 {1 - verdict.delta:g}",
        "reference": reference,
        "labels": verdict.label_source,
        "lapses": f"{verdict.lapses_at:%Y-%m-%d %H:%M %Z}" if verdict.lapses_at else None,
        "certificate": verdict.certificate_id,
        "seed": None if verdict.seed is None else f"{verdict.seed}; no count of looks is kept here",
    }
    promise = promise_section(facts, limits=verdict.limits)
    return promise + notes_section(verdict.about_saving)
