"""`suffice latent` and `suffice stream`: what they print, write and refuse."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from latent_toys import stream, trials

from suffice.cli.main import main
from suffice.config import parse_config
from suffice.deployment import build_engines
from suffice.meter import price_for
from support import write_jsonl

Ran = tuple[int, str, str]
Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run one command in an empty folder; returns status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def running(*words: object) -> Ran:
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        else:
            status = 0
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return running


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "trials.jsonl", trials(900))


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    lines = [
        {"stream": f"s{seed}", "text": turn.text, "context": turn.context, "answer": turn.answer}
        for seed in range(160)
        for turn in stream(seed, segments=8)
    ]
    return write_jsonl(tmp_path / "streams.jsonl", lines)


def test_fit_prints_feasibility_first_and_writes_a_rung_for_the_ladder(
    run: Run, recorded: Path
) -> None:
    fit = ("latent", "fit", recorded, "--reference", "big", "--alpha", "0.1", "--out", "intents")
    status, out, err = run(*fit, "--core-usd-per-hour", "0.05")
    assert status == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("feasibility: answering everything would be wrong")
    assert any(line.startswith("certified: with 90") for line in lines)
    section = err[err.index("[engine.intents]") :]
    big = '[engine.e]\nkind = "embedded"\n[[ladder]]\nname = "big"\nengine = "e"\nmodel = "m"\n'
    config = parse_config(f'reference = "big"\n{section}\n{big}')
    price = price_for("intents", config.price["intents"])
    assert price.rates[0].usd_per_thousand_requests > Decimal(0)
    assert config.ladder[0].price == "intents"
    _, _, err = run(*fit)
    alone = parse_config(f'reference = "big"\n{err[err.index("[engine.intents]") :]}\n{big}')
    assert alone.ladder[0].price is None


def test_fit_prints_the_same_figures_as_json(run: Run, recorded: Path) -> None:
    fit = ("latent", "fit", recorded, "--reference", "big", "--alpha", "0.1", "--json")
    status, out, _ = run(*fit)
    found = json.loads(out)
    assert status == 0
    assert found["certified"]
    assert found["certificate"]["alpha"] == 0.1
    assert found["rows"]["certify"] == 360
    assert 340 < found["feasibility"]["rows"] < 360  # texts that came twice count once


def test_fit_exits_with_3_when_nothing_can_be_certified(run: Run, tmp_path: Path) -> None:
    few = write_jsonl(tmp_path / "few.jsonl", trials(120))
    fit = ("latent", "fit", few, "--reference", "big", "--alpha", "0.01", "--out", "intents")
    status, out, err = run(*fit)
    assert status == 3
    assert "NOT certified" in out
    assert "nothing was certified" in err
    assert not Path("intents").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--alpha", "1.5"), "alpha 1.5 does not lie between 0 and 1"),
        (("--lapses-after", "soon"), "lapses-after"),
        (("--answers", "none.txt"), "cannot read none.txt"),
        (("--group", "house"), "no group 'house'"),
    ],
)
def test_fit_refuses_unusable_inputs(
    run: Run, recorded: Path, words: tuple[str, ...], says: str
) -> None:
    status, _, err = run("latent", "fit", recorded, "--reference", "big", *words)
    assert status == 2
    assert says in err


def test_a_gate_is_fitted_and_a_stream_run_dry_through_it(
    run: Run, labelled: Path, tmp_path: Path
) -> None:
    status, out, err = run("latent", "gate", labelled, "--alpha", "0.15", "--out", "gate")
    assert status == 0, err
    assert out.startswith("certified: with 90")
    events = write_jsonl(
        tmp_path / "events.jsonl",
        [{"text": turn.text, "answer": turn.answer} for turn in stream(900)],
    )
    status, out, _ = run("stream", events, "--gate", "gate", "--dry")
    assert status == 0
    lines = out.splitlines()
    assert " first " in lines[0]
    assert any(" held " in line for line in lines)
    assert "events decoded" in lines[-2]
    assert "bound: 100" in lines[-1]
    status, out, _ = run("stream", events, "--gate", "gate", "--dry", "--json")
    found = json.loads(out)
    assert found["decodes"] <= found["most_decodes"] <= found["events"]


def test_a_gate_that_cannot_be_certified_is_not_written(
    run: Run, labelled: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_bytes(b"".join(labelled.read_bytes().splitlines(keepends=True)[:300]))
    status, out, _ = run("latent", "gate", few, "--alpha", "0.01", "--out", "gate")
    assert status == 3
    assert "NOT certified" in out
    assert not Path("gate").exists()


def test_decoding_needs_a_rung_and_books(run: Run) -> None:
    status, _, err = run("stream", "events.jsonl", "--gate", "gate")
    assert status == 2
    assert "needs --ladder, --rung and --ledger" in err


def test_a_rung_of_a_ladder_opens_from_its_folder(run: Run, recorded: Path) -> None:
    run("latent", "fit", recorded, "--reference", "big", "--alpha", "0.1", "--out", "intents")
    text = (
        'reference = "big"\n[engine.i]\nkind = "latent"\nmodel_path = "intents"\n'
        '[engine.e]\nkind = "openai"\nurl = "http://127.0.0.1:9/v1"\n'
        '[[ladder]]\nname = "i"\nengine = "i"\nmodel = "latent"\nvector = "paradigm"\n'
        '[[ladder]]\nname = "big"\nengine = "e"\nmodel = "m"\n'
    )
    assert "i" in build_engines(parse_config(text))


@pytest.mark.slow
def test_watch_tells_a_gate_from_its_folder_and_exits_with_3_on_an_alarm(
    run: Run, labelled: Path, tmp_path: Path
) -> None:
    assert run("latent", "gate", labelled, "--alpha", "0.15", "--out", "gate")[0] == 0
    status, out, err = run("latent", "watch", "gate", labelled)
    assert status == 0, err
    assert "160 audits" in out
    lines = [
        {"stream": f"n{seed}", "text": turn.text, "answer": f"{turn.answer} {i}"}
        for seed in range(60)
        for i, turn in enumerate(stream(seed + 900, segments=8))
    ]
    changed = write_jsonl(tmp_path / "changed.jsonl", lines)
    status, out, err = run("latent", "watch", "gate", changed, "--json")
    assert status == 3
    assert json.loads(out)["alarm_at"] is not None
    assert "ALARM" in err
    status, _, err = run("latent", "watch", tmp_path, changed)
    assert status == 2
    assert "holds no rung, gate or stopping rules" in err
