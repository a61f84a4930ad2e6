"""Our gateway as it is benchmarked: a certified policy, books in SQLite, and metrics.

Two policies are fitted and certified in each run, on recorded outcomes of BIG-Bench-Hard that ship
with the package. They are taken for agreement with the reference, which is what live audits see.
`routes` chooses a rung before it is asked, so that a request is one call upstream, as it is for the
other proxies. `defers` also looks at the cheap rung's answer, and may ask the reference after it.
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from importlib.resources import as_file, files
from pathlib import Path
from urllib.request import urlopen

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from benchmarks.gateway.processes import Broken, Command, python
from benchmarks.gateway.stub import Counts, Manner, StubUsage
from suffice.certify.bundle import Bundle, save_bundle
from suffice.certify.bundling import settle
from suffice.certify.promise import Promise
from suffice.guarantee import LabelSource
from suffice.trials.importers import read_trials
from suffice.types import Trial

ALPHA, DELTA = 0.05, 0.1
CHEAP, REFERENCE = "none", "cot"  # the rungs of the recorded outcomes
MODELS = {CHEAP: "small", REFERENCE: "large"}
PICOUSD_PER_MTOK = {  # a price of 1 dollar per million tokens is 10**6 picodollars a token
    "small": {"input": 150_000, "cache_read": 75_000, "output": 600_000},
    "large": {"input": 1_250_000, "cache_read": 125_000, "output": 10_000_000},
}
OUTCOMES = "bbh_outcomes.jsonl.gz"
_COUNTS = {  # columns of the ledger, and what the stub calls them
    "input_tokens": "input_tokens",
    "cache_read_tokens": "cached_tokens",
    "output_tokens": "output_tokens",
    "reasoning_tokens": "reasoning_tokens",
}
_NOTHING = StubUsage(input_tokens=0, cached_tokens=0, output_tokens=0, reasoning_tokens=0)
_SUMS = """
SELECT rung, SUM(charge_picousd) AS picousd,
    SUM(charge_picousd IS NULL OR charge_estimated) AS unsure,
    SUM(input_tokens) AS input_tokens, SUM(cache_read_tokens) AS cache_read_tokens,
    SUM(output_tokens) AS output_tokens, SUM(reasoning_tokens) AS reasoning_tokens
FROM suffice_attempts GROUP BY rung
"""

_CONFIG = """\
reference = "cot"

[engine.stub]
kind = "openai"
url = "http://127.0.0.1:{upstream}/v1"
timeout_s = {timeout_s}
max_retries = {max_retries}

[gateway]
ledger = "{ledger}"
{gateway}

[price.small]
input_usd_per_mtok = 0.15
cache_read_usd_per_mtok = 0.075
output_usd_per_mtok = 0.60

[price.large]
input_usd_per_mtok = 1.25
cache_read_usd_per_mtok = 0.125
output_usd_per_mtok = 10.00

[[ladder]]
name = "none"
engine = "stub"
model = "small"
price = "small"

[[ladder]]
name = "cot"
engine = "stub"
model = "large"
price = "large"
"""


class Setup(Struct, frozen=True, kw_only=True):
    """How one gateway under test is set up; `gateway` are further lines of its section."""

    name: str
    upstream: int
    policy: Path | None = None
    ledger: Path | str | None = None
    timeout_s: float = 30.0
    max_retries: int = 0
    gateway: str = ""


class Policies(Struct, frozen=True, kw_only=True):
    """The two certified policies, and the groups that they are certified for."""

    routes: Path
    defers: Path
    groups: tuple[str, ...]


class Booked(Struct, frozen=True, kw_only=True):
    """One row of the ledger, read without the product's code; `_picousd` is 10**-12 dollars."""

    request_id: str
    status: str
    rung: str | None
    charge_picousd: int | None
    charge_estimated: int


class Audit(Struct, frozen=True, kw_only=True):
    """How far the books and the upstream's own count are apart; all 0 when the books are right."""

    rows_missing: int
    token_sum_error: int
    picousd_error: int


def fit_policies(folder: Path) -> Policies:
    """Certify both policies on the packaged outcomes; raises Broken when one is not certified."""
    with as_file(files("suffice") / "data" / OUTCOMES) as path:
        trials = [_charged(trial) for trial in read_trials(path)]
    blind = [replace(trial, answer=None) for trial in trials]
    bundles = {"routes": _certify(blind), "defers": _certify(trials)}
    if bundles["routes"].policy.reviewed or not bundles["defers"].policy.reviewed:
        raise Broken("the fitted policies do not route and defer as they are meant to")
    for name, bundle in bundles.items():
        save_bundle(folder / name, bundle)
    return Policies(
        routes=folder / "routes",
        defers=folder / "defers",
        groups=bundles["routes"].certificate.terms.scope.groups,
    )


