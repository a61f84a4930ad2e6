"""What shorter answers are worth: the seed's own arithmetic, from files in their real shapes."""

import csv
import json
from decimal import Decimal
from pathlib import Path

import pytest

from suffice.config import PriceConfig
from suffice.errors import InputError
from suffice.meter import price_for
from suffice.trials.economy import Economy, RungEconomy, economy
from suffice.trials.importers import read_trials
from suffice.types import Count, CountSource, Trial, TrialStatus, Usage

SMALL_4 = PriceConfig(
    input_usd_per_mtok=Decimal("0.15"),
    output_usd_per_mtok=Decimal("0.60"),
    cache_read_usd_per_mtok=Decimal("0.015"),
    source="claims.toml, shorter-is-cheaper",
)
PRICES = {name: price_for(name, SMALL_4) for name in ("short", "long")}
PROMPT_TOKENS = 99_325  # mean of AA-LCR


def answer(n: int, rung: str, *, characters: int, quality: float = 1.0) -> Trial:
    return Trial(
        request_id=str(n),
        rung=rung,
        status=TrialStatus.SCORED,
        text=f"question {n}",
        quality=quality,
        answer="x" * characters,
        usage=Usage(
            input_tokens=Count(PROMPT_TOKENS, CountSource.REPORTED),
            output_tokens=Count(characters // 4, CountSource.REPORTED),
        ),
    )


def point(result: Economy, rung: str) -> RungEconomy:
    return next(p for p in result.rungs if p.rung == rung)


def test_the_published_comparison_gives_4_percent_uncached_and_27_cached() -> None:
    """72 % fewer characters: 4.0 % of the bill, 26.7 % with the input cached (claims)."""
    trials = [answer(n, "short", characters=1600, quality=n < 72) for n in range(100)]
    trials += [answer(n, "long", characters=5800, quality=n < 72) for n in range(100)]
    result = economy(trials, prices=PRICES)
    assert result.reference == "long"
    short = point(result, "short")
    assert short.score.value == pytest.approx(0.72)
    assert short.characters is not None
    assert short.characters.value == 1600
    assert short.usd_uncached is not None
    assert short.usd_uncached.value == pytest.approx(0.01513875)
    less = {name: figure.value for name, figure in short.less.items()}
    assert less["characters"] == pytest.approx(0.724, abs=5e-4)
    assert less["usd_uncached"] == pytest.approx(0.040, abs=5e-4)
    assert less["usd_cached"] == pytest.approx(0.267, abs=5e-4)
    assert short.score_difference is not None
    assert short.score_difference.value == 0.0


def test_differences_are_paired_by_request() -> None:
    """Lengths that vary together over requests leave a narrow interval for their ratio."""
    trials = [answer(n, "long", characters=400 * (n + 1)) for n in range(40)]
    trials += [answer(n, "short", characters=200 * (n + 1)) for n in range(40)]
    less = point(economy(trials, prices=PRICES), "short").less["characters"]
    assert less.value == pytest.approx(0.5)
    assert less.interval == pytest.approx((0.5, 0.5))


def test_unknown_stays_unknown() -> None:
    trials = [answer(n, "short", characters=100) for n in range(20)]
    bare = [
        Trial(**{f: getattr(t, f) for f in t.__struct_fields__} | {"usage": Usage()})
        for t in trials
    ]
    result = economy(bare, prices=PRICES)
    assert result.rungs[0].output_tokens is None
    assert result.rungs[0].usd_uncached is None
    assert any("--estimate-tokens" in note for note in result.notes)
    counted = economy(bare, prices=PRICES, estimate_tokens=True).rungs[0]
    assert counted.output_tokens is not None
    assert counted.output_tokens.value == 25
    assert counted.usd_uncached is None  # the input is still unknown
    unpriced = economy(trials, prices={})
    assert unpriced.rungs[0].usd_cached is None
    assert any("no price" in note for note in unpriced.notes)
    no_cache = SMALL_4.__class__(
        input_usd_per_mtok=Decimal(1), output_usd_per_mtok=Decimal(1), source="x"
    )
    alone = economy(trials, prices={"short": price_for("short", no_cache)}).rungs[0]
    assert alone.usd_uncached is not None
    assert alone.usd_cached is None


def test_a_reference_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="medium"):
        economy([answer(0, "short", characters=4)], reference="medium", prices={})
    with pytest.raises(InputError, match="scored"):
        economy([], prices={})


def test_aa_lcr_results_take_their_prompts_from_the_dataset(tmp_path: Path) -> None:
    """Columns of AA-LCR_Dataset.csv as on its card; efforts become rungs."""
    columns = (
        "document_category",
        "document_set_id",
        "question_id",
        "question",
        "answer",
        "data_source_filenames",
        "data_source_urls",
        "input_tokens",
    )
    with (tmp_path / "AA-LCR_Dataset.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for n in range(4):
            writer.writerow(("Legal", f"set{n}", n, "Who?", "He.", "a.txt;b.txt", "", 99_000 + n))
    rows = [
        {
            "question_id": n,
            "document_set_id": f"set{n}",
            "model": "m",
            "effort": effort,
            "response": "He did." * size,
            "grade": "CORRECT",
            "output_tokens": 10 * size,
        }
        for effort, size in (("none", 1), ("high", 4))
        for n in range(4)
    ]
    path = tmp_path / "graded.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    trials = read_trials(path)
    assert {trial.rung for trial in trials} == {"m@none", "m@high"}
    first = trials[0].usage.input_tokens
    assert first == Count(99_000, CountSource.ESTIMATED)
    result = economy(trials, prices={"m": PRICES["short"]})
    assert result.reference == "m@high"
    none = point(result, "m@none")
    assert none.less["characters"].value == pytest.approx(0.75)
    assert none.usd_cached is not None


def test_livecodebench_results_count_the_whole_output(tmp_path: Path) -> None:
    """`insert_output_evaluation` of lcb_runner: outputs beside the code that was cut from them."""
    for model, output in (("Model-A", "short"), ("Model-B", "long " * 10)):
        rows = [
            {
                "question_title": "T",
                "question_content": "Sort the list.",
                "platform": "leetcode",
                "question_id": f"q{n}",
                "contest_id": "c",
                "contest_date": "2024-08-01T00:00:00",
                "starter_code": "",
                "difficulty": "easy",
                "output_list": [output],
                "code_list": ["pass"],
                "graded_list": [True],
                "pass@1": 1.0,
                "metadata": ["{}"],
            }
            for n in range(3)
        ]
        folder = tmp_path / model
        folder.mkdir()
        (folder / "Scenario.codegeneration_1_0.2_eval_all.json").write_text(json.dumps(rows))
    result = economy(read_trials(tmp_path), prices={})
    assert result.reference == "Model-B"
    assert point(result, "Model-A").characters is not None
    assert point(result, "Model-A").less["characters"].value == pytest.approx(0.9)
