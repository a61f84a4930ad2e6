import subprocess
import sys
from pathlib import Path

import pytest

from suffice.config import Config, parse_config
from suffice.deployment import build_engines, open_engine, request_fields
from suffice.engines.embedded import EmbeddedEngine
from suffice.engines.replay import ReplayEngine
from suffice.errors import ConfigError, InputError
from suffice.types import Effort

TOML = """
reference = "r"
[engine.e]
{engine}
[[ladder]]
name = "r"
engine = "e"
model = "m"
{rung}
"""


def config(engine: str, rung: str = "") -> Config:
    return parse_config(TOML.format(engine=engine, rung=rung))


OPENAI = 'kind = "openai"\nurl = "http://127.0.0.1:9/v1"\n'


def test_importing_engines_loads_no_engine() -> None:
    code = (
        "import sys, suffice.engines, suffice.ladder\n"
        "print(sorted({'aiohttp', 'xllamacpp', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]"


def test_the_key_comes_from_the_environment_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    keyed = config(OPENAI + 'api_key_env = "MY_KEY"')
    monkeypatch.setenv("MY_KEY", "")
    for _ in range(2):
        with pytest.raises(ConfigError, match="MY_KEY") as caught:
            build_engines(keyed)
        assert caught.value.hint == "export MY_KEY=..."
        monkeypatch.delenv("MY_KEY", raising=False)
    given: list[object] = []
    monkeypatch.setattr(
        "suffice.engines.openai.OpenAIEngine", lambda _config, *, api_key: given.append(api_key)
    )
    monkeypatch.setenv("MY_KEY", "sk-secret")
    build_engines(keyed)
    build_engines(config(OPENAI))
    assert given == ["sk-secret", None]


def test_what_an_engine_cannot_be_asked_for_is_refused_at_start_up() -> None:
    with pytest.raises(ConfigError, match="no thinking budget"):
        build_engines(config(OPENAI, "thinking_budget_tokens = 5"))
    with pytest.raises(ConfigError, match="top_k"):
        build_engines(config(OPENAI, "params = { top_k = 5 }"))
    build_engines(config(OPENAI + 'dialect = "vllm"', "params = { top_k = 5 }"))
    engines = build_engines(config('kind = "embedded"', "params = { top_k = 5 }"))
    assert isinstance(engines["e"], EmbeddedEngine)


def test_a_replay_needs_trials(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names no trials"):
        build_engines(config('kind = "replay"'))
    with pytest.raises(InputError):
        build_engines(config(f'kind = "replay"\ntrials = "{tmp_path}/gone.jsonl"'))
    path = tmp_path / "trials.jsonl"
    path.write_text('{"request_id": "1", "rung": "r", "status": "scored", "text": "4"}\n')
    (engine,) = build_engines(config(f'kind = "replay"\ntrials = "{path}"')).values()
    assert isinstance(engine, ReplayEngine)


def test_an_engine_without_a_url_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a url"):
        open_engine("e", config('kind = "openai"').engine["e"])


def test_what_a_rung_sends_can_be_shown() -> None:
    shown = config(OPENAI, 'effort = "low"\nmax_output_tokens = 5\nparams = { seed = 1 }')
    assert request_fields(shown.ladder[0], shown.engine["e"]) == {
        "model": "m",
        "seed": 1,
        "max_completion_tokens": 5,
        "reasoning_effort": Effort.LOW.value,
    }
    here = config('kind = "embedded"', "max_output_tokens = 5")
    assert request_fields(here.ladder[0], here.engine["e"]) == {"model": "m", "max_tokens": 5}
    again = config('kind = "replay"')
    assert request_fields(again.ladder[0], again.engine["e"]) == {}
