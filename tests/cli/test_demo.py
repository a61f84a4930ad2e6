"""The demo shows only what it computed in that run, and leaves reports that open by themselves."""

from pathlib import Path

import pytest

from suffice.cli.demo import certify_recorded, run_demo
from suffice.trials.importers import read_trials


def test_the_recorded_outcomes_hold_no_text_and_certify() -> None:
    settled = certify_recorded()
    assert settled.result.certified
    assert settled.result.reference == "cot"
    assert not any(trial.text for trial in settled.trials)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_runs_from_end_to_end_and_starts_afresh(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "live-trials.jsonl").write_text("left from before\n")
    run_demo(folder)
    shown = capsys.readouterr().out
    assert "certified: with 90.0 % confidence" in shown
    trials = read_trials(folder / "live-trials.jsonl")
    assert f"{len(trials):,} answers now, 0 kept" in shown
    assert all(trial.usage.output_tokens for trial in trials)
    for page in ("certified.html", "live.html"):
        assert str(folder / page) in shown
        assert "<html" in (folder / page).read_text("utf-8")
