"""The ledger of a fault run, read without the product's code and looked at call by call.

The gateway stored the texts of its requests in such a run, and each text ends with its tag, so that
every row can be held against what the stub must have charged for.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from benchmarks.gateway.ours import MODELS, picousd, reading
from benchmarks.gateway.stub import usage_of

_TAG = re.compile(r"#(\d{12})")
_CALLS = """
SELECT r.text, r.request_id, r.status, a.rung, a.role, a.charge_picousd, a.charge_estimated
FROM suffice_requests AS r LEFT JOIN suffice_attempts AS a ON a.request_id = r.request_id
"""


class Call(Struct, frozen=True, kw_only=True):
    """One call to the upstream; `picousd` None is a charge that nobody knows."""

    rung: str
    role: str
    picousd: int | None
    estimated: bool


class Row(Struct, frozen=True, kw_only=True):
    """One request in the ledger."""

    request_id: str
    status: str
    calls: tuple[Call, ...]


Books = Mapping[str, list[Row]]  # rows by tag; one each, if all is well


def read_books(ledger: Path) -> Books:
    """Read all rows of a ledger by the tag of their text."""
    calls: dict[tuple[str, str, str], list[Call]] = defaultdict(list)
    with closing(reading(ledger)) as database:
        for text, request_id, status, rung, role, amount, estimated in database.execute(_CALLS):
            found = _TAG.search(text or "")
            row = calls[found[1] if found else "", request_id, status]
            if rung is not None:
                row.append(Call(rung=rung, role=role, picousd=amount, estimated=bool(estimated)))
    books: dict[str, list[Row]] = defaultdict(list)
    for (tag, request_id, status), made in calls.items():
        books[tag].append(Row(request_id=request_id, status=status, calls=tuple(made)))
    return books


def wrong_charges(books: Books, *, streamed: Mapping[str, bool]) -> int:
    """Count requests booked twice or unasked, and calls whose charge says what is not so."""
    wrong = Counter[str]()
    for tag, rows in books.items():
        wrong["twice"] += len(rows) - 1
        if tag not in streamed:
            wrong["unasked"] += 1
            continue
        for row in rows:
            wrong["calls"] += sum(_is_wrong(c, row, tag, streamed[tag]) for c in row.calls)
    return wrong.total()


def uncharged(books: Books, tags: set[str]) -> int:
    """Count streams that were left midway, and for which nothing at all is charged."""
    return sum(
        all(call.picousd in (None, 0) for call in row.calls)
        for tag in tags
        for row in books.get(tag, ())
    )


def _is_wrong(call: Call, row: Row, tag: str, streamed: bool) -> bool:  # noqa: FBT001
    """Whether a charge that passes for reported is not the stub's, or an answer's is none."""
    if call.picousd is None or call.estimated:
        return row.status == "ok" and call.role == "answer"
    model = MODELS[call.rung]
    return call.picousd != picousd(model, usage_of(model, tag, streamed=streamed))
