"""Trials without a cost are charged at the prices of a ladder, once, and unknown stays unknown."""

import json
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from suffice.cli.main import make_app
from suffice.trials.importers import read_trials
from suffice.trials.inspect_logs import _own_calls, _usage
from suffice.trials.pricing import ladder_prices

LADDER = """
reference = "big"

[engine.e]
kind = "openai"
url = "http://here/v1"

[price.cheap]
input_usd_per_mtok = 1
output_usd_per_mtok = 2

[price.dear]
input_usd_per_mtok = 10
output_usd_per_mtok = 20
cache_read_usd_per_mtok = 1

[[ladder]]
name = "small"
engine = "e"
model = "mini"
price = "cheap"

[[ladder]]
name = "big"
engine = "e"
model = "maxi"
price = "dear"
"""
USAGE = {"input_tokens": 1000, "output_tokens": 100}


@pytest.fixture
def ladder(tmp_path: Path) -> Path:
    (tmp_path / "suffice.toml").write_text(LADDER)
    return tmp_path / "suffice.toml"


def write(folder: Path, **outcomes: dict[str, object]) -> Path:
    rows = [
        {"request_id": "a", "rung": rung, "quality": 1, **outcome}
        for rung, outcome in outcomes.items()
    ]
    (folder / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "t.jsonl"


@pytest.mark.parametrize(
    ("rung", "usd"),
    [
        ("small", "0.0012"),
        ("mini", "0.0012"),
        ("openai/mini", "0.0012"),
        ("openrouter/openai/mini@high", "0.0012"),
        ("big", "0.012"),
        ("other", None),
    ],
)
def test_a_trial_is_charged_by_its_rung_or_its_model(
    ladder: Path, tmp_path: Path, rung: str, usd: str | None
) -> None:
    path = write(tmp_path, **{rung: USAGE})
    (trial,) = read_trials(path, prices=ladder_prices(ladder))
    assert trial.charge_usd == (None if usd is None else Decimal(usd))
    assert trial.charge_estimated is (rung == "big")  # its cache reads are not counted


def test_what_has_a_cost_or_no_counts_stays_as_it_is(ladder: Path, tmp_path: Path) -> None:
    path = write(tmp_path, small={**USAGE, "cost_usd": "0.5"}, big={"output_tokens": 5})
    small, big = read_trials(path, prices=ladder_prices(ladder))
    assert (small.charge_usd, small.charge_estimated) == (Decimal("0.5"), False)
    assert big.charge_usd is None
    assert all(trial.charge_usd is None for trial in read_trials(write(tmp_path, small=USAGE)))


def test_the_frontier_of_a_log_without_costs_shows_dollars(ladder: Path, tmp_path: Path) -> None:
    path = write(tmp_path, small=USAGE, big=USAGE)
    words = ["frontier", str(path), "--ladder", str(ladder), "--json"]
    result = CliRunner().invoke(make_app(), words)
    assert result.exit_code == 0, result.output
    assert "0.0012" in result.stdout


@pytest.mark.parametrize(("total", "read"), [(118, 103), (115, 100)])
def test_cached_input_counts_once_in_old_logs_too(total: int, read: int) -> None:
    tokens = SimpleNamespace(
        input_tokens=100,
        output_tokens=15,
        total_tokens=total,
        input_tokens_cache_read=3,
        input_tokens_cache_write=None,
        reasoning_tokens=None,
    )
    count = _usage(tokens).input_tokens
    assert count is not None
    assert count.tokens == read


def test_an_agents_duration_is_that_of_all_its_calls_but_the_graders() -> None:
    def call(seconds: float | None, span: str = "s") -> SimpleNamespace:
        output = SimpleNamespace(usage=1, time=seconds)
        return SimpleNamespace(event="model", model="m", output=output, span_id=span)

    grader = SimpleNamespace(event="span_begin", type="scorer", parent_id=None, id="g")
    last = SimpleNamespace(usage=9, time=2.0)

    def duration(*events: SimpleNamespace) -> float | None:
        sample = SimpleNamespace(events=events, output=last, model_usage={})
        return _own_calls(sample, "m")[1]

    assert duration(call(1.5), call(2.0), grader, call(4.0, "g")) == 3.5
    assert duration(call(1.5), call(None)) == 2.0  # not all are known: the last one's, as before
    assert duration() == 2.0
