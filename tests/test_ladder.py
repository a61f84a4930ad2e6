import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import jinja2
import pytest

from suffice.config import Config, parse_config
from suffice.deployment import build_engines, request_fields
from suffice.engines.dialects import request_body
from suffice.engines.servers import DIALECTS
from suffice.errors import ConfigError, EffortRefused
from suffice.ladder import build_ladder, efforts_of, example_ladders, example_text, known_efforts
from suffice.types import JSON, Effort, Request, Rung

WIRE = Path(__file__).parent / "wire"
RECORDED: JSON = json.loads((WIRE / "requests.json").read_text("utf-8"))
RECORDED_SOURCE = RECORDED.pop("source")
ASKED = Request(request_id="r1", messages=({"role": "user", "content": "Twice two?"},))


def config_with(**fields: object) -> Config:
    rung = "\n".join(f"{key} = {json.dumps(value)}" for key, value in fields.items())
    return parse_config(
        'reference = "only"\n[engine.e]\nkind = "openai"\nurl = "http://127.0.0.1:1/v1"\n'
        f'[[ladder]]\nname = "only"\nengine = "e"\n{rung}\n'
    )


def example(name: str) -> Config:
    return parse_config(example_text(name), where=name)


def rendered(name: str, body: JSON) -> str:
    """Render a chat template as vLLM and SGLang do: with the effort and the template arguments."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
    environment.globals["raise_exception"] = pytest.fail
    template = environment.from_string((WIRE / "templates" / f"{name}.jinja").read_text("utf-8"))
    variables = dict(body.get("chat_template_kwargs", {}))
    if "reasoning_effort" in body:
        variables["reasoning_effort"] = body["reasoning_effort"]
    return template.render(messages=body["messages"], **variables)


def body_of(config: Config, rung: Rung, *, stream: bool = False) -> JSON:
    dialect = DIALECTS[config.engine[rung.engine].dialect]
    return request_body(ASKED, rung, dialect=dialect, stream=stream)


def test_examples_that_send_something_have_it_on_record() -> None:
    kinds = {name: {e.kind for e in example(name).engine.values()} for name in example_ladders()}
    assert {name for name, found in kinds.items() if "openai" in found} == RECORDED.keys()
    assert RECORDED_SOURCE


def test_an_example_that_does_not_ship_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no example") as caught:
        example_text("small4-vlm")
    assert "small4-vllm" in (caught.value.hint or "")


@pytest.mark.parametrize("name", example_ladders())
def test_examples_pass_every_check_and_need_no_notes(name: str) -> None:
    config = example(name)
    ladder = build_ladder(config)
    assert ladder.notes == ()
    assert ladder.reference.name == config.reference
    assert [rung.name for rung in ladder] == [rung.name for rung in config.ladder]
    assert len(ladder) >= 2
    assert build_engines(config).keys() == config.engine.keys()


@pytest.mark.parametrize("name", example_ladders())
def test_examples_carry_a_dated_price_with_a_source(name: str) -> None:
    config = example(name)
    for rung in config.ladder:
        price = config.price[rung.price or ""]
        assert price.source
        assert price.date
        assert date.fromisoformat(price.date).year >= 2026


def test_prices_are_read_as_written() -> None:
    price = example("small4-vllm").price["small4"]
    assert price.input_usd_per_mtok == Decimal("0.15")
    assert price.cache_read_usd_per_mtok == Decimal("0.015")
    assert price.output_usd_per_mtok == Decimal("0.6")


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("stream", [False, True])
def test_examples_send_what_is_recorded(name: str, stream: bool) -> None:
    config = example(name)
    assert RECORDED[name].keys() == {rung.name for rung in config.ladder}
    for rung in config.ladder:
        rest: JSON = {"messages": [{"role": "user", "content": "Twice two?"}], "stream": stream}
        if stream:
            rest["stream_options"] = {"include_usage": True}
        assert body_of(config, rung, stream=stream) == RECORDED[name][rung.name] | rest
        assert request_fields(rung, config.engine[rung.engine]) == RECORDED[name][rung.name]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize(
    ("ladder", "template", "rung", "sign"),
    [
        ("small4", "small4", "none", '[MODEL_SETTINGS]{"reasoning_effort": "none"}[/MODEL_'),
        ("small4", "small4", "high", '[MODEL_SETTINGS]{"reasoning_effort": "high"}[/MODEL_'),
        ("gpt-oss-120b", "gpt-oss", "low", "Reasoning: low\n"),
        ("gpt-oss-120b", "gpt-oss", "medium", "Reasoning: medium\n"),
        ("gpt-oss-120b", "gpt-oss", "high", "Reasoning: high\n"),
        ("qwen3.5", "qwen3.5", "direct", "assistant\n<think>\n\n</think>\n\n"),
        ("qwen3.5", "qwen3.5", "brief", "assistant\n<think>\n"),
        ("qwen3.5", "qwen3.5", "thinking", "assistant\n<think>\n"),
    ],
)
def test_effort_reaches_the_prompt(
    engine: str, ladder: str, template: str, rung: str, sign: str
) -> None:
    config = example(f"{ladder}-{engine}")
    prompt = rendered(template, body_of(config, build_ladder(config).rung(rung)))
    assert sign in prompt
    if template == "qwen3.5":
        assert prompt.endswith(sign)


@pytest.mark.parametrize(
    ("template", "effort", "sign"),
    [
        ("small4", Effort.HIGH, '{"reasoning_effort": "high"}'),
        ("gpt-oss", Effort.LOW, "Reasoning: low\n"),
        ("qwen3.5", Effort.NONE, "</think>"),
    ],
)
def test_effort_reaches_the_prompt_through_llama_cpp(
    template: str, effort: Effort, sign: str
) -> None:
    rung = Rung(name="r", engine="e", model="m", effort=effort)
    body = request_body(ASKED, rung, dialect=DIALECTS["llamacpp"], stream=False)
    assert sign in rendered(template, body)


@pytest.mark.parametrize(
    ("model", "taken"),
    [
        ("mistralai/Mistral-Small-4-119B-2603", {"none", "high"}),
        ("mistral-small-2603", {"none", "high"}),
        ("openai/gpt-oss-120b", {"low", "medium", "high"}),
        ("gpt-oss-20b", {"low", "medium", "high"}),
        ("Qwen/Qwen3.5-397B-A17B", {"none", "high"}),
        ("SmolLM2-135M-Instruct", {"none"}),
    ],
)
def test_efforts_that_a_model_does_not_take_are_refused_at_start_up(
    model: str, taken: set[str]
) -> None:
    for effort in Effort:
        config = config_with(model=model, effort=effort.value)
        if effort.value in taken:
            assert build_ladder(config).notes == ()
            continue
        with pytest.raises(EffortRefused, match="does not take the effort") as caught:
            build_ladder(config)
        assert all(name in (caught.value.hint or "") for name in taken)


@pytest.mark.parametrize("model", ["Mistral-Small-3.2-24B", "Qwen3-32B", "my-gpt-oss-tune", ""])
def test_unknown_models_are_let_through_with_a_note(model: str) -> None:
    assert efforts_of(model) is None
    ladder = build_ladder(config_with(model=model, effort="medium"))
    assert len(ladder.notes) == 1
    assert "effort_seen" in ladder.notes[0]
    assert build_ladder(config_with(model=model)).notes == ()


def test_the_table_of_efforts_has_a_source_and_a_date_everywhere() -> None:
    for known in known_efforts():
        assert known.source
        assert known.date.startswith("20")
        assert known.efforts
        assert all(pattern == pattern.lower() for pattern in known.match)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_output_tokens": 0}, "max_output_tokens must be"),
        ({"thinking_budget_tokens": 0}, "two things at once"),
        ({"thinking_budget_tokens": 0, "effort": "high"}, "two things at once"),
        ({"thinking_budget_tokens": 64, "effort": "none"}, "two things at once"),
        ({"thinking_budget_tokens": 64, "max_output_tokens": 64}, "no room for an answer"),
    ],
)
def test_limits_that_cannot_hold_are_refused(fields: JSON, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        build_ladder(config_with(model="m", **fields))
    assert caught.value.hint


def test_limits_at_their_edge_are_taken() -> None:
    config = config_with(model="m", effort="high", thinking_budget_tokens=1, max_output_tokens=2)
    assert build_ladder(config).reference.thinking_budget_tokens == 1


def test_asking_for_a_rung_that_is_not_there_names_the_nearest() -> None:
    ladder = build_ladder(config_with(model="m"))
    assert ladder.rung("only") == ladder.reference
    with pytest.raises(ConfigError, match="no rung") as caught:
        ladder.rung("onyl")
    assert "only" in (caught.value.hint or "")
