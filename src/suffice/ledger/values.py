"""Values made from rows of the ledger: entries, attempts, scores.

What an attempt holds is read by position: looking up its 30 columns by name takes longer than
fetching them.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from suffice.ledger.records import Attempt, Entry, Label, ReferenceKnown, Role, Score, Status
from suffice.ledger.schema import COUNTS, GENERATION_COLUMNS, attempts, time_from_us, usd
from suffice.ledger.tags import tags_in
from suffice.types import JSON, Charge, Count, CountSource, Usage, Vector

USAGE_COLUMNS = (
    *(attempts.c[f"{name}_{part}"] for name in COUNTS for part in ("tokens", "source")),
    *(attempts.c[name] for name in ("usage_kinds", "service_tier", "stated_picousd")),
)
GENERATED = (  # what `generation_fields` reads, in this order
    *USAGE_COLUMNS,
    *(attempts.c[field.column or name] for name, field in GENERATION_COLUMNS.items()),
)
_OWN = ("request_id", "role", "rung", "time_us", "charge_picousd", "charge_estimated", "price")
ATTEMPTED = (*(attempts.c[name] for name in _OWN), *GENERATED)  # what `attempt_from_columns` reads

_SOURCES = {source.value: source for source in CountSource}
_DECODERS = {
    name: field.from_column for name, field in GENERATION_COLUMNS.items() if field.from_column
}


def entry_from_row(row: Any, calls: tuple[Attempt, ...]) -> Entry:
    """Make the entry of a row of `suffice_requests` and its attempts."""
    return Entry(
        request_id=row.request_id,
        time=time_from_us(row.time_us),
        status=Status(row.status),
        rung=row.rung,
        reference_rung=row.reference_rung,
        attempts=calls,
        vector=Vector(row.vector),
        group=row.group_name,
        conversation_id=row.conversation_id,
        session_id=row.session_id,
        key_id=row.key_id,
        tags=tags_in(row.tag),
        turn=row.turn,
        arm=row.arm,
        arm_chance=row.arm_chance,
        wish=row.wish,
        shadow_chance=row.shadow_chance,
        audited=row.audited,
        reference_usd=usd(row.reference_picousd),
        reference_known=ReferenceKnown(row.reference_known),
        certificate_id=row.certificate_id,
        error=row.error,
        text=row.text,
    )


def attempt_from_columns(columns: Sequence[Any]) -> Attempt:
    """Make an attempt of the columns `ATTEMPTED`."""
    _, role, rung, time_us, picousd, estimated, price, *generated = columns
    return Attempt(
        rung=rung,
        role=Role(role),
        time=time_from_us(time_us),
        charge=Charge(usd=usd(picousd), estimated=estimated, price=price),
        **generation_fields(generated),
    )


def generation_fields(columns: Sequence[Any]) -> JSON:
    """Return the fields of a generation by name, from the columns `GENERATED`."""
    fields: JSON = dict(zip(GENERATION_COLUMNS, columns[len(USAGE_COLUMNS) :], strict=True))
    for name, decode in _DECODERS.items():
        fields[name] = decode(fields[name])
    fields["usage"] = _usage(columns[: len(USAGE_COLUMNS)])
    return fields


def score_from_row(row: Any) -> Score:
    """Make the score of a row of `suffice_scores`."""
    return Score(
        request_id=row.request_id,
        time=time_from_us(row.time_us),
        quality=row.quality,
        label=Label(row.label),
        rung=row.rung,
    )


def _usage(columns: Sequence[Any]) -> Usage:
    """Make the usage of the columns `USAGE_COLUMNS`, spelt out: it is most of a trial's time."""
    (
        input_n,
        input_source,
        read_n,
        read_source,
        write_n,
        write_source,
        output_n,
        output_source,
        reasoning_n,
        reasoning_source,
        kinds,
        service_tier,
        stated_picousd,
    ) = columns
    return Usage(
        input_tokens=None if input_n is None else Count(input_n, _SOURCES[input_source]),
        cache_read_tokens=None if read_n is None else Count(read_n, _SOURCES[read_source]),
        cache_write_tokens=None if write_n is None else Count(write_n, _SOURCES[write_source]),
        output_tokens=None if output_n is None else Count(output_n, _SOURCES[output_source]),
        reasoning_tokens=None
        if reasoning_n is None
        else Count(reasoning_n, _SOURCES[reasoning_source]),
        kinds=msgspec.json.decode(kinds, type=dict[str, Count]) if kinds else {},
        service_tier=service_tier,
        stated_usd=usd(stated_picousd),
    )
