"""The workloads whose records say what a factor was worth, and how each is read."""

import csv
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.board.__main__ import agent_runs
from benchmarks.compound_public.factors import QualityGrade, RecordedFactor
from benchmarks.inputs import data_file
from benchmarks.latent.__main__ import ALPHA as LATENT_ALPHA
from benchmarks.latent.__main__ import certified_share, see
from benchmarks.latent.__main__ import read as read_intents
from benchmarks.routing.measure import CALL_PRICES, CALLS
from benchmarks.sessions.__main__ import DEAR, RATES, Session, read_sessions, session_usd
from benchmarks.stream.__main__ import run as run_streams
from suffice.certify.compare import Replacement, compare
from suffice.certify.policy import certify
from suffice.certify.target import Target
from suffice.encoders.base import default_encoder
from suffice.guarantee import LabelSource
from suffice.latent import fitting
from suffice.trials.importers import read_table
from suffice.trials.order import on_ladder
from suffice.trials.resample import drawn_sums, estimate
from suffice.trials.table import CostUnit
from suffice.types import Trial

ALPHA, AGENT_ALPHA, DELTA = 0.05, 0.15, 0.1
DRAWS, SEED = 200, 0
INTERACTIVE = 50.0  # tokens a second and user that a chip must reach
OUTCOMES = {  # file, reference, vector, what costs are counted in if the file holds any
    "MMLU": ("outcomes/routellm_mmlu.jsonl.gz", "gpt4_1106", "architecture", ""),
    "GSM8K": ("outcomes/routellm_gsm8k.jsonl.gz", "gpt4_1106", "architecture", ""),
    "CRUXEval": (
        "outcomes/crux_llama8_70.jsonl.gz",
        "Meta-Llama-3.1-70B-Instruct",
        "architecture",
        "dollars",
    ),
    "BIG-Bench-Hard": ("outcomes/bbh_none_vs_cot.jsonl.gz", "cot", "output", "output words"),
}
EFFORTS = (  # settings of one model and one harness: the dear one, the cheap one
    ("t2-gpt-5.5-xhigh", "t2-GPT-5.5"),
    ("t2-gpt-5.4-xhigh-rapi", "t2-gpt-5.4"),
    ("oc-gpt-5.4-xhigh", "oc-gpt-5.4"),
    ("oc-claude-opus-4-6-max", "oc-claude-opus-4-6"),
)
DENSE_AND_SPARSE = (  # one harness: a dense model, a sparse one
    ("oc-gemma-4-31b-it", "oc-NVIDIA-Nemotron-3-Super-120B-A12B-FP8"),
    ("oc-gemma-4-31b-it", "wb-oc-minimax-m2.5"),
    ("oc-gemma-4-31b-it", "oc-minimax-m2.7"),
)
SERVED = {"DeepSeek R1 0528": "fp8", "Llama 3.3 70B Instruct": "fp8", "gpt-oss 120B": "fp4"}
CHIPS = ("h100", "h200", "mi300x", "mi325x", "b200", "gb200", "mi355x")  # the first is the base
LENGTHS = "1k-1k"
PRICE_WAYS = (
    "usd_per_Mtok_hyperscaler_tco",
    "usd_per_Mtok_neocloud_tco",
    "usd_per_Mtok_3yr_rental",
)


def _outcomes(name: str, data: Path) -> Iterator[RecordedFactor]:
    """Certify a policy on recorded answers of real models."""
    file, reference, vector, unit = OUTCOMES[name]
    table = on_ladder(read_table(data_file(data, file)).scored(), reference=reference)
    if table.cost_unit is None:
        prices = np.tile(CALL_PRICES, (len(table), 1))
        table, unit = replace(table, cost=prices, cost_unit=CostUnit.USD), CALLS
    ask = Target(
        reference=reference,
        label_source=LabelSource.TARGET,
        alpha=ALPHA,
        delta=DELTA,
        seed=SEED,
    )
    result = certify(table, ask, encoder=default_encoder()).result
    if not result.certified or result.saving is None or result.saving_interval is None:
        return
    low, high = result.saving_interval
    cheaper = [rung for rung in result.share if rung != reference]
    yield RecordedFactor(
        workload=name,
        vector=vector,
        baseline=reference,
        replacement=f"policy over {', '.join(cheaper)} and {reference}",
        value=1 / (1 - result.saving),
        interval=(1 / (1 - low), 1 / (1 - high)),
        unit=unit,
        grade=QualityGrade.CERTIFIED,
        source=f"{file}, suffice certify, excess loss at most {ALPHA:g}",
    )


