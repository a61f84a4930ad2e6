"""The command line: what it prints, its exit statuses, and no traceback for any bad input."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from suffice import __version__
from suffice.certify.bundle import CERTIFICATE, POLICY
from suffice.certify.bundling import Certification
from suffice.cli.main import main
from suffice.ladder import example_ladders
from suffice.ledger import Ledger, totals
from suffice.policy import load_policy, save_policy
from suffice.trials.importers import read_trials
from support import CONFIG, blind_trials, lay_out, make_tasks, make_trials, write_jsonl

KEYS = {
    "certified",
    "share",
    "risk",
    "bound",
    "n",
    "losses",
    "saving",
    "risk_kind",
    "baselines",
    "quality",
    "reference_quality",
}


class Ran:
    """How a command ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in an empty folder, in this process."""
    monkeypatch.chdir(tmp_path)

    def running(*words: object) -> Ran:
        capsys.readouterr()
        status = 0
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        captured = capsys.readouterr()
        return Ran(status, captured.out, captured.err)

    return running


@pytest.fixture
def refuses(run: Run) -> Callable[..., str]:
    """Run a command that must end with one plain error and its hint; returns what it said."""

    def refusing(*words: object, status: int = 2, hint: bool = True) -> str:
        ran = run(*words)
        assert ran.status == status, ran.out + ran.err
        assert "Traceback" not in ran.err
        assert ran.err.count("error: ") == 1, ran.err
        assert not hint or "\nhint: " in ran.err, ran.err
        return ran.err

    return refusing


@pytest.fixture
def folder(tmp_path: Path, settled: Certification) -> Path:
    lay_out(tmp_path, settled)
    write_jsonl(tmp_path / "some.jsonl", make_tasks(settled.trials)[:20])
    return tmp_path


CERTIFY = ("--reference", "big", "--alpha", "0.1")
ANSWER = ("--ladder", "suffice.toml", "--ledger", "books.db", "--out", "answers.jsonl")

# -- certify -------------------------------------------------------------------------------------


def test_certify_prints_the_figures(folder: Path, run: Run, settled: Certification) -> None:
    ran = run("certify", "trials.jsonl", *CERTIFY, "--delta", "0.1", "--seed", "0", "--json")
    assert ran.status == 0
    assert ran.json.keys() >= KEYS
    for name in ("share", "risk", "bound", "n", "losses", "quality", "reference_quality"):
        assert ran.json[name] == getattr(settled.result, name)
    assert ran.json["saving"] == pytest.approx(settled.result.saving)
    assert ran.json["risk_kind"] == "excess_over_reference"
    for name in ("cost_matched_random", "always_cheapest", "oracle"):
        assert ran.json["baselines"][name].keys() >= {"risk", "saving"}


def test_certify_says_the_same_to_people(folder: Path, run: Run, settled: Certification) -> None:
    ran = run("certify", "trials.jsonl", *CERTIFY)
    assert "nobody counts this look" in ran.err
    assert ran.status == 0
    assert "certified: with 90.0 % confidence the risk is at most 10.0 %" in ran.out
    assert f"{settled.result.losses:g} of {settled.result.n} lost" in ran.out
    assert f"small {100 * settled.result.share['small']:.1f} %" in ran.out
    for words in ("random, matched", "always the cheapest", "always the reference", "oracle"):
        assert words in ran.out
    assert "(seeds ;" not in ran.out


def test_without_costs_the_saving_is_null(folder: Path, run: Run) -> None:
    bare = [replace(t, usage=type(t.usage)(), charge_usd=None) for t in make_trials()]
    write_jsonl(folder / "bare.jsonl", bare)
    assert run("certify", "bare.jsonl", *CERTIFY, "--json").json["saving"] is None
    assert "unknown" in run("certify", "bare.jsonl", *CERTIFY).out


def test_nothing_certified_is_status_3_with_the_figures_of_the_reference(
    folder: Path, run: Run
) -> None:
    write_jsonl(folder / "blind.jsonl", blind_trials(300, wrong_every=4))
    ran = run("certify", "blind.jsonl", *CERTIFY, "--no-random-part", "--json", "--out", "nothing")
    assert ran.status == 3
    assert ran.json["certified"] is False
    assert ran.json["share"] == {"small": 0.0, "big": 1.0}
    assert "no alpha below" in ran.err
    assert not Path("nothing").exists()
    people = run("certify", "blind.jsonl", *CERTIFY, "--no-random-part")
    assert people.status == 3
    assert "NOT certified" in people.out


def test_a_certificate_of_luck_alone_says_so(folder: Path, run: Run) -> None:
    write_jsonl(folder / "blind.jsonl", blind_trials(300, wrong_every=4))
    figures = run("certify", "blind.jsonl", *CERTIFY, "--json").json
    assert (figures["certified"], figures["family"]) == (True, "fixed")
    assert figures["saving"] == figures["baselines"]["random"]["saving"]
    people = run("certify", "blind.jsonl", *CERTIFY)
    assert people.status == 0
    assert "this is random routing: no score judged a request, and all of its saving" in people.out
    assert "lost if the policy applied to all; bound" in people.out


def test_certify_tells_the_policys_judgement_from_luck(folder: Path, run: Run) -> None:
    figures = run("certify", "trials.jsonl", *CERTIFY, "--json").json
    whole, luck = figures["saving"], figures["baselines"]["random"]["saving"]
    assert whole > luck > 0
    said = run("certify", "trials.jsonl", *CERTIFY).out
    assert f"random routing is certified for {100 * luck:.1f} %" in said
    assert f"the policy's judgement adds {100 * (whole - luck):.1f} %" in said


def test_a_fixed_rung_for_all_requests_is_neither_luck_nor_judgement(
    folder: Path, run: Run
) -> None:
    same = [replace(t, quality=1.0) for t in make_trials()]
    write_jsonl(folder / "same.jsonl", same)
    said = run("certify", "same.jsonl", *CERTIFY).out
    assert "use small as your reference" in said
    assert "random routing" not in said


def test_luck_is_counted_in_requests_where_no_cost_is_known(folder: Path, run: Run) -> None:
    bare = [replace(t, usage=type(t.usage)(), charge_usd=None) for t in make_trials()]
    write_jsonl(folder / "bare.jsonl", bare)
    said = run("certify", "bare.jsonl", *CERTIFY).out
    assert "of the cheaper share, random routing is certified" in said
    assert "costs are unknown, so the policy was chosen by the share of requests" in said


def test_certify_keeps_a_bundle_that_answer_takes(folder: Path, run: Run) -> None:
    ran = run("certify", "trials.jsonl", *CERTIFY, "--out", "kept", "--json")
    assert "nobody counts this look" not in ran.err
    assert ran.status == 0
    assert ran.json["certificate"]["certificate_id"]
    ran = run("answer", "some.jsonl", *ANSWER, "--certificate", "kept", "--json")
    assert ran.status == 0
    assert (ran.json["answered"], ran.json["fallbacks"]) == (20, {})


def test_agreement_and_seed_reach_the_result(folder: Path, run: Run) -> None:
    ran = run("certify", "trials.jsonl", *CERTIFY, "--agreement", "--seed", "5", "--json")
    assert ran.status == 0
    assert (ran.json["label_source"], ran.json["seed"]) == ("agreement", 5)


# -- the other commands --------------------------------------------------------------------------


def test_version_and_help(run: Run) -> None:
    assert run("--version").out == f"{__version__}\n"
    helped = run("--help")
    assert helped.status == 0
    for command in (
        "certify",
        "recertify",
        "bench",
        "frontier",
        "answer",
        "report",
        "demo",
        "init",
    ):
        assert command in helped.out
    assert "Usage" in run().out + run().err


@pytest.mark.parametrize("example", example_ladders())
def test_init_writes_a_ladder_that_checks(run: Run, example: str) -> None:
    assert run("init", "mine.toml", "--example", example).status == 0
    checked = run("ladder", "mine.toml")
    assert checked.status == 0
    assert "(reference)" in checked.out


def test_init_never_overwrites(refuses: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "suffice.toml").write_text("mine")
    assert "exists already" in refuses("init")
    assert (tmp_path / "suffice.toml").read_text() == "mine"
    assert "cannot write" in refuses("init", "suffice.toml/x.toml")
    assert "no example ladder" in refuses("init", "x.toml", "--example", "nope")


def test_bench_writes_trials_and_goes_on(folder: Path, run: Run) -> None:
    ran = run("bench", "some.jsonl", "--ladder", "suffice.toml", "--out", "t.jsonl", "--json")
    assert ran.status == 0
    assert (ran.json["answered"], ran.json["kept"]) == (40, 0)
    again = run("bench", "some.jsonl", "--ladder", "suffice.toml", "--out", "t.jsonl")
    assert again.status == 0
    assert "0 answers now, 40 kept" in again.out
    assert len(read_trials("t.jsonl")) == 40


def test_frontier_shows_every_rung(folder: Path, run: Run) -> None:
    ran = run("frontier", "trials.jsonl", "--json")
    assert ran.status == 0
    assert {rung["rung"] for rung in ran.json["rungs"]} == {"small", "big"}
    people = run("frontier", "trials.jsonl")
    assert "small" in people.out
    assert "big" in people.out


def test_answer_books_and_writes(folder: Path, run: Run) -> None:
    words = ("answer", "some.jsonl", *ANSWER, "--certificate", "bundle", "--audit", "0.5")
    ran = run(*words, "--json")
    assert ran.status == 0
    assert ran.json["answered"] == 20
    assert 0 < ran.json["audited"] < 20
    again = run(*words)
    assert again.status == 0
    assert "20 were in the ledger already" in again.out
    assert len(Path("answers.jsonl").read_text().splitlines()) == 20


def test_fallbacks_are_said_aloud(folder: Path, run: Run) -> None:
    ran = run("answer", "some.jsonl", *ANSWER)
    assert ran.status == 0
    assert "the reference answered 20 requests because there is no certificate" in ran.err


def test_recertify_makes_the_next_bundle(folder: Path, run: Run) -> None:
    words = ("answer", "tasks.jsonl", *ANSWER, "--certificate", "bundle")
    run(*words, "--audit", "1", "--store-text")
    ran = run("recertify", "books.db", *CERTIFY, "--out", "next", "--json")
    assert ran.status == 0
    assert ran.json.keys() >= KEYS
    assert ran.json["certified"] is True
    ran = run("answer", "some.jsonl", *ANSWER[:3], "new.db", *ANSWER[4:], "--certificate", "next")
    assert ran.status == 0


@pytest.mark.slow
def test_reports_on_trials_and_on_a_ledger(folder: Path, run: Run) -> None:
    assert run("report", "trials.jsonl", "--out", "trials.html").status == 0
    assert run("report", "trials.jsonl", "--out", "c.html", *CERTIFY).status == 0
    run("answer", "some.jsonl", *ANSWER)
    assert run("report", "books.db", "--out", "books.html").status == 0
    for page in ("trials.html", "c.html", "books.html"):
        assert "<html" in Path(page).read_text("utf-8")
    assert run("report", "trials.jsonl", *CERTIFY, "--json").json["verdict"]["certified"] is True
    assert run("report", "books.db", "--json").json["whole"]["requests"] == 20


def test_the_installed_script_runs(folder: Path) -> None:
    script = Path(sys.executable).with_name("suffice")
    done = subprocess.run(
        [script, "certify", "trials.jsonl", *CERTIFY, "--json"],
        check=False,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() >= KEYS
    failed = subprocess.run(
        [script, "certify", "gone", *CERTIFY], check=False, capture_output=True, text=True
    )
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: cannot read gone")


# -- bad input -----------------------------------------------------------------------------------

ROW = '{"request_id": "a", "rung": "small", "quality": 1}\n'


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        (ROW + '{"request_id": "b", "rung": \n', "line 2"),
        (ROW + '{"request_id": "b", "rung": "small", "quality": "high"}\n', "field 'quality'"),
        (ROW + '{"rung": "small", "quality": 1}\n', "request_id"),
        (ROW + '{"request_id": "b", "rung": "small", "quality": 1.5}\n', "outside [0, 1]"),
        (ROW + '{"request_id": "b", "rung": "small", "quality": -0.1}\n', "outside [0, 1]"),
        (ROW + '{"request_id": "b", "rung": "small", "quality": NaN}\n', "'quality' is nan"),
        (ROW + ROW.replace("1", "0"), "line 2: request_id"),
        ('{"question": "?"}\n', "neither a field 'rung' nor 'rungs'"),
        ("[1, 2]\n", "line 1"),
        ("\x00\x01binary", "line 1"),
        ('{"request_id": "a", "rungs": {}}\n', "'rungs' is empty"),
        ('{"request_id": "a", "rungs": {"small": {"quality": 7}}}\n', "line 1, rung 'small'"),
    ],
)
@pytest.mark.parametrize("command", ["certify", "frontier", "report"])
def test_bad_trials_are_named(
    refuses: Callable[..., str], tmp_path: Path, command: str, content: str, complaint: str
) -> None:
    (tmp_path / "bad.jsonl").write_text(content)
    words = CERTIFY if command == "certify" else ()
    assert complaint in refuses(command, "bad.jsonl", *words)


@pytest.mark.parametrize("command", ["certify", "report"])
def test_rungs_that_no_request_has_together_are_named(
    refuses: Callable[..., str], tmp_path: Path, command: str
) -> None:
    (tmp_path / "bad.jsonl").write_text(ROW + '{"request_id": "b", "rung": "big", "quality": 1}\n')
    said = refuses(command, "bad.jsonl", *(CERTIFY if command == "certify" else ()))
    assert "no 'big' trial: 1, no 'small' trial: 1" in said


def test_the_line_and_the_field_are_both_named(refuses: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text(ROW + '{"request_id": "b", "rung": "s", "quality": []}\n')
    said = refuses("certify", "bad.jsonl", *CERTIFY)
    assert "bad.jsonl, line 2" in said
    assert "'quality'" in said


def test_broken_gzip_is_named(refuses: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    assert "broken gzip" in refuses("certify", "bad.jsonl.gz", *CERTIFY)


@pytest.mark.parametrize("command", ["certify", "frontier", "report"])
def test_a_missing_file_is_named(refuses: Callable[..., str], command: str) -> None:
    words = CERTIFY if command == "certify" else ()
    assert "cannot read gone.jsonl" in refuses(command, "gone.jsonl", *words)


@pytest.mark.parametrize("command", ["certify", "frontier", "report"])
def test_trials_without_any_score_are_refused(
    refuses: Callable[..., str], tmp_path: Path, command: str
) -> None:
    (tmp_path / "t.jsonl").write_text(
        "".join(
            f'{{"request_id": "r{i}", "rung": "{rung}", "text": "?", "answer": "x"}}\n'
            for i in range(200)
            for rung in ("small", "big")
        )
    )
    refuses(command, "t.jsonl", *(CERTIFY if command == "certify" else ()))


def test_too_few_rows_say_how_many(refuses: Callable[..., str], folder: Path) -> None:
    write_jsonl(folder / "few.jsonl", make_trials(20))
    said = refuses("certify", "few.jsonl", "--reference", "big")
    assert "20 scored requests are too few" in said
    assert "give 112 scored requests or more" in said


@pytest.mark.parametrize("option", ["--alpha", "--delta"])
@pytest.mark.parametrize("value", ["0", "1", "-0.5", "1.5", "nan", "inf", "1e-30"])
def test_probabilities_out_of_range_are_refused(
    refuses: Callable[..., str], folder: Path, option: str, value: str
) -> None:
    said = refuses("certify", "trials.jsonl", "--reference", "big", option, value)
    assert option.removeprefix("--") in said or "too few" in said


@pytest.mark.parametrize("value", ["soon", "0d", "-3d", "99999999d"])
@pytest.mark.parametrize("command", ["certify", "recertify"])
def test_a_wrong_duration_is_refused(
    refuses: Callable[..., str], folder: Path, run: Run, command: str, value: str
) -> None:
    source = "trials.jsonl"
    if command == "recertify":
        run("answer", "some.jsonl", *ANSWER, "--audit", "1", "--store-text")
        source = "books.db"
    assert "lapses-after" in refuses(command, source, *CERTIFY, f"--lapses-after={value}")


@pytest.mark.parametrize("words", [("--seed", "-1"), ("--seed", "x"), ("--alpha", "x"), ("--no",)])
def test_options_that_are_none_are_refused(folder: Path, run: Run, words: tuple[str, ...]) -> None:
    ran = run("certify", "trials.jsonl", *CERTIFY, *words)
    assert ran.status == 2
    assert "Error" in ran.err
    assert "Traceback" not in ran.err


def test_an_unknown_reference_lists_the_rungs(refuses: Callable[..., str], folder: Path) -> None:
    said = refuses("certify", "trials.jsonl", "--reference", "huge")
    assert "no rung 'huge'" in said
    assert "small, big" in said


def test_the_cheapest_rung_as_reference_is_refused(
    refuses: Callable[..., str], folder: Path
) -> None:
    refuses("certify", "trials.jsonl", "--reference", "small")


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"request_id": "r0", "rung": "huge", "quality": 1}',
        '{"request_id": "r0", "rung": "small", "quality": 2}',
        '{"request_id": "r0", "rung": "small", "quality": 1}',
        "",
    ],
)
def test_bad_labels_are_refused(refuses: Callable[..., str], folder: Path, content: str) -> None:
    write_jsonl(folder / "judged.jsonl", [replace(t, scorer="rubric") for t in make_trials()])
    (folder / "labels.jsonl").write_text(content)
    refuses("certify", "judged.jsonl", *CERTIFY, "--labels", "labels.jsonl", hint=False)


def test_a_judge_without_labels_is_refused(refuses: Callable[..., str], folder: Path) -> None:
    write_jsonl(folder / "judged.jsonl", [replace(t, scorer="rubric") for t in make_trials()])
    assert "human labels" in refuses("certify", "judged.jsonl", *CERTIFY)


# -- bad ladders, engines and prices -------------------------------------------------------------


@pytest.mark.parametrize("command", ["bench", "answer"])
@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('reference = "big"', 'reference = "huge"', "no rung 'huge'"),
        ('model = "big-model"', 'modle = "big-model"', "unknown key"),
        ("[price.flat]", "[price.flat", "is not TOML"),
        ("input_usd_per_mtok = 1\noutput_usd_per_mtok = 1", "", "price.flat"),
        (
            "input_usd_per_mtok = 1\noutput_usd_per_mtok = 1",
            'provider = "openai"\nmodel = "gpt-nope"',
            "no model 'gpt-nope'",
        ),
        ('kind = "replay"', 'kind = "telepathy"', "telepathy"),
        ("trials.jsonl", "gone.jsonl", "cannot read"),
        ('engine = "recorded"', 'engine = "nowhere"', "no engine 'nowhere'"),
    ],
)
def test_bad_ladders_are_named(
    refuses: Callable[..., str],
    folder: Path,
    command: str,
    before: str,
    after: str,
    complaint: str,
) -> None:
    toml = CONFIG.format(trials="trials.jsonl")
    assert before in toml
    (folder / "suffice.toml").write_text(toml.replace(before, after))
    words = ANSWER if command == "answer" else ("--ladder", "suffice.toml", "--out", "out.jsonl")
    assert complaint in refuses(command, "some.jsonl", *words)


def test_a_missing_or_binary_ladder_is_named(refuses: Callable[..., str], folder: Path) -> None:
    refuses("ladder", "gone.toml")
    (folder / "binary.toml").write_bytes(b"\x89PNG\xff")
    assert "binary.toml" in refuses("ladder", "binary.toml")


@pytest.mark.parametrize("command", ["bench", "answer"])
def test_an_unreachable_engine_is_named(
    refuses: Callable[..., str], folder: Path, command: str
) -> None:
    toml = CONFIG.format(trials="unused").replace(
        'kind = "replay"\ntrials = "unused"',
        'kind = "openai"\nurl = "http://127.0.0.1:9/v1"\nmax_retries = 0',
    )
    (folder / "suffice.toml").write_text(toml)
    words = ANSWER if command == "answer" else ("--ladder", "suffice.toml", "--out", "out.jsonl")
    assert "127.0.0.1:9" in refuses(command, "some.jsonl", *words)


@pytest.mark.parametrize("amount", ["-1", "much", "NaN", "Infinity"])
def test_a_budget_that_is_no_amount_is_refused(
    refuses: Callable[..., str], folder: Path, amount: str
) -> None:
    words = ("--ladder", "suffice.toml", "--out", "out.jsonl", f"--max-usd={amount}")
    assert "not an amount" in refuses("bench", "some.jsonl", *words)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"request_id": "r0", "text": "?"}\n{"request_id": "r0", "text": "?"}', "that of line 1"),
        ('{"request_id": "r0"}', "'text' and 'messages'"),
        ('{"request_id": "r0", "text": "?", "scorer": "magic"}', "magic"),
        ('{"request_id": "r0", "txt": "?"}', "unknown field 'txt'"),
        ("{", "line 1"),
        ("", "is empty"),
    ],
)
@pytest.mark.parametrize("command", ["bench", "answer"])
def test_bad_tasks_are_named(
    refuses: Callable[..., str], folder: Path, command: str, line: str, complaint: str
) -> None:
    (folder / "bad.jsonl").write_text(line)
    words = ANSWER if command == "answer" else ("--ladder", "suffice.toml", "--out", "out.jsonl")
    assert complaint in refuses(command, "bad.jsonl", *words)


# -- bad ledgers, bundles and outputs ------------------------------------------------------------


def corrupt(path: Path) -> None:
    Ledger.open(path).close()
    path.write_bytes(path.read_bytes()[:100] + b"\xff" * 8000)


def newer(path: Path) -> None:
    Ledger.open(path).close()
    with sqlite3.connect(path) as connection:
        (table,) = connection.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE '%version%' OR name LIKE '%migration%'"
        ).fetchone()
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        row = connection.execute(f"SELECT * FROM {table} ORDER BY 1 DESC LIMIT 1").fetchone()
        marks = ", ".join("?" * len(columns))
        connection.execute(f"INSERT INTO {table} VALUES ({marks})", (999, *row[1:]))
    connection.close()


def not_a_ledger(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\0 or so it says")


def another_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    connection.close()


@pytest.mark.parametrize("spoil", [corrupt, newer, not_a_ledger])
@pytest.mark.parametrize("command", ["answer", "recertify", "report"])
def test_spoilt_ledgers_are_refused(
    refuses: Callable[..., str], folder: Path, spoil: Callable[[Path], None], command: str
) -> None:
    spoil(folder / "books.db")
    before = (folder / "books.db").read_bytes()
    words = {
        "answer": ("some.jsonl", *ANSWER),
        "recertify": ("books.db", *CERTIFY),
        "report": ("books.db",),
    }
    assert "books.db" in refuses(command, *words[command])
    assert (folder / "books.db").read_bytes() == before


@pytest.mark.parametrize("command", ["recertify", "report"])
def test_a_database_that_is_no_ledger_is_refused(
    refuses: Callable[..., str], folder: Path, command: str
) -> None:
    another_database(folder / "cats.db")
    assert "not a ledger" in refuses(
        command, "cats.db", *(CERTIFY if command == "recertify" else ())
    )


def test_trials_in_place_of_a_ledger_are_sent_to_the_commands_that_read_them(
    refuses: Callable[..., str], folder: Path
) -> None:
    said = refuses("recertify", "trials.jsonl", *CERTIFY)
    assert "it is not a ledger" in said
    assert "`certify` and `compare` read trials" in said


def test_a_label_plan_that_is_not_there_is_refused(
    refuses: Callable[..., str], folder: Path
) -> None:
    said = refuses("certify", "trials.jsonl", *CERTIFY, "--plan", "gone.json")
    assert "cannot read gone.json" in said
    assert "suffice label-plan" in said


def test_a_ledger_that_is_not_there_is_refused(refuses: Callable[..., str], folder: Path) -> None:
    assert "gone.db" in refuses("recertify", "gone.db", *CERTIFY)
    refuses("recertify", "mysql://somewhere/books", *CERTIFY)


def test_recertify_without_text_says_what_to_do(
    refuses: Callable[..., str], folder: Path, run: Run
) -> None:
    run("answer", "some.jsonl", *ANSWER, "--audit", "1")
    assert "store" in refuses("recertify", "books.db", *CERTIFY)


def test_a_report_on_neither_is_refused(refuses: Callable[..., str], folder: Path) -> None:
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    assert "picture.png" in refuses("report", "picture.png")
    (folder / "empty").mkdir()
    refuses("report", "empty")


def test_a_report_counts_the_requests_since_a_time(
    refuses: Callable[..., str], folder: Path, run: Run
) -> None:
    run("answer", "some.jsonl", *ANSWER)
    for since, requests in (("2020-01-01", 20), ("2120-01-01T08:00", 0)):
        shown = run("report", "books.db", "--since", since, "--json").json
        assert shown["whole"]["requests"] == requests
    assert run("report", "books.db", "--since", "2120-01-01", "--out", "none.html").status == 0
    assert "holds no requests since 1 January 2120" in Path("none.html").read_text("utf-8")
    assert "have no time" in refuses("report", "trials.jsonl", "--since", "2020-01-01")
    assert "--by team" in refuses("report", "books.db", "--keys", "keys.json")


def test_a_report_on_a_ledger_certifies_nothing(
    refuses: Callable[..., str], folder: Path, run: Run
) -> None:
    run("answer", "some.jsonl", *ANSWER)
    assert "suffice recertify" in refuses("report", "books.db", "--reference", "big")


@pytest.mark.parametrize(
    "words",
    [
        ("certify", "trials.jsonl", *CERTIFY, "--out", "suffice.toml/bundle"),
        ("report", "trials.jsonl", "--out", "suffice.toml/page.html"),
        ("bench", "some.jsonl", "--ladder", "suffice.toml", "--out", "suffice.toml/t.jsonl"),
        ("answer", "some.jsonl", *ANSWER[:5], "suffice.toml/answers.jsonl"),
        ("answer", "some.jsonl", *ANSWER[:3], "suffice.toml/books.db", *ANSWER[4:]),
        ("demo", "--folder", "suffice.toml/demo"),
    ],
    ids=lambda words: f"{words[0]} {words[-1]}",
)
def test_outputs_that_cannot_be_written_are_refused(
    refuses: Callable[..., str], folder: Path, words: tuple[str, ...]
) -> None:
    assert "suffice.toml/" in refuses(*words)


def test_a_bundle_that_is_none_is_refused(refuses: Callable[..., str], folder: Path) -> None:
    assert "no certificate" in refuses("answer", "some.jsonl", *ANSWER, "--certificate", "gone")


def test_an_edited_certificate_is_status_3(refuses: Callable[..., str], folder: Path) -> None:
    path = folder / "bundle" / CERTIFICATE
    path.write_text(path.read_text().replace('"delta": 0.1', '"delta": 0.01'))
    said = refuses("answer", "some.jsonl", *ANSWER, "--certificate", "bundle", status=3)
    assert "altered" in said


def test_a_swapped_policy_is_status_3(refuses: Callable[..., str], folder: Path) -> None:
    policy = load_policy(folder / "bundle" / POLICY)
    save_policy(folder / "bundle" / POLICY, policy.at(policy.points - 1))
    refuses("answer", "some.jsonl", *ANSWER, "--certificate", "bundle", status=3)


def test_the_figures_are_printed_before_a_bundle_is_refused(folder: Path, run: Run) -> None:
    ran = run("certify", "trials.jsonl", *CERTIFY, "--json", "--out", "suffice.toml/bundle")
    assert ran.status == 2
    assert ran.json["certified"] is True


@pytest.mark.parametrize("share", ["-1", "2", "nan"])
def test_an_audit_share_out_of_range_is_refused(
    refuses: Callable[..., str], folder: Path, share: str
) -> None:
    assert "audit share" in refuses("answer", "some.jsonl", *ANSWER, f"--audit={share}")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_fault_and_no_file_takes_its_number(
    folder: Path, closed: str
) -> None:
    script = Path(sys.executable).with_name("suffice")
    words = f"{script} answer some.jsonl {' '.join(ANSWER)} {closed}"
    done = subprocess.run(
        ["bash", "-c", words], check=False, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "unexpected" not in done.stderr
    with Ledger.open(folder / "books.db", read_only=True) as ledger:
        assert sum(line.requests for line in totals(ledger)) == 20


def test_what_a_terminal_cannot_show_is_written_plainly(folder: Path) -> None:
    script = Path(sys.executable).with_name("suffice")
    done = subprocess.run(
        [script, "bill", "--demo"],
        check=True,
        cwd=folder,
        capture_output=True,
        env=os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
    )
    text = done.stdout.decode("ascii")
    assert "\\u" not in text
    assert "-$" in text
    assert "##" in text