def _charged(trial: Trial) -> Trial:
    """Price the recorded words as tokens, so that savings have something to stand on."""
    rate = PICOUSD_PER_MTOK[MODELS[trial.rung]]["output"]
    usd = Decimal((trial.output_words or 0) * rate).scaleb(-12)
    return replace(trial, charge_usd=usd, charge_estimated=True)


def _certify(trials: list[Trial]) -> Bundle:
    promise = Promise(reference=REFERENCE, alpha=ALPHA, delta=DELTA)
    settled = settle(trials, promise.ask(LabelSource.AGREEMENT), say=lambda _: None)
    if settled.bundle is None:
        raise Broken(f"the packaged outcomes certify nothing: {settled.result.advice}")
    return settled.bundle


def serve(setup: Setup, *, folder: Path, port: int, timed: Path | None = None) -> Command:
    """Write the configuration of a gateway and return how to start it.

    With `timed`, the server writes how long its decisions took into that file when it ends.
    """
    home = folder / setup.name
    home.mkdir(exist_ok=True)
    config = home / "suffice.toml"
    text = _CONFIG.format(
        upstream=setup.upstream,
        timeout_s=setup.timeout_s,
        max_retries=setup.max_retries,
        ledger=setup.ledger or home / "suffice.db",
        gateway=setup.gateway,
    )
    config.write_text(text, "utf-8")
    policy = () if setup.policy is None else ("--certificate", str(setup.policy))
    listen = ("--host", "127.0.0.1", "--port", str(port))
    module = "suffice" if timed is None else "benchmarks.gateway.timed"
    return Command(
        name=setup.name,
        arguments=python("-m", module, "serve", "--ladder", str(config), *policy, *listen),
        port=port,
        ready="/readyz",
        folder=home,
        environment={} if timed is None else {"DECISIONS": str(timed)},
    )


def questions(groups: Iterable[str]) -> tuple[tuple[str | None, str], ...]:
    """Return a short request of each group."""
    return tuple(
        (group, f"Task of {group.replace('_', ' ')}: not ( True ) and ( True ) or False is")
        for group in groups
    )


def stub_counts(port: int) -> Counts:
    """Ask the stub what it has served since it was reset."""
    return _stub(port, "counts", None)


def reset_stub(port: int) -> Counts:
    """Let the stub count anew."""
    return _stub(port, "reset", b"")


def set_manner(port: int, manner: Manner) -> Counts:
    """Change how the stub answers from now on."""
    return _stub(port, "manner", msgspec.json.encode(manner))


def _stub(port: int, verb: str, data: bytes | None) -> Counts:
    with urlopen(f"http://127.0.0.1:{port}/stub/{verb}", data=data, timeout=10) as reply:
        return msgspec.json.decode(reply.read(), type=Counts)


def booked(ledger: Path) -> dict[str, Booked]:
    """Read the rows of a ledger by request id."""
    query = (
        "SELECT request_id, status, rung, charge_picousd, charge_estimated FROM suffice_requests"
    )
    with closing(reading(ledger)) as database:
        return {row["request_id"]: Booked(**dict(row)) for row in database.execute(query)}


def audit(ledger: Path, served: Counts, *, seen: Iterable[str], answered: int) -> Audit:
    """Compare the books with what the stub served and what the client saw.

    `seen` are request ids that answers carried; `answered` counts all answers, also those whose id
    was not kept. A charge that is estimated or unknown counts as an error: the stub reports all.
    """
    rows = booked(ledger)
    missing = sum(request_id not in rows for request_id in seen)
    with closing(reading(ledger)) as database:
        sums = {row["rung"]: row for row in database.execute(_SUMS)}
    tokens = dollars = 0
    for rung, model in MODELS.items():
        theirs = served.tokens.get(model, _NOTHING)
        mine = sums.get(rung)
        for column, name in _COUNTS.items():
            tokens += abs((mine[column] or 0 if mine else 0) - getattr(theirs, name))
        dollars += abs((mine["picousd"] or 0 if mine else 0) - picousd(model, theirs))
        dollars += mine["unsure"] if mine else 0
    return Audit(
        rows_missing=max(missing, answered - len(rows)),
        token_sum_error=tokens,
        picousd_error=dollars,
    )


def picousd(model: str, used: StubUsage) -> int:
    """Price tokens in whole picodollars, apart from the product's meter."""
    rates = PICOUSD_PER_MTOK[model]
    return (
        (used.input_tokens - used.cached_tokens) * rates["input"]
        + used.cached_tokens * rates["cache_read"]
        + used.output_tokens * rates["output"]
    )


def reading(ledger: Path) -> sqlite3.Connection:
    """Open a ledger for reading; rows can be taken apart by the names of their columns."""
    database = sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    return database