def _agents(data: Path) -> Iterator[RecordedFactor]:
    """Compare efforts of one model, and dense models with sparse ones, task by task in dollars."""
    file = "outcomes/wolfbench_trials.csv.gz"
    runs: dict[str, list[Trial]] = defaultdict(list)
    for (setting, _), trials in agent_runs(data_file(data, file)).items():
        runs[setting] += trials
    pairs = [("output", *pair) for pair in EFFORTS]
    pairs += [("architecture", *pair) for pair in DENSE_AND_SPARSE]
    for vector, dear, cheap in pairs:
        both = runs[dear] + runs[cheap]
        known = [trial for trial in both if trial.charge_usd is not None]
        if {trial.rung for trial in known} != {dear, cheap}:
            continue  # what one of them cost was not recorded
        (found,) = compare(both, reference=dear, alpha=AGENT_ALPHA, delta=DELTA).settings
        value, interval = _ratio(known, dear, cheap)
        as_good = found.verdict is Replacement.AS_GOOD
        yield RecordedFactor(
            workload="coding agents",
            vector=vector,
            baseline=dear,
            replacement=cheap,
            value=value,
            interval=interval,
            unit="dollars a task",
            grade=QualityGrade.CERTIFIED if as_good else QualityGrade.UNPROVEN,
            source=f"{file}, net loss at most {AGENT_ALPHA:g} by task; quality "
            f"{found.difference:+.3f} ({found.interval[0]:+.3f} to {found.interval[1]:+.3f})",
        )


def _ratio(trials: Sequence[Trial], dear: str, cheap: str) -> tuple[float, tuple[float, float]]:
    """Return the ratio of mean dollars over shared tasks, and its interval from drawn tasks."""
    sums: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        sums[trial.request_id][trial.rung].append(float(trial.charge_usd or 0))
    means = np.array(
        [[np.mean(task[dear]), np.mean(task[cheap])] for task in sums.values() if len(task) == 2]
    )
    dear_usd, cheap_usd = drawn_sums(means, seed=SEED).T
    found = estimate(dear_usd / cheap_usd, clusters=len(means))
    assert found is not None
    assert found.value is not None
    assert found.interval is not None
    return found.value, (found.interval[0] or 0.0, found.interval[1] or float("inf"))


def _sessions(data: Path) -> Iterator[RecordedFactor]:
    """Charge recorded sessions with and without the provider's prefix cache."""
    file = "traces/claude_code_sessions.csv.gz"
    sessions = read_sessions(data_file(data, file))
    bills = np.array([_bills(session) for session in sessions])
    without, cached = drawn_sums(bills, seed=SEED).T
    found = estimate(without / cached, clusters=len(bills))
    assert found is not None
    assert found.value is not None
    assert found.interval is not None
    yield RecordedFactor(
        workload="coding sessions",
        vector="cache",
        baseline="every prompt read anew at the input price",
        replacement="prefix cache of five minutes, written at 1.25 and read at 0.1 of that price",
        value=found.value,
        interval=(found.interval[0] or 0.0, found.interval[1] or float("inf")),
        unit="dollars",
        grade=QualityGrade.MEASURED,
        source=f"{file}, replayed at the list prices of Claude Opus 4.5",
    )


def _bills(session: Session) -> tuple[float, float]:
    """Return what a session costs without a cache and with one."""
    rates = RATES[DEAR]
    cached = sum(map(sum, session_usd(session, [DEAR] * len(session))))
    anew = sum(
        call.turn.prompt_tokens * rates.write_usd / 1.25 + call.output_tokens * rates.output_usd
        for call in session
    )
    return anew, cached


