"""Fills a ledger with a year of invented traffic, made by the database itself."""

import sqlalchemy as sa

from suffice.ledger import Ledger

CHUNK = 20_000  # a transaction may take ten seconds
_YEAR_US = 365 * 86_400_000_000
_NUMBERS = """WITH RECURSIVE n(i) AS (SELECT CAST({first} AS BIGINT)
    UNION ALL SELECT i + 1 FROM n WHERE i < {last})"""
_REQUESTS = """INSERT INTO suffice_requests (request_id, time_us, status, rung, reference_rung,
    vector, group_name, conversation_id, key_id, tag, audited, charge_picousd, charge_estimated,
    reference_picousd, reference_known, certificate_id, text)
{numbers} SELECT 'r' || i, {start} + {step} * i, CASE i % 97 WHEN 0 THEN 'failed' ELSE 'ok' END,
    CASE i % 97 WHEN 0 THEN NULL ELSE CASE i % 3 WHEN 0 THEN 'big' ELSE 'small' END END, 'big',
    CASE i % 3 WHEN 0 THEN 'none' ELSE 'architecture' END, 'group ' || (i % 20),
    'c' || (i / 5), 'key-' || (i % 50), 'team ' || (i % 10), i % 50 = 1, 1000000 * (i % 900 + 1),
    i % 7 = 0, 2000000 * (i % 900 + 1), CASE i % 3 WHEN 0 THEN 'measured' ELSE 'estimated' END,
    'bench', CASE i % 50 WHEN 1 THEN 'How many eggs are in box ' || i || '?' END FROM n"""
_CALLS = """INSERT INTO suffice_attempts (request_id, ordinal, role, rung, time_us, input_tokens,
    input_source, output_tokens, output_source, charge_picousd, charge_estimated, duration_s,
    finish, answer)
{numbers} SELECT 'r' || i, 0, CASE i % 97 WHEN 0 THEN 'discarded' ELSE 'answer' END,
    CASE i % 3 WHEN 0 THEN 'big' ELSE 'small' END, {start} + {step} * i, 200 + i % 700, 'reported',
    i % 300, 'reported', 1000000 * (i % 900 + 1), i % 7 = 0, 0.5 + (i % 100) / 50.0, 'stop',
    CASE i % 50 WHEN 1 THEN 'six' END FROM n"""
_AUDITS = """INSERT INTO suffice_attempts (request_id, ordinal, role, rung, time_us, input_tokens,
    input_source, output_tokens, output_source, charge_picousd, charge_estimated, finish, answer)
{numbers} SELECT 'r' || i, 1, 'audit', 'big', {start} + {step} * i + 1000000, 200, 'reported', 90,
    'reported', 2000000, i % 7 = 0, 'stop', 'six' FROM n WHERE i % 50 = 1 AND i % 3 <> 0"""
_SCORES = """INSERT INTO suffice_scores (request_id, rung, quality, label, time_us)
{numbers} SELECT 'r' || i, CASE i % 3 WHEN 0 THEN 'big' ELSE 'small' END,
    CASE i % 41 WHEN 0 THEN 0.0 ELSE 1.0 END, 'agreement', {start} + {step} * i + 2000000
    FROM n WHERE i % 50 = 1"""


def fill(ledger: Ledger, *, rows: int, ends_us: int) -> None:
    """Write `rows` requests, one call each and an audit for some, spread over a year."""
    step = max(1, _YEAR_US // rows)
    start = ends_us - step * rows
    for first in range(1, rows + 1, CHUNK):
        last = min(first + CHUNK - 1, rows)
        numbers = _NUMBERS.format(first=first, last=last)
        with ledger.writing() as connection:
            for statement in (_REQUESTS, _CALLS, _AUDITS, _SCORES):
                text = statement.format(numbers=numbers, start=start, step=step)
                connection.execute(sa.text(text.replace(":", r"\:")))
