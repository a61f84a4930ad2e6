"""A folder with small inputs for every command, made once and copied for each test."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import Outcome, lay_out_inputs, run

from suffice.batch import Batch, answer_requests
from suffice.bench.progress import show_progress
from suffice.certify.bundling import Certification
from suffice.gateway.keys import KeyLimits, add_key
from suffice.selective.decoder import GateSettings
from suffice.selective.gate import THRESHOLDS, fit_gate, read_streams, save_gate
from suffice.silicon import probe


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory, settled: Certification) -> Path:
    folder = lay_out_inputs(tmp_path_factory.mktemp("inputs"), settled)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        batch = Batch(
            requests="tasks.jsonl",
            ladder=Path("suffice.toml"),
            ledger="books.db",
            out=Path("answered.jsonl"),
            bundle=Path("bundle"),
            audit_share=1.0,
            store_text=True,
        )
        answer_requests(batch, show=show_progress)
    streams = read_streams((folder / "streams.jsonl").read_bytes().splitlines())
    settings = GateSettings(threshold=float(THRESHOLDS[0]), drift=0.4)
    save_gate(folder / "gate", fit_gate(streams, alpha=0.2, delta=0.1, settings=settings, seed=0))
    for name in ("alice", "bob"):
        add_key(folder / "keys.json", name, limits=KeyLimits())
    return folder


@pytest.fixture
def workplace(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small inputs, as the current folder."""
    folder = tmp_path / "work"
    shutil.copytree(inputs, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def small_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `plan probe` measure this machine on little: what it prints is of interest here."""
    small = functools.partial(probe.run_probe, copy_bytes=2**20, matrix=64, runs=1)
    monkeypatch.setattr(probe, "run_probe", small)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run one command in this process, given its path and its words."""
    return lambda path, *words: run(capsys, path, *words)