def _serving(model: str, data: Path) -> Iterator[RecordedFactor]:
    """Serve one model at one speed for each user on two chips, at three ways to price a chip."""
    file = "silicon/inferencemax_oct2025_dashboard.csv"
    with data_file(data, file).open(encoding="utf-8") as lines:
        rows = [
            row
            for row in csv.DictReader(lines)
            if row["model_name"] == model
            and row["precision"] == SERVED[model]
            and row["sequence_length"] == LENGTHS
            and float(row["interactivity_tok_s_user"]) >= INTERACTIVE
        ]
    usd = {
        chip: [min(float(row[way]) for row in rows if row["gpu"] == chip) for way in PRICE_WAYS]
        for chip in CHIPS
        if any(row["gpu"] == chip for row in rows)
    }
    base, best = next(iter(usd)), min(usd, key=lambda chip: usd[chip][-1])
    ratios = [dear / cheap for dear, cheap in zip(usd[base], usd[best], strict=True)]
    yield RecordedFactor(
        workload=f"serving {model}",
        vector="silicon",
        baseline=base,
        replacement=best,
        value=ratios[-1],
        interval=(min(ratios), max(ratios)),
        unit=f"dollars a million tokens, {SERVED[model]}, {LENGTHS}, {INTERACTIVE:g} a second",
        grade=QualityGrade.MEASURED,
        source=f"{file}; range over owner's cost at two scales and a rental of three years",
    )


def _closed_set(data: Path) -> Iterator[RecordedFactor]:
    """Answer intents from their embedding, and decode only where that is not trusted."""
    split = read_intents(data_file(data, "text/clinc150.jsonl.gz"), out_of_scope=False)
    encoder = default_encoder()
    fitted = fitting.fit(split.fit, encoder=encoder, kind=fitting.PredictorKind.HEAD)
    scores = see(split, fitted)
    orders = np.random.default_rng(SEED)
    shares = [
        certified_share(scores, orders.permutation(len(scores.trust)))[0] for _ in range(DRAWS)
    ]
    low, middle, high = np.quantile(shares, [0.025, 0.5, 0.975])
    yield RecordedFactor(
        workload="intents of CLINC150",
        vector="paradigm",
        baseline="every request decoded",
        replacement="latent rung, decoding the rest",
        value=float(1 / (1 - middle)),
        interval=(float(1 / (1 - low)), float(1 / (1 - high))),
        unit="decodes; the encoder's own cost is left out",
        grade=QualityGrade.CERTIFIED,
        source=f"text/clinc150.jsonl.gz, error among answered at most {LATENT_ALPHA:g}",
    )


def _streams(data: Path) -> Iterator[RecordedFactor]:
    """Decode a stream of dialogue turns only where its meaning changed."""
    figures = run_streams(data)["sgd"]
    value, rival = figures["saving_at_0.95"], figures["saving_at_0.91"]
    if value is None or rival is None:
        return
    yield RecordedFactor(
        workload="dialogue streams of SGD",
        vector="paradigm",
        baseline="uniform decoding that holds as well",
        replacement="decoding where a learned change score says so",
        value=value,
        interval=(min(value, rival), max(value, rival)),
        unit="decodes; a range over two targets of held accuracy, 0.91 and 0.95",
        grade=QualityGrade.CERTIFIED,
        source="text/sgd_dialogues.jsonl.gz, python -m benchmarks.stream",
    )


WORKLOADS: dict[str, Callable[[Path], Iterator[RecordedFactor]]] = {
    **{name: partial(_outcomes, name) for name in OUTCOMES},
    "coding agents": _agents,
    "coding sessions": _sessions,
    **{f"serving {model}": partial(_serving, model) for model in SERVED},
    "intents of CLINC150": _closed_set,
    "dialogue streams of SGD": _streams,
}


def factors_of(workload: str, data: Path) -> Iterator[RecordedFactor]:
    """Work out the factors of one workload."""
    return WORKLOADS[workload](data)
