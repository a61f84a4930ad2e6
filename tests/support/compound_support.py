"""A synthetic workload with known factors, for the tests of the compound ledger and its page."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from suffice.compound import Cell, Factorial, Grade, Lever, Preregistration, Requests
from suffice.compound.cells import subsets
from suffice.guarantee import (
    Certificate,
    Evidence,
    LabelSource,
    Method,
    Scope,
    Splits,
    Terms,
    calibrate,
    issue,
)
from suffice.types import Count, CountSource, Trial, TrialStatus, Usage, Vector

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
REPORTED = CountSource.REPORTED
WORKLOAD = """
name = "thirds"
fixed = 2026-11-20
reference = "high"
alpha = 0.05
delta = 0.2

[part.closed]
groups = ["intents", "elsewhere"]
out_of_scope = ["elsewhere"]
share = 0.3

[part.reasoning]
groups = ["sums", "riddles"]
share = 0.4

[part.stream]
groups = ["camera"]
share = 0.3

[lever.latent]
vector = "paradigm"
rungs = ["guess"]
ask_usd = "0.00000002"

[lever.effort]
vector = "output"
rungs = ["none"]

[lever.sparse]
vector = "architecture"
before = "dense"
after = "sparse"

[lever.chip]
vector = "silicon"
before = "old"
after = "new"

[deployment.dense-old]
model = "dense"
chip = "old"
grade = "modelled"
price = {input_usd_per_mtok = 1, output_usd_per_mtok = 8, source = "stated"}

[deployment.dense-new]
model = "dense"
chip = "new"
grade = "modelled"
price = {input_usd_per_mtok = 0.5, output_usd_per_mtok = 4, source = "stated"}

[deployment.sparse-old]
model = "sparse"
chip = "old"
grade = "measured"
price = {input_usd_per_mtok = 0.5, output_usd_per_mtok = 4, source = "stated"}

