"""Every command with small inputs on which it works offline, and how it ended."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compound_support import make_compound_trials, write_workload
from latent_toys import stream, trials

from suffice.bench.sources import load_tasks
from suffice.bench.traces import Recording
from suffice.certify.bundling import Certification
from suffice.cli.main import command_tree, main
from suffice.config import parse_config
from suffice.early_stop.rule import AnswerProbe, ReasoningTags, Trace
from suffice.ladder import example_text
from suffice.latent.transitions import packaged_transitions
from support import CONFIG, lay_out, make_tasks, write_jsonl

PART = 'model = "llama-3-8b"\nchip = "h100"\ninput_tokens = 500\noutput_tokens = 200\n'
FLEET = (
    f"[together]\n{PART}"
    f'[[deployment]]\nname = "one"\n{PART}requests_per_s = [1.0, 1.0]\n'
    f'[[deployment]]\nname = "two"\n{PART}requests_per_s = [2.0, 1.0]\n'
)
POINTS = (
    "model,chip,engine,batch,input_tokens,output_tokens,tpot_ms\nllama-3-8b,h100,vllm,8,9,9,12\n"
)
WORDS = {
    "bill": "--demo --sample 5",
    "demo": "--folder demo",
    "init": "new.toml",
    "ladder": "suffice.toml",
    "bench": "some.jsonl --ladder suffice.toml --out new.jsonl",
    "frontier": "trials.jsonl",
    "economy": "trials.jsonl --ladder suffice.toml",
    "certify": "trials.jsonl --reference big --alpha 0.1",
    "compare": "trials.jsonl --reference big",
    "label-plan": "trials.jsonl --reference big --alpha 0.1 --out plan.json",
    "recertify": "books.db --reference big --alpha 0.1",
    "latent fit": "latent.jsonl --reference big --alpha 0.1",
    "latent stop": "sums.jsonl --ladder embedded.toml --rung high --traces traces.jsonl",
    "latent gate": "streams.jsonl --alpha 0.2",
    "latent watch": "gate streams.jsonl",
    "latent choose": "questions.jsonl",
    "serve": "--ladder suffice.toml --certificate bundle --port 0",
    "key add": "carol --file keys.json",
    "key list": "--file keys.json",
    "key revoke": "alice --file keys.json",
    "key rotate": "alice --file keys.json",
    "ledger log": "books.db",
    "ledger prune": "books.db --keep 400d",
    "ledger erase": "books.db --key nobody",
    "ledger export": "books.db --out exported",
    "ledger rollup": "books.db",
    "rollout": "books.db",
    "launch": "claude --ladder suffice.toml",
    "answer": "some.jsonl --ladder suffice.toml --ledger new.db --out answers.jsonl",
    "stream": "events.jsonl --gate gate --dry",
    "report": "trials.jsonl --out report.html",
    "plan": "--model mistral-small-4 --slo ttft=1s,tpot=50ms",
    "plan calibrate": "points.csv",
    "plan probe": "",
    "plan consolidate": "fleet.toml",
    "plan law": "--model mistral-small-4",
    "forecast": "--paths 500 --until 2027-06",
    "contract": "--paths 500",
    "train jepa": "--model model --data rows.jsonl --eval rows.jsonl --out trained",
    "compound": "workload.toml compound.jsonl",
    "claims": "",
}


class Outcome:
    """How a command ended."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> int:
        return len(self.out.splitlines()) + len(self.err.splitlines())


def leaves() -> Iterator[tuple[str, Any]]:
    """Yield every command that does something, by its path, with its parameters."""

    def walk(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            path = f"{prefix} {name}".strip()
            if not getattr(command, "commands", None) or command.invoke_without_command:
                yield path, command
            if hasattr(command, "commands"):
                yield from walk(path, command)

    return walk("", command_tree())


def run(capsys: pytest.CaptureFixture[str], path: str, *words: str) -> Outcome:
    """Run one command in this process."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([*path.split(), *words])
    out, err = capsys.readouterr()
    code = end.value.code
    return Outcome(code if isinstance(code, int) else int(code is not None), out, err)


def lay_out_inputs(folder: Path, certification: Certification) -> Path:
    """Make the inputs that `WORDS` names."""
    lay_out(folder, certification)
    (folder / "suffice.toml").write_text(CONFIG.format(trials="trials.jsonl"))
    write_jsonl(folder / "some.jsonl", make_tasks(certification.trials)[:20])
    write_jsonl(folder / "latent.jsonl", trials(600))
    turns = (
        {"stream": f"s{seed}", "text": turn.text, "context": turn.context, "answer": turn.answer}
        for seed in range(100)
        for turn in stream(seed, segments=5)
    )
    write_jsonl(folder / "streams.jsonl", turns)
    events = ({"text": turn.text, "answer": turn.answer} for turn in stream(900, segments=6))
    write_jsonl(folder / "events.jsonl", events)
    write_workload(folder)
    write_jsonl(folder / "compound.jsonl", make_compound_trials(600))
    (folder / "points.csv").write_text(POINTS)
    write_jsonl(folder / "questions.jsonl", packaged_transitions()[:60])
    (folder / "fleet.toml").write_text(FLEET)
    _lay_out_traces(folder)
    return folder


def _lay_out_traces(folder: Path) -> None:
    """Make a recording of 400 traces whose answer is certain long before the reasoning ends."""
    (folder / "embedded.toml").write_text(example_text("embedded"))
    rows = (
        {"request_id": f"t{i}", "text": f"{i} + 1 =", "target": str(i + 1), "scorer": "numeric"}
        for i in range(400)
    )
    write_jsonl(folder / "sums.jsonl", rows)
    tasks = load_tasks(str(folder / "sums.jsonl"))
    rung = parse_config(example_text("embedded")).ladder[2]
    recording = Recording(tasks=tasks, rung=rung, tags=ReasoningTags(), parallel=1)
    traces = [
        Trace(
            request_id=task.request.request_id,
            prompt_tokens=10,
            reasoning_tokens=98,
            output_tokens=100,
            answer=str(i + 1),
            quality=1.0,
            probes=tuple(
                AnswerProbe(
                    at_tokens=at,
                    answer=str(i + 1),
                    input_tokens=10 + at,
                    output_tokens=2,
                    whole=True,
                    mean_logprob=-0.01,
                    quality=1.0,
                )
                for at in range(8, 98, 10)
            ),
        )
        for i, task in enumerate(tasks)
    ]
    write_jsonl(folder / "traces.jsonl", [recording.made_from, *traces])
