"""A bench runs the checks of the ladder: trials carry verdict, cost and seconds."""

from decimal import Decimal
from pathlib import Path

from suffice.bench.progress import Silent
from suffice.bench.run import bench_tasks
from suffice.bench.tasks import read_tasks
from suffice.config import parse_config
from suffice.trials.importers import read_trials
from support import CONFIG, make_tasks, make_trials, write_jsonl

CHECK = '\n[check.any]\nkind = "regex"\npattern = "."\nusd = "0.5"\n'


def test_trials_carry_the_verdict_and_its_cost(tmp_path: Path) -> None:
    recorded = make_trials(4)
    write_jsonl(tmp_path / "recorded.jsonl", recorded)
    config = parse_config(CONFIG.format(trials=tmp_path / "recorded.jsonl") + CHECK)
    out = tmp_path / "trials.jsonl"
    tasks = read_tasks(write_jsonl(tmp_path / "tasks.jsonl", make_tasks(recorded)))
    bench_tasks(config, tasks, out=out, max_usd=None, judge=None, show=Silent)
    for trial in read_trials(out):
        if trial.rung == "big":
            assert (trial.check, trial.check_usd) == (None, None)
        else:
            assert trial.check is True
            assert trial.check_usd == Decimal("0.5")
            assert trial.charge_usd > Decimal("0.5")
            assert trial.check_s is not None
