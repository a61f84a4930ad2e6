"""Trials from flat rows, nested rows and Inspect logs, and their table."""

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suffice.errors import InputError
from suffice.trials.importers import read_table, read_trials, write_trials
from suffice.trials.order import on_ladder
from suffice.trials.table import CostUnit
from suffice.trials.tabulate import tabulate
from suffice.types import Count, CountSource, Finish, Trial, TrialStatus, Usage, ZeroCost


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def nested(request_id: str = "a", **rungs: Any) -> dict[str, Any]:
    return {"request_id": request_id, "group": "g", "text": f"text of {request_id}", "rungs": rungs}


def flat(request_id: str = "a", rung: str = "cheap", **fields: Any) -> dict[str, Any]:
    return {"request_id": request_id, "rung": rung, "text": f"text of {request_id}"} | fields


def refusal(tmp_path: Path, *rows: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        read_table(write(tmp_path / "trials.jsonl", *rows))
    return caught.value


def count(tokens: int) -> Count:
    return Count(tokens, CountSource.REPORTED)


def test_nested_rows_become_a_table(tmp_path: Path) -> None:
    path = write(
        tmp_path / "trials.jsonl",
        nested("a", cheap={"correct": True, "output_words": 3}, dear={"score": 0.5}),
        nested("b", cheap={"correct": False, "answer": 7, "finish": "max_tokens"}, dear={}),
    )
    table = read_table(path)
    assert table.request_ids == ("a", "b")
    assert table.texts == ("text of a", "text of b")
    assert table.groups == ("g", "g")
    assert table.rungs == ("cheap", "dear")
    np.testing.assert_array_equal(table.quality, [[1.0, 0.5], [0.0, np.nan]])
    assert table.cost_unit is None
    assert table.signals[1][0].answer == "7"
    assert table.signals[1][0].finish is Finish.LENGTH


def test_everything_of_a_trial_survives_a_file(tmp_path: Path) -> None:
    trials = (
        Trial(
            request_id="a",
            rung="cheap",
            status=TrialStatus.SCORED,
            text="1+1?",
            group="sums",
            quality=0.25,
            scorer="numeric",
            answer="2",
            reasoning="1+1=2",
            finish=Finish.STOP,
            mean_logprob=-0.5,
            samples=("2", "3"),
            usage=Usage(input_tokens=count(9), output_tokens=Count(4, CountSource.ESTIMATED)),
            output_words=3,
            charge_usd=Decimal("0.0000012"),
            charge_estimated=True,
            duration_s=0.5,
            ttft_s=0.1,
            effort_seen=False,
        ),
        Trial(
            request_id="a",
            rung="dear",
            status=TrialStatus.FAILED,
            text="1+1?",
            error="gone",
            retryable=True,
        ),
    )
    write_trials(tmp_path / "trials.jsonl", trials)
    assert read_trials(tmp_path / "trials.jsonl") == trials


def test_flat_rows_of_other_work_need_few_fields(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl.gz"
    rows = [
        flat(quality=1, output_tokens=5, cost_usd=0.25, logprob=-1.5, something_else="x"),
        flat(rung="dear", correct=0, output_tokens=50, charge_usd="1.5", logprobs=[-1.0, -2.0]),
    ]
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    cheap, dear = read_trials(path)
    assert (cheap.quality, cheap.charge_usd, cheap.mean_logprob) == (1.0, Decimal("0.25"), -1.5)
    assert (dear.quality, dear.charge_usd, dear.mean_logprob) == (0.0, Decimal("1.5"), -1.5)
    assert cheap.usage.output_tokens == count(5)
    assert cheap.status is TrialStatus.SCORED


@pytest.mark.parametrize(
    ("cheap", "dear", "unit", "cost"),
    [
        ({"cost_usd": 1, "output_tokens": 9}, {"cost_usd": 2}, CostUnit.USD, [[1, 2]]),
        (
            {"cost_usd": 1, "output_tokens": 9},
            {"output_tokens": 8, "output_words": 1},
            CostUnit.OUTPUT_TOKENS,
            [[9, 8]],
        ),
        (
            {"output_tokens": 9, "output_words": 4},
            {"output_words": 0},
            CostUnit.OUTPUT_WORDS,
            [[4, 0]],
        ),
        ({"output_tokens": 9}, {"output_words": 5}, None, [[np.nan, np.nan]]),
        ({"cost_usd": 1}, {"status": "failed"}, CostUnit.USD, [[1, np.nan]]),
        ({"status": "failed"}, {"status": "failed"}, None, [[np.nan, np.nan]]),
    ],
)
def test_one_unit_of_cost_covers_every_answer_or_there_is_none(
    tmp_path: Path, cheap: Any, dear: Any, unit: CostUnit | None, cost: Any
) -> None:
    table = read_table(write(tmp_path / "t.jsonl", nested("a", cheap=cheap, dear=dear)))
    assert table.cost_unit is unit
    np.testing.assert_array_equal(table.cost, cost)


def test_dollars_put_the_rungs_in_order_and_words_do_not(tmp_path: Path) -> None:
    for field, order in (("cost_usd", ("terse", "wordy")), ("output_words", ("wordy", "terse"))):
        row = nested("a", wordy={field: 3, "quality": 0.5}, terse={field: 1, "quality": 1})
        table = read_table(write(tmp_path / "t.jsonl", row))
        assert table.rungs == order
        assert table.quality[0, table.rung_index("wordy")] == 0.5
        assert table.cost[0, table.rung_index("wordy")] == 3


def test_a_retried_trial_replaces_the_failed_one(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.jsonl",
        flat(status="failed", retryable=True),
        flat(rung="dear", quality=1),
        flat(quality=0.5),
    )
    trials = read_trials(path)
    assert [(t.rung, t.quality) for t in trials] == [("cheap", 0.5), ("dear", 1.0)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([flat(quality=1), "{"], "line 2: "),
        ([flat(quality=1), "7"], "line 2: a int where"),
        ([flat(quality=1), '{"request_id": "b", "rung": "x", "quality": NaN}'],
         "line 2: field 'quality' is nan"),
        ([nested(cheap={}), '{"request_id": "b", "rungs": {"cheap": {"score": Infinity}}}'],
         "line 2: field 'rungs.cheap.score' is inf"),
        ([flat(quality=1), flat("b", quality="high")], "line 2: field 'quality': Expected"),
        ([nested(cheap={"correct": True}), nested("b", cheap={"correct": "yes"})],
         "line 2, rung 'cheap': field 'correct': Expected"),
        ([flat(quality=1.5)], "line 1, rung 'cheap': field 'quality' is 1.5, outside [0, 1]"),
        ([nested(cheap={}), nested("b")], "line 2: field 'rungs' is empty"),
        ([flat(output_tokens=-1)], "line 1: field 'output_tokens': Expected `int` >= 0"),
        ([flat(cost_usd=-1)], "line 1, rung 'cheap': field 'cost_usd' is -1"),
        ([flat(charge_usd="NaN")], "line 1, rung 'cheap': field 'charge_usd' is NaN"),
        ([nested(cheap={"score": -1})], "line 1, rung 'cheap': field 'score' is -1.0, outside"),
        ([flat(status="scored")], "field 'status' is 'scored', and the quality None"),
        ([flat(status="failed", quality=1)], "field 'status' is 'failed', and the quality 1.0"),
        ([flat(quality=1), flat(quality=0)],
         "line 2: request_id 'a' on rung 'cheap' has quality 0.0, and 1.0 in"),
        ([flat(quality=1, run=3), flat(quality=0, run=3)],
         "line 2: request_id 'a' on rung 'cheap', run '3', has quality 0.0, and 1.0 in"),
        ([nested(cheap={"answer": 1}), nested(cheap={"answer": 2})],
         "line 2: request_id 'a' on rung 'cheap' repeats"),
        ([flat(quality=1), nested("b", cheap={})], "line 2: a flat and a nested row"),
        ([nested(cheap={}), flat("b")], "line 2: a flat and a nested row"),
        ([flat(quality=1), flat("b", text=3)], "line 2: field 'text': Expected"),
        ([{"request_id": "a", "text": "x", "target": "y"}], "line 1: neither a field 'rung' nor"),
        ([], "is empty"),
        (["", "  "], "is empty"),
        ([nested("a", dear={}), nested("b", cheap={}), nested("c", cheap={})],
         "no request has a trial on every rung: no 'cheap' trial: 1, no 'dear' trial: 2"),
        ([flat(quality=1, cluster="x"), flat(rung="dear", quality=1, cluster="y")],
         "two clusters"),
        ([flat(quality=1), flat(rung="dear", quality=1, text="another")], "'a' has two texts"),
        ([flat(quality=1, group="x"), flat(rung="dear", quality=1, group="y")], "two groups"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused_with_the_line_and_field(
    tmp_path: Path, rows: list[Any], says: str
) -> None:
    error = refusal(tmp_path, *rows)
    assert says in error.message
    assert error.hint


def test_requests_without_a_rung_are_left_out_and_many_are_said(tmp_path: Path) -> None:
    rows = [nested("a", cheap={}, dear={}), *(nested(f"b{i}", cheap={}) for i in range(9))]
    table = read_table(write(tmp_path / "trials.jsonl", *rows))
    assert (table.request_ids, table.left_out) == (("a",), {"no 'dear' trial": 9})
    assert "rung 'dear' has no trial of 90.0 % of the requests" in table.notes[0]
    few = [*(nested(f"b{i}", cheap={}, dear={}) for i in range(9)), nested("a", cheap={})]
    table = read_table(write(tmp_path / "trials.jsonl", *few))
    assert (len(table), table.left_out, table.notes) == (9, {"no 'dear' trial": 1}, ())


def test_a_file_that_is_not_there_or_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_trials(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="holds no Inspect log"):
        read_trials(tmp_path)
    with pytest.raises(InputError, match="cannot write"):
        write_trials(tmp_path / "no" / "such.jsonl", [])


@pytest.mark.parametrize(
    ("encoding", "says"),
    [("latin-1", "line 2: byte 0xe9 is not UTF-8"), ("utf-16", "line 1: byte 0xff is not UTF-8")],
)
@pytest.mark.parametrize("name", ["trials.jsonl", "trials.json"])
def test_a_file_of_another_encoding_is_refused_with_its_line(
    tmp_path: Path, name: str, encoding: str, says: str
) -> None:
    """Shells and spreadsheets of Windows write both."""
    path = tmp_path / name
    rows = [flat(quality=1, text="tea"), flat(rung="dear", quality=1, text="caf\u00e9")]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_bytes(lines.encode(encoding))
    with pytest.raises(InputError, match=says) as caught:
        read_trials(path)
    assert "UTF-8" in caught.value.hint


def test_what_json_does_not_know_is_to_be_null(tmp_path: Path) -> None:
    path = write(tmp_path / "trials.jsonl", '{"request_id": "a", "rung": "b", "quality": NaN}')
    with pytest.raises(InputError, match="field 'quality' is nan") as caught:
        read_trials(path)
    assert "null" in caught.value.hint


def test_several_files_join(tmp_path: Path) -> None:
    one = write(tmp_path / "1.jsonl", flat(quality=1), flat("b", quality=0))
    two = write(tmp_path / "2.jsonl", flat(rung="dear", quality=1), flat("b", "dear", quality=1))
    np.testing.assert_array_equal(read_table(one, two).quality, [[1, 1], [0, 1]])


MAKE_LOGS = """
import sys
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.log import write_eval_log
from inspect_ai.model import (
    ContentReasoning, ContentText, GenerateConfig, ModelOutput, ModelUsage, get_model
)
from inspect_ai.scorer import match

folder = sys.argv[1]
usage = dict(input_tokens=10, output_tokens=5, total_tokens=18, input_tokens_cache_read=3,
             reasoning_tokens=2)

def model(effort, answers, reason, cost):
    outputs = [ModelOutput.from_content("small", a, stop_reason=reason) for a in answers]
    for output, answer in zip(outputs, answers):
        output.usage = ModelUsage(**usage, total_cost=cost)
        if effort == "high":
            output.choices[0].message.content = [
                ContentReasoning(reasoning="sealed", redacted=True),
                ContentReasoning(reasoning=f"it is {answer}"),
                ContentText(text=answer),
            ]
    config = GenerateConfig(reasoning_effort=effort)
    return get_model("mockllm/small", custom_outputs=outputs, config=config, memoize=False)

samples = [Sample(id="one", input="1+1?", target="2"), Sample(id="two", input="2+2?", target="4")]
low, high = eval(
    Task(name="sums", dataset=samples, scorer=match()),
    model=[model("low", ["2", "5"], "stop", 0.5), model("high", ["2", "4"], "max_tokens", None)],
    log_dir=f"{folder}/both", display="none", max_samples=1, max_tasks=1,
)
eval(
    Task(name="sums", dataset=samples, scorer=match(), epochs=2),
    model=[model("low", ["2", "5", "2", "4"], "stop", 0.5)],
    log_dir=f"{folder}/epochs", display="none", max_samples=1, max_tasks=1,
)
for log, name in ((low, "low.eval"), (low, "low.json"), (high, "high.json")):
    write_eval_log(log, f"{folder}/{name}")
"""
RECORDED = Path(__file__).parent / "inspect"  # what the script above has written


@pytest.fixture(scope="module", params=["recorded", pytest.param("new", marks=pytest.mark.slow)])
def logs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, source = tmp_path_factory.mktemp("logs"), RECORDED
    if request.param == "new":
        source = tmp_path_factory.mktemp("new")
        command = [sys.executable, "-c", MAKE_LOGS, str(source)]
        subprocess.run(command, check=True, capture_output=True)
    for name in ("good", "nan", "ten", "word", "failed", "empty"):
        (folder / name).mkdir()
    shutil.copy(source / "low.eval", folder / "good" / "1.eval")
    shutil.copy(source / "high.json", folder / "good" / "2.json")
    shutil.copytree(source / "epochs", folder / "epochs")

    def change(name: str, change_sample: Callable[[dict[str, Any]], None] | None) -> None:
        log = json.loads((source / "low.json").read_text())
        for sample in log["samples"] if change_sample else ():
            change_sample(sample)
        log["samples"] = log["samples"] if change_sample else []
        (folder / name / "1.json").write_text(json.dumps(log))

    def score(value: object) -> Callable[[dict[str, Any]], None]:
        return lambda sample: sample["scores"]["match"].update(value=value)

    def fail(sample: dict[str, Any]) -> None:
        if sample["id"] == "two":
            sample["error"] = {"message": "gone", "traceback": "", "traceback_ansi": ""}

    change("nan", score(float("nan")))
    change("ten", score(10))
    change("word", score({"a": 1}))
    change("failed", fail)
    change("empty", None)
    return folder


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
class TestInspectLogs:
    def test_logs_of_one_task_at_two_efforts_become_two_rungs(self, logs: Path) -> None:
        table = read_table(logs / "good")
        assert table.request_ids == ("sums/one", "sums/two")
        assert table.rungs == ("mockllm/small@low", "mockllm/small@high")
        np.testing.assert_array_equal(table.quality, [[1, 1], [0, 1]])
        assert table.texts == ("1+1?", "2+2?")
        assert table.groups == ("sums", "sums")
        assert table.cost_unit is CostUnit.OUTPUT_TOKENS

    def test_usage_counts_cached_input_once(self, logs: Path) -> None:
        low, *_, high = read_trials(*sorted((logs / "good").iterdir()))
        for trial in (low, high):
            assert trial.usage == Usage(
                input_tokens=count(13),
                cache_read_tokens=count(3),
                output_tokens=count(5),
                reasoning_tokens=count(2),
            )
            assert trial.scorer == "match"
        assert (low.charge_usd, high.charge_usd) == (Decimal("0.5"), None)
        assert (low.finish, high.finish) == (Finish.STOP, Finish.LENGTH)
        assert (low.answer, high.answer) == ("2", "4")
        assert (low.reasoning, high.reasoning) == (None, "it is 4")

    @pytest.mark.parametrize("folder", ["nan", "word"])
    def test_a_score_that_is_no_number_is_unscored(self, logs: Path, folder: str) -> None:
        assert {t.status for t in read_trials(logs / folder)} == {TrialStatus.UNSCORED}

    @pytest.mark.parametrize(
        ("value", "quality"), [("yes", 1.0), ("False", 0.0), ("0.25", 0.25), ("dunno", None)]
    )
    def test_words_and_numbers_in_text_are_scores_as_inspect_reads_them(
        self, logs: Path, tmp_path: Path, value: str, quality: float | None
    ) -> None:
        log = json.loads((logs / "nan" / "1.json").read_text())
        for sample in log["samples"]:
            sample["scores"] = {
                "parts": {"value": {"a": 1}},
                "match": {"value": value},
            }
        (tmp_path / "1.json").write_text(json.dumps(log))
        trials = read_trials(tmp_path / "1.json")
        assert {(t.scorer, t.quality) for t in trials} == {("match", quality)}

    def test_a_sample_that_was_taken_back_is_unscored(self, logs: Path, tmp_path: Path) -> None:
        log = json.loads((RECORDED / "low.json").read_text())
        log["samples"][0]["invalidation"] = {"author": "me", "reason": "leaked"}
        (tmp_path / "1.json").write_text(json.dumps(log))
        first, second = read_trials(tmp_path / "1.json")
        assert (first.status, second.status) == (TrialStatus.UNSCORED, TrialStatus.SCORED)

    def test_a_sample_at_its_limit_has_the_score_that_the_log_gives(
        self, logs: Path, tmp_path: Path
    ) -> None:
        log = json.loads((RECORDED / "low.json").read_text())
        log["samples"][0]["output"] = {"model": "mockllm/small", "choices": []}
        log["samples"][0]["scores"]["match"]["value"] = "I"
        (tmp_path / "1.json").write_text(json.dumps(log))
        assert read_trials(tmp_path / "1.json")[0].quality == 0.0

    @pytest.mark.parametrize(
        ("config", "rung"),
        [
            ({"effort": "max"}, "mockllm/small@max"),
            ({"reasoning_tokens": 16000}, "mockllm/small@16000"),
        ],
    )
    def test_an_effort_by_any_name_is_a_rung_of_its_own(
        self, logs: Path, tmp_path: Path, config: dict[str, Any], rung: str
    ) -> None:
        log = json.loads((RECORDED / "low.json").read_text())
        log["plan"]["config"] = config
        log["eval"]["model_generate_config"] = {}
        (tmp_path / "1.json").write_text(json.dumps(log))
        assert {t.rung for t in read_trials(tmp_path / "1.json")} == {rung}

    def test_each_epoch_is_a_run(self, logs: Path) -> None:
        trials = read_trials(logs / "epochs")
        assert [t.request_id for t in trials].count("sums/one") == 2
        assert len({(t.request_id, t.run) for t in trials}) == 4
        again = read_trials(*(logs / "epochs").iterdir(), *(logs / "epochs").iterdir())
        assert again == trials, "the same log twice is the same runs"

    def test_a_sample_that_failed_is_failed_not_wrong(self, logs: Path) -> None:
        first, second = read_trials(logs / "failed")
        assert first.status is TrialStatus.SCORED
        assert (second.status, second.quality) == (TrialStatus.FAILED, None)
        assert second.error == "gone"

    @pytest.mark.parametrize(
        ("folder", "says"),
        [("ten", "gave 10"), ("empty", "holds no sample")],
    )
    def test_what_would_mislead_is_refused(self, logs: Path, folder: str, says: str) -> None:
        with pytest.raises(InputError, match=says):
            read_trials(logs / folder)

    @pytest.mark.parametrize(
        ("name", "content"), [("x.json", "{}"), ("x.eval", "PK"), ("y.json", "")]
    )
    def test_another_file_is_not_taken_for_a_log(
        self, tmp_path: Path, name: str, content: str
    ) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="is not an Inspect log"):
            read_trials(tmp_path / name)
        with pytest.raises(InputError, match="cannot read"):
            read_trials(tmp_path / "none.eval")


def test_a_trial_alone_needs_no_file() -> None:
    trials = [
        Trial(request_id="a", rung=rung, status=TrialStatus.UNSCORED, text="") for rung in "xy"
    ]
    assert tabulate(trials).texts == ("",)


def run_rows(**runs: list[tuple[float, str]]) -> list[dict[str, Any]]:
    """Write a request's runs: quality and answer by rung."""
    return [
        flat(rung=rung, run=at, quality=quality, answer=answer)
        for rung, outcomes in runs.items()
        for at, (quality, answer) in enumerate(outcomes)
    ]


def test_runs_are_rows_of_one_cluster_and_fewer_are_taken_in_turn(tmp_path: Path) -> None:
    rows = run_rows(cheap=[(0, "a"), (1, "b"), (0.5, "c")], dear=[(1, "d"), (0, "e")])
    rows += [flat("z", quality=1, text="other"), flat("z", "dear", quality=1, text="other")]
    table = read_table(write(tmp_path / "t.jsonl", *rows))
    assert table.request_ids == ("a#1", "a#2", "a#3", "z")
    np.testing.assert_array_equal(table.quality, [[0, 1], [1, 0], [0.5, 1], [1, 1]])
    assert [[s.answer for s in row] for row in table.signals[:3]] == [
        ["a", "d"], ["b", "e"], ["c", "d"],
    ]  # fmt: skip
    assert table.clusters.tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("ids", [("a", "a#2"), ("a#2", "a")])
def test_a_run_never_takes_the_place_of_a_request_of_its_name(
    tmp_path: Path, ids: tuple[str, str]
) -> None:
    rows = [flat(i, rung, quality=1) for i in ids for rung in ("cheap", "dear")]
    rows.append(flat("a", "dear", quality=0, run=2))
    with pytest.raises(InputError, match="run 2 of request 'a' has the name of request 'a#2'"):
        read_table(write(tmp_path / "trials.jsonl", *rows))


def test_runs_without_text_are_one_cluster_all_the_same(tmp_path: Path) -> None:
    rows = [row | {"text": ""} for row in run_rows(cheap=[(0, "a"), (1, "b")], dear=[(1, "d")])]
    assert read_table(write(tmp_path / "t.jsonl", *rows)).clusters.tolist() == [0, 0]


def test_each_run_counts_nearly_equally(tmp_path: Path) -> None:
    rows = run_rows(cheap=[(0, str(i)) for i in range(7)], dear=[(1, str(i)) for i in range(3)])
    table = read_table(write(tmp_path / "t.jsonl", *rows))
    used = [row[1].answer for row in table.signals]
    assert {used.count(answer) for answer in used} == {2, 3}


def test_declared_clusters_join_different_texts(tmp_path: Path) -> None:
    rows = [
        nested(name, cheap={}, dear={}) | {"cluster": cluster}
        for name, cluster in (("a", "s"), ("b", 7), ("c", "s"), ("d", None))
    ]
    table = read_table(write(tmp_path / "t.jsonl", *rows))
    assert table.clusters.tolist() == [0, 1, 0, 2]
    assert table.cluster_names == ("s", "7", "d")


def test_exact_repeats_are_counted_once_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", flat(quality=1), flat("b", quality=0), flat(quality=1))
    notes: list[str] = []
    assert len(read_trials(path, path, note=notes.append)) == 2
    assert notes == ["4 rows repeat another one exactly and are counted once"]


def priced(*costs: Any, tokens: int | None = None) -> list[dict[str, Any]]:
    return [
        flat(f"r{at}", rung, quality=1, cost_usd=cost, output_tokens=tokens)
        for at, cost in enumerate(costs)
        for rung in ("cheap", "dear")
    ]


def test_a_few_without_a_cost_are_left_out_and_do_not_change_the_unit(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.jsonl", *priced(*[1] * 99, None, tokens=5)))
    assert (table.cost_unit, len(table), table.left_out) == (CostUnit.USD, 99, {"no cost": 1})


def test_the_unit_that_most_have_counts_where_the_better_one_is_rare(tmp_path: Path) -> None:
    table = read_table(write(tmp_path / "t.jsonl", *priced(*[1] * 60, *[None] * 40, tokens=5)))
    assert (table.cost_unit, len(table)) == (CostUnit.OUTPUT_TOKENS, 100)
    table = read_table(write(tmp_path / "t.jsonl", *priced(*[1] * 30, *[None] * 70)))
    assert (table.cost_unit, len(table), table.left_out) == (None, 100, {})
    assert "costs count as unknown" in table.notes[0]


def test_many_costs_of_0_beside_dollars_are_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", *priced(*[0] * 10, *[1] * 90))
    with pytest.raises(InputError, match="20 of 200 costs are exactly 0") as caught:
        read_trials(path)
    assert "--zero-cost" in str(caught.value.hint)
    free = tabulate(read_trials(path, zero_cost=ZeroCost.FREE))
    assert (len(free), free.cost.min()) == (100, 0.0)
    unknown = tabulate(read_trials(path, zero_cost=ZeroCost.UNKNOWN))
    assert unknown.left_out == {"no cost": 10}


def test_few_costs_of_0_and_those_of_calls_without_output_are_not_asked_about(
    tmp_path: Path,
) -> None:
    few = write(tmp_path / "few.jsonl", *priced(*[0] * 5, *[1] * 95))
    assert len(read_trials(few)) == 200
    held = [row | {"rung": "latent"} for row in priced(*[0] * 10, tokens=0)[::2]]
    rows = write(tmp_path / "held.jsonl", *held, *priced(*[1] * 10))
    assert len(read_trials(rows)) == 30


def test_a_rung_dearer_by_the_rows_that_all_have_does_not_enter(tmp_path: Path) -> None:
    """The dearer rung looks cheap by its mean, for its dearest requests have no cost."""
    rows = [
        nested(str(i), dear={"cost_usd": 3 if i else None}, reference={"cost_usd": 2},
               cheap={"cost_usd": 1})
        for i in range(40)
    ]  # fmt: skip
    table = on_ladder(read_table(write(tmp_path / "t.jsonl", *rows)), reference="reference")
    assert table.rungs == ("cheap", "reference")