[deployment.sparse-new]
model = "sparse"
chip = "new"
grade = "measured"
price = {input_usd_per_mtok = 0.4, output_usd_per_mtok = 3.2, source = "stated"}
"""


def write_workload(folder: Path, *, text: str = WORKLOAD) -> Path:
    path = folder / "workload.toml"
    path.write_text(text, "utf-8")
    return path


def make_compound_trials(requests: int = 1000, *, seed: int = 0) -> list[Trial]:
    """Make a third of the requests closed-set, a third reasoning, a third events of streams.

    The guess answers nine in ten closed-set requests and most events, nearly always right. Without
    reasoning, riddles fail and sums do not. One event in five says what an earlier one said.
    """
    draw = random.Random(seed)
    return [trial for i in range(requests) for trial in _trials(i, draw)]


def _trials(i: int, draw: random.Random) -> Iterator[Trial]:
    kind = i % 3
    if kind == 0:
        group = "elsewhere" if draw.random() < 0.1 else "intents"
        request_id, text = f"closed{i}", f"Customer {i} asks about {group} {draw.randrange(10**6)}"
    elif kind == 1:
        group = ("sums", "riddles")[draw.random() < 0.5]
        request_id, text = f"think{i}", f"Solve one of the {group}: {draw.randrange(10**6)}"
    else:
        group, stream = "camera", i // 30
        said = draw.randrange(10**6) if draw.random() < 0.8 else stream
        request_id, text = f"stream{stream}/{i}", f"Frame of camera {stream}: {said}"
    read, written = 40 + draw.randrange(20), {0: 60, 1: 90, 2: 55}[kind] + draw.randrange(40)
    sure = kind != 1 and group != "elsewhere" and draw.random() < 0.9

    def trial(rung: str, *, right: bool | None, tokens: tuple[int, int]) -> Trial:
        return Trial(
            request_id=request_id,
            rung=rung,
            status=TrialStatus.FAILED if right is None else TrialStatus.SCORED,
            text=text,
            group=group,
            quality=None if right is None else float(right),
            scorer="exact",
            answer=None if right is None else "yes" if right else "no",
            mean_logprob=None if right is None else (-0.1 if right else -2.0),
            usage=Usage(
                input_tokens=Count(tokens[0], REPORTED), output_tokens=Count(tokens[1], REPORTED)
            ),
        )

    if kind != 1:
        guess = draw.random() < 0.995 if sure else None
        yield trial("guess", right=guess, tokens=(0, 0))
    easy = group != "riddles" or draw.random() < 0.1
    yield trial("none", right=easy, tokens=(read, 8 + draw.randrange(5)))
    yield trial("high", right=True, tokens=(read, written))


def make_requests(count: int = 300, *, each: int = 3, salt: str = "") -> Requests:
    """Make requests in clusters of `each`."""
    return Requests(
        ids=tuple(f"c{i // each}/{i}" for i in range(count)),
        texts=tuple(f"request {i}{salt}" for i in range(count)),
        parts=("all",) * count,
    )


def make_certificate(*, lapses_at: datetime = NOW + timedelta(days=30)) -> Certificate:
    """Certify 200 rows without a loss."""
    found = calibrate(
        Evidence(losses=np.zeros((200, 1))), alpha=0.05, delta=0.1, method=Method.BINOMIAL
    )
    terms = Terms(
        policy_hash="policy",
        reference="high",
        label_source=LabelSource.TARGET,
        splits=Splits(fit="a", certify="b"),
        scope=Scope(),
        created=NOW - timedelta(days=1),
        lapses_at=lapses_at,
    )
    return issue(found, terms)


CERTIFICATE = make_certificate()
LEVERS = (
    Lever(name="latent", vector=Vector.PARADIGM),
    Lever(name="effort", vector=Vector.OUTPUT),
    Lever(name="sparse", vector=Vector.ARCHITECTURE),
    Lever(name="chip", vector=Vector.SILICON),
)


def make_cell(*levers: str, seed: int = 0, **changed: object) -> Cell:
    """Make a cell whose levers have known effects.

    latent: a guess answers the even clusters, whose answers are longest; effort: a quarter of the
    tokens; sparse: half the work a token; chip: a third of the dollars for the same work.
    """
    draw, requests = np.random.default_rng(seed), make_requests()
    count = len(requests)
    written, read = draw.integers(20, 200, count), draw.integers(50, 150, count)
    even = np.array([int(cluster[1:]) % 2 == 0 for cluster in requests.clusters])
    written, guessed = np.where(even, 3 * written, written), even & ("latent" in levers)
    output = np.where(guessed, 0.0, written / (4 if "effort" in levers else 1))
    prompt = np.where(guessed, 0.0, read)
    work = 1e-6 / (2 if "sparse" in levers else 1)
    usd = 0.9 / (3 if "chip" in levers else 1)
    columns = {
        "levers": frozenset(levers),
        "requests": requests,
        "decodes": np.where(guessed, 0.0, 1.0),
        "output_tokens": output,
        "input_tokens": prompt,
        "answer_work": output * 8 * work,
        "prompt_work": prompt * work,
        "answer_usd": output * 8 * work * usd,
        "prompt_usd": prompt * work * usd,
        "other_usd": np.full(count, 2e-8 if "latent" in levers else 0.0),
        "quality": np.ones(count),
        "grade": Grade.MEASURED,
        "certificate": CERTIFICATE if {"latent", "effort"} & set(levers) else None,
        "as_reference": not {"latent", "effort"} & set(levers),
    }
    return Cell(**columns | changed)


def make_factorial(**changed: object) -> Factorial:
    """Make all 16 cells; `changed` columns hold for every one of them."""
    names = [lever.name for lever in LEVERS]
    cells = [make_cell(*sorted(levers), **changed) for levers in subsets(names)]
    return Factorial(levers=LEVERS, cells=tuple(cells))


PLAN = Preregistration(
    name="synthetic",
    fixed=date(2026, 11, 20),
    alpha=0.05,
    delta=0.1,
    shares={"all": 1.0},
    source="trials.jsonl",
    prices=("stated",),
)
