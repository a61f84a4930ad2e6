"""Synthetic trials with known qualities and costs, for the tests that go from trials to books."""

import random
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
from msgspec.structs import replace

from suffice.certify.bundle import save_bundle
from suffice.certify.bundling import Certification, settle
from suffice.certify.promise import Promise
from suffice.encoders.base import default_encoder
from suffice.guarantee import LabelSource
from suffice.policy import Router
from suffice.types import Count, CountSource, Finish, Request, Signals, Trial, TrialStatus, Usage

REPORTED = CountSource.REPORTED
LADDER = ("small", "big")
CHANCE = {"small": 0.6, "middle": 0.8, "big": 0.98}
TOKENS = {"small": 10, "middle": 40, "big": 200}
USD_PER_TOKEN = Decimal("0.000001")


def make_trials(
    requests: int = 400, *, rungs: Sequence[str] = LADDER, seed: int = 0, usd: bool = True
) -> list[Trial]:
    """Make trials on which a wrong answer tends to look unsure: that is what a policy can learn.

    Tokens vary from request to request, so that no two sums agree by chance.
    """
    draw = random.Random(seed)
    return [
        _trial(i, rung, right=draw.random() < CHANCE[rung], draw=draw, usd=usd)
        for i in range(requests)
        for rung in rungs
    ]


def _trial(i: int, rung: str, *, right: bool, draw: random.Random, usd: bool) -> Trial:
    tokens = TOKENS[rung] + draw.randrange(5)
    sure = right if draw.random() < 0.95 else not right
    return Trial(
        request_id=f"r{i}",
        rung=rung,
        status=TrialStatus.SCORED,
        text=f"What is {i} + {i % 7}?",
        group=("sums", "riddles")[i % 2],
        quality=float(right),
        scorer="exact",
        answer=str(i + i % 7) if right else "no idea",
        finish=Finish.STOP,
        mean_logprob=-0.1 if sure else -2.0,
        usage=Usage(input_tokens=Count(7, REPORTED), output_tokens=Count(tokens, REPORTED)),
        charge_usd=(7 + tokens) * USD_PER_TOKEN if usd else None,
        duration_s=0.1,
    )


def write_jsonl(path: Path, rows: Iterable[object]) -> Path:
    """Write one JSON object a line."""
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


CONFIG = """
reference = "big"

[engine.recorded]
kind = "replay"
trials = "{trials}"

[price.flat]
input_usd_per_mtok = 1
output_usd_per_mtok = 1

[[ladder]]
name = "small"
engine = "recorded"
model = "small-model"
price = "flat"

[[ladder]]
name = "big"
engine = "recorded"
model = "big-model"
price = "flat"
"""


def settle_trials(
    trials: Sequence[Trial], *, alpha: float = 0.1, **promised: object
) -> Certification:
    """Certify trials with known targets against `big`."""
    promise = Promise(reference="big", alpha=alpha, delta=0.1, **promised)
    return settle(trials, promise.ask(LabelSource.TARGET), say=lambda _stage: None)


def path_of(settled: Certification, request_id: str) -> list[str]:
    """Follow the certified policy on one recorded request, as a live router would."""
    made = {t.rung: t for t in settled.trials if t.request_id == request_id}
    one = next(iter(made.values()))
    request = Request(
        request_id=request_id,
        messages=({"role": "user", "content": one.text},),
        group=one.group,
    )
    router = Router(policy=settled.certified.policy, encoder=default_encoder())
    step, seen = router.decide(request), {}
    path = [step.rung]
    while path[-1] != "big":
        last = made[path[-1]]
        seen[path[-1]] = Signals(
            answer=last.answer, finish=last.finish, mean_logprob=last.mean_logprob
        )
        step = router.review(request, seen)
        if step.keep:
            break
        path.append(step.rung)
    return path


def make_tasks(trials: Iterable[Trial]) -> list[dict[str, str]]:
    """Turn trials back into the tasks that they could have come from."""
    return [
        {
            "request_id": t.request_id,
            "text": t.text,
            "group": t.group or "",
            "target": _sum(t.text),
        }
        for t in trials
        if t.rung == "big"
    ]


def _sum(text: str) -> str:
    return str(sum(int(part) for part in text.removesuffix("?").split() if part.isdecimal()))


def lay_out(folder: Path, settled: Certification) -> Path:
    """Put trials, tasks, a ladder that replays them and the bundle into a folder."""
    write_jsonl(folder / "trials.jsonl", settled.trials)
    write_jsonl(folder / "tasks.jsonl", make_tasks(settled.trials))
    (folder / "suffice.toml").write_text(CONFIG.format(trials=folder / "trials.jsonl"))
    save_bundle(folder / "bundle", settled.bundle)
    return folder


def blind_trials(requests: int, *, wrong_every: int) -> list[Trial]:
    """Make trials whose cheap rung is wrong now and then, with nothing that tells when."""
    return [
        replace(
            t,
            text="",  # which makes no cluster of them
            group=None,
            answer="a guess",
            mean_logprob=None,
            quality=float(t.rung == "big" or i // 2 % wrong_every != 0),
        )
        for i, t in enumerate(make_trials(requests))
    ]


def checked_trials(
    rows: int = 300,
    *,
    wrong: float = 0.3,
    accepts: float = 0.05,
    rejects: float = 0.1,
    small_usd: str = "0.1",
    check_usd: str = "0.01",
    seed: int = 0,
) -> list[Trial]:
    """Make trials whose texts tell nothing; the check errs at the given rates."""
    draw, trials = np.random.default_rng(seed), []
    for row in range(rows):
        right = draw.random() >= wrong
        passes = draw.random() >= (rejects if right else 1 - accepts)
        for rung, quality, usd in (("small", float(right), small_usd), ("big", 1.0, "1")):
            trial = Trial(
                request_id=f"q{row}",
                rung=rung,
                status=TrialStatus.SCORED,
                text="",
                quality=quality,
                charge_usd=Decimal(usd),
            )
            if rung == "small":
                trial = replace(
                    trial,
                    check=passes,
                    check_usd=Decimal(check_usd),
                    charge_usd=Decimal(usd) + Decimal(check_usd),
                )
            trials.append(trial)
    return trials
