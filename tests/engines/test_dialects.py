import json

import msgspec
import pytest

from suffice.engines.dialects import check_rung, dropped_fields, request_body
from suffice.engines.servers import DIALECTS, ENGINE_FIELDS, at_url
from suffice.errors import ConfigError
from suffice.types import JSON, Effort, Request, Rung

ON = {"enable_thinking": True, "thinking": True}
OFF = {"enable_thinking": False, "thinking": False}
LOW = {"effort": Effort.LOW}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
MESSAGES = ({"role": "user", "content": "Twice two?"},)


def body_of(
    dialect: str, *, asked: JSON | None = None, stream: bool = False, **rung: object
) -> JSON:
    request = Request(request_id="r1", messages=MESSAGES, params=asked or {})
    target = Rung(name="r", engine="e", model="m", **rung)
    return request_body(request, target, dialect=DIALECTS[dialect], stream=stream)


@pytest.mark.parametrize(
    ("dialect", "effort", "fields"),
    [
        ("openai", "none", {"reasoning_effort": "none"}),
        ("openai", "xhigh", {"reasoning_effort": "xhigh"}),
        ("mistral", "high", {"reasoning_effort": "high"}),
        (
            "vllm",
            "none",
            {"reasoning_effort": "none"},
        ),
        (
            "vllm",
            "minimal",
            {"reasoning_effort": "minimal"},
        ),
        (
            "sglang",
            "none",
            {
                "reasoning_effort": "none",
                "chat_template_kwargs": OFF,
            },
        ),
        (
            "sglang",
            "max",
            {
                "reasoning_effort": "max",
                "chat_template_kwargs": ON,
            },
        ),
        (
            "llamacpp",
            "none",
            {"chat_template_kwargs": {"reasoning_effort": "none", **OFF}},
        ),
        (
            "llamacpp",
            "low",
            {"chat_template_kwargs": {"reasoning_effort": "low", **ON}},
        ),
    ],
)
def test_effort_is_sent_where_each_server_reads_it(dialect: str, effort: str, fields: JSON) -> None:
    plain = {"model": "m", "messages": list(MESSAGES), "stream": False}
    assert body_of(dialect, effort=Effort(effort)) == plain | fields
    assert body_of(dialect) == plain


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        ("vllm", {"thinking_token_budget": 64}),
        ("sglang", {"custom_params": {"thinking_budget": 64}}),
        ("llamacpp", {"thinking_budget_tokens": 64}),
    ],
)
def test_budgets_are_sent_where_each_server_reads_them(dialect: str, fields: JSON) -> None:
    assert fields.items() <= body_of(dialect, thinking_budget_tokens=64).items()


@pytest.mark.parametrize("dialect", ["openai", "mistral"])
def test_budgets_that_an_api_does_not_take_are_refused(dialect: str) -> None:
    rung = Rung(name="r", engine="e", model="m", thinking_budget_tokens=64)
    with pytest.raises(ConfigError, match="no thinking budget") as caught:
        check_rung(rung, dialect=DIALECTS[dialect])
    assert caught.value.hint


@pytest.mark.parametrize("dialect", ["openai", "mistral"])
@pytest.mark.parametrize("field", ["chat_template_kwargs", "top_k", "thinking_token_budget"])
def test_fields_that_an_api_refuses_are_refused_in_a_rung(dialect: str, field: str) -> None:
    rung = Rung(name="r", engine="e", model="m", params={"temperature": 0.0, field: 1})
    with pytest.raises(ConfigError, match=field):
        check_rung(rung, dialect=DIALECTS[dialect])
    check_rung(rung, dialect=DIALECTS["vllm"])


def test_fields_that_an_api_refuses_are_left_out_of_a_request() -> None:
    asked = dict.fromkeys(ENGINE_FIELDS, 1) | {"temperature": 0.5, "logprobs": True}
    assert body_of("openai", asked=asked).keys() - {"model", "messages", "stream"} == {
        "temperature",
        "logprobs",
    }
    assert "logprobs" not in body_of("mistral", asked=asked)
    limit = asked.pop("n_predict")
    body = body_of("vllm", asked=asked | {"n_predict": limit})
    assert asked.items() <= body.items()
    assert body["max_completion_tokens"] == limit


KIND = {"on": {"thinking": {"type": "enabled"}}, "off": {"thinking": {"type": "disabled"}}}
BUDGET = {"google": {"thinking_config": {"thinking_budget": 64}}}


@pytest.mark.parametrize(
    ("dialect", "rung", "fields"),
    [
        ("deepseek", {"effort": Effort.NONE}, KIND["off"]),
        ("deepseek", {"effort": Effort.MAX}, {"reasoning_effort": "max", **KIND["on"]}),
        ("glm", {"effort": Effort.NONE}, KIND["off"]),
        ("glm", {"effort": Effort.LOW}, {"reasoning_effort": "low", **KIND["on"]}),
        ("kimi", {"effort": Effort.NONE}, KIND["off"]),
        ("kimi", {"effort": Effort.HIGH}, KIND["on"]),
        ("qwen", {"effort": Effort.NONE}, {"enable_thinking": False}),
        (
            "qwen",
            {"effort": Effort.LOW, "thinking_budget_tokens": 64},
            {"enable_thinking": True, "thinking_budget": 64},
        ),
        (
            "qwen",
            {"thinking_budget_tokens": 64},
            {"enable_thinking": True, "thinking_budget": 64},
        ),
        ("gemini", {"effort": Effort.MEDIUM}, {"reasoning_effort": "medium"}),
        (
            "gemini",
            {"effort": Effort.MEDIUM, "thinking_budget_tokens": 64},
            {"extra_body": BUDGET},
        ),
        (
            "gemini",
            {"effort": Effort.NONE, "thinking_budget_tokens": 64},
            {"reasoning_effort": "none"},
        ),
        ("azure", {"effort": Effort.XHIGH}, {"reasoning_effort": "xhigh"}),
        ("openrouter", {"effort": Effort.XHIGH}, {"reasoning": {"effort": "xhigh"}}),
        (
            "openrouter",
            {"effort": Effort.HIGH, "thinking_budget_tokens": 64},
            {"reasoning": {"max_tokens": 64}},
        ),
        ("ollama", {"effort": Effort.NONE}, {"reasoning_effort": "none"}),
        ("lmstudio", {"effort": Effort.LOW}, {"reasoning_effort": "low"}),
    ],
)
def test_vendors_are_asked_for_an_effort_in_their_own_words(
    dialect: str, rung: JSON, fields: JSON
) -> None:
    plain = {"model": "m", "messages": list(MESSAGES), "stream": False}
    assert body_of(dialect, **rung) == plain | fields
    check_rung(Rung(name="r", engine="e", model="m", **rung), dialect=DIALECTS[dialect])


@pytest.mark.parametrize(
    ("dialect", "effort", "fields"),
    [
        ("deepseek", "medium", {"reasoning_effort": "low", **KIND["on"]}),
        ("deepseek", "none", KIND["off"]),
        ("kimi", "low", KIND["off"]),
        ("kimi", "max", KIND["on"]),
        ("qwen", "high", {"enable_thinking": True}),
        ("gemini", "max", {"reasoning_effort": "high"}),
        ("openrouter", "low", {"reasoning": {"effort": "low"}}),
        ("ollama", "minimal", {"reasoning_effort": "none"}),
        ("llamacpp", "low", {"chat_template_kwargs": {"reasoning_effort": "low", **ON}}),
        ("vllm", "minimal", {"reasoning_effort": "minimal"}),
        ("openai", "max", {"reasoning_effort": "max"}),
    ],
)
def test_a_clients_effort_is_a_limit_in_the_servers_own_words(
    dialect: str, effort: str, fields: JSON
) -> None:
    plain = {"model": "m", "messages": list(MESSAGES), "stream": False}
    assert body_of(dialect, asked={"reasoning_effort": effort}) == plain | fields
    own = body_of(dialect, asked={"reasoning_effort": effort}, effort=Effort.HIGH)
    assert own == body_of(dialect, effort=Effort.HIGH)


def test_what_a_rung_sets_wins_over_the_effort_of_a_client() -> None:
    asked, kept = {"reasoning_effort": "high"}, {"enable_thinking": False}
    assert body_of("qwen", asked=asked, params=kept)["enable_thinking"] is False
    body = body_of("sglang", asked=asked, params={"chat_template_kwargs": kept})
    assert body["chat_template_kwargs"] == {"enable_thinking": False, "thinking": True}


@pytest.mark.parametrize(
    ("dialect", "effort"),
    [("kimi", "low"), ("qwen", "medium"), ("deepseek", "medium"), ("ollama", "max")],
)
def test_an_effort_that_a_server_does_not_tell_apart_is_refused_in_a_rung(
    dialect: str, effort: str
) -> None:
    rung = Rung(name="r", engine="e", model="m", effort=Effort(effort))
    with pytest.raises(ConfigError, match=f"effort '{effort}'") as caught:
        check_rung(rung, dialect=DIALECTS[dialect])
    assert "none" in str(caught.value.hint)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_limit_goes_out_under_the_names_that_a_server_reads(dialect: str) -> None:
    body = body_of(
        dialect, asked={"max_completion_tokens": 500, "num_predict": 40}, max_output_tokens=60
    )
    names = {"max_tokens", "max_completion_tokens", "num_predict"} & body.keys()
    assert names == set(DIALECTS[dialect].limits)
    assert {body[name] for name in names} == {40}


def test_mistral_names_the_seed_differently() -> None:
    body = body_of("mistral", asked={"seed": 7})
    assert body["random_seed"] == 7
    assert "seed" not in body


@pytest.mark.parametrize("dialect", DIALECTS)
def test_usage_is_asked_for_in_streams_alone(dialect: str) -> None:
    asked = {"stream_options": {"include_usage": False}, "stream": True}
    assert "stream_options" not in body_of(dialect, asked=asked)
    body = body_of(dialect, asked=asked, stream=True)
    assert body["stream"] is True
    unasked = dialect in {"mistral", "glm"}  # they tell it anyway, and refuse the question
    assert body.get("stream_options") == (None if unasked else {"include_usage": True})


@pytest.mark.parametrize(
    ("dialect", "field"),
    [
        ("openai", "max_completion_tokens"),
        ("vllm", "max_completion_tokens"),
        ("sglang", "max_completion_tokens"),
        ("llamacpp", "max_tokens"),
        ("mistral", "max_tokens"),
    ],
)
@pytest.mark.parametrize(
    ("asked", "limit", "sent"),
    [
        ({}, 50, 50),
        ({"max_tokens": 20}, 50, 20),
        ({"max_completion_tokens": 80}, 50, 50),
        ({"max_tokens": 20, "max_completion_tokens": 10}, None, 10),
        ({"max_tokens": None}, None, None),
    ],
)
def test_the_smallest_limit_holds(
    dialect: str, field: str, asked: JSON, limit: int | None, sent: int | None
) -> None:
    body = body_of(dialect, asked=asked, max_output_tokens=limit)
    assert body.get(field) == sent
    assert not {"max_tokens", "max_completion_tokens"} - {field} & body.keys()


def test_the_rung_wins_over_the_request() -> None:
    asked = {"temperature": 1.0, "top_p": 0.5, "model": "other", "messages": []}
    body = body_of("vllm", asked=asked, params={"temperature": 0.0})
    assert (body["temperature"], body["top_p"], body["model"]) == (0.0, 0.5, "m")
    assert body["messages"] == list(MESSAGES)


@pytest.mark.parametrize(
    "asked",
    [
        {"reasoning_effort": "high"},
        {"reasoning": {"effort": "high"}},
        {"chat_template_kwargs": ON},
        {"thinking_token_budget": 9000, "thinking_budget_tokens": 9000},
    ],
)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_request_cannot_change_the_effort_of_a_rung(dialect: str, asked: JSON) -> None:
    sent = body_of(dialect, asked=asked, effort=Effort.NONE)
    assert sent == body_of(dialect, effort=Effort.NONE)


def test_a_rung_without_effort_leaves_it_to_the_request() -> None:
    assert body_of("openai", asked={"reasoning_effort": "low"})["reasoning_effort"] == "low"


def test_template_arguments_are_merged_and_nothing_given_is_changed() -> None:
    asked = {"chat_template_kwargs": {"date": "today"}}
    params = {"chat_template_kwargs": {"persona": "short"}}
    body = body_of("sglang", asked=asked, params=params, effort=Effort.HIGH)
    assert body["chat_template_kwargs"] == {
        "date": "today",
        "persona": "short",
        **ON,
    }
    assert asked == {"chat_template_kwargs": {"date": "today"}}
    assert params == {"chat_template_kwargs": {"persona": "short"}}
    alone = {"chat_template_kwargs": {"date": "today"}}
    body_of("sglang", asked=alone, effort=Effort.HIGH)
    assert alone == {"chat_template_kwargs": {"date": "today"}}


@pytest.mark.parametrize("nonsense", [None, "on", [1], 3])
def test_template_arguments_that_are_none_are_dropped(nonsense: object) -> None:
    asked = {"chat_template_kwargs": nonsense, "custom_params": nonsense}
    body = body_of("sglang", asked=asked, effort=Effort.NONE, thinking_budget_tokens=5)
    assert body["chat_template_kwargs"] == OFF
    assert body["custom_params"] == {"thinking_budget": 5}


def test_tools_schemas_and_parts_pass_through_unchanged() -> None:
    asked: JSON = {
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "tool_choice": "required",
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
        "logprobs": True,
        "top_logprobs": 3,
        "stop": ["."],
        "n": 2,
    }
    for dialect in ("openai", "vllm", "sglang", "llamacpp"):
        assert asked.items() <= body_of(dialect, asked=asked).items()


@pytest.mark.parametrize(
    "switch",
    [
        {"thinking": {"type": "disabled"}},
        {"enable_thinking": False},
        {"thinking_budget": 0},
        {"disable_reasoning": True},
        {"enable_reasoning": False},
        {"thinking_mode": "off"},
        {"chat_template": "{{ messages }}"},
        {"reasoning": {"effort": "none"}},
        {"output_config": {"effort": "low"}},
        {"chat_template_kwargs": {"enable_thinking": False, "thinking_budget": 1}},
        {"extra_body": {"google": {"thinking_config": {"thinking_budget": 0}}}},
        {"ignore_eos": True},
        {"min_tokens": 9},
        {"models": ["another"], "route": "fallback"},
    ],
)
@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_a_switch_of_a_vendor_does_not_overrule_a_rung(switch: JSON, dialect: str) -> None:
    with_switch = body_of(dialect, asked=switch, effort=Effort.HIGH)
    assert json.dumps(with_switch) == json.dumps(body_of(dialect, asked={}, effort=Effort.HIGH))
    named = {name.split(".")[0] for name in dropped_of(dialect, switch, effort=Effort.HIGH)}
    assert named == switch.keys() - {"models", "route"}  # which no rung's engine gets


SAMPLING = {"temperature": 0, "top_p": 0.5, "logprobs": True, "presence_penalty": 1}


@pytest.mark.parametrize("dialect", list(DIALECTS))
@pytest.mark.parametrize(
    ("asked", "rung", "thinks"),
    [
        ({}, {"effort": Effort.LOW}, True),
        ({"reasoning_effort": "high"}, {}, True),
        ({"reasoning_effort": "none"}, {}, False),
        ({}, {"effort": Effort.NONE}, False),
        ({}, {}, False),
    ],
)
def test_a_model_of_openais_or_kimi_that_thinks_gets_no_sampling_settings(
    dialect: str, asked: JSON, rung: JSON, thinks: bool
) -> None:
    """Every client sends a temperature; these models refuse it while they think."""
    sent = body_of(dialect, asked={**SAMPLING, **asked}, **rung)
    bare = thinks and dialect in ("openai", "azure", "kimi")
    kept = SAMPLING.keys() - DIALECTS[dialect].refuses  # type: ignore[index]
    assert kept & sent.keys() == (set() if bare else kept)
    named = set(dropped_of(dialect, {**SAMPLING, **asked}, **rung))
    assert named >= (SAMPLING.keys() if bare else SAMPLING.keys() - kept)
    own = body_of(dialect, asked=asked, **rung | {"params": {"temperature": 1}})
    assert own["temperature"] == 1


def test_other_servers_of_openais_api_get_them() -> None:
    elsewhere = at_url(DIALECTS["openai"], "http://127.0.0.1:8000/v1")
    assert not elsewhere.fixed_sampling
    assert at_url(DIALECTS["openai"], "https://x.openai.azure.com/v1").fixed_sampling


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_no_choice_of_tools_goes_out_where_there_are_none(dialect: str) -> None:
    """OpenAI and DeepSeek refuse an empty list, vLLM a choice without tools."""
    for choice in ("auto", "none"):
        asked: JSON = {"tools": [], "tool_choice": choice, "parallel_tool_calls": True}
        assert body_of(dialect, asked=asked) == body_of(dialect)
    assert body_of(dialect, asked={"tool_choice": "required"})["tool_choice"] == "required"
    asked = {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": True}
    assert asked.items() <= body_of(dialect, asked=asked).items()


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_tools_whose_schemas_no_grammar_expresses_are_written_without(dialect: str) -> None:
    """ggml-org/llama.cpp#25746, #25923, #26930: one pattern, and no tool of Claude Code worked."""
    text = {"type": "string", "description": "d"}
    bounds = {"pattern": "\\S", "minLength": 1, "maxLength": 65536}
    kept = {
        "type": "object",
        "properties": {
            "pattern": {**text, "enum": ["a"]},
            "list": {"type": "array", "items": text},
            "inner": {"type": "object", "anyOf": [{"properties": {"maxLength": text}}]},
            "none": {"type": "object"},
        },
        "required": ["pattern"],
    }
    asked = json.loads(json.dumps(kept))
    asked["properties"]["pattern"] |= bounds
    asked["properties"]["list"] |= {"maxItems": 10_000, "items": text | bounds}
    asked["properties"]["inner"]["anyOf"][0]["properties"]["maxLength"] |= bounds
    asked["properties"]["none"]["properties"] = {}
    tool = {"type": "function", "function": {"name": "f", "parameters": asked}}
    before = json.dumps(tool)
    [sent] = body_of(dialect, asked={"tools": [tool]})["tools"]
    compiles = dialect in ("llamacpp", "lmstudio")
    assert sent["function"]["parameters"] == (kept if compiles else asked)
    assert json.dumps(tool) == before
    named = dropped_of(dialect, {"tools": [tool]})
    lost = ("maxItems", "maxLength", "minLength", "pattern", "properties")
    assert named == (tuple(f"tools.{keyword}" for keyword in lost) if compiles else ())


def test_a_servers_own_tools_stay_as_they_are() -> None:
    tools = [{"type": "web_search"}, "odd", {"function": 5}, {"function": {"name": "f"}}]
    assert body_of("llamacpp", asked={"tools": tools})["tools"] == tools
    assert body_of("openai", asked={"tools": "odd"})["tools"] == "odd"


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_marks_of_what_to_cache_do_not_reach_vendors_that_refuse_them(dialect: str) -> None:
    """Kilo-Org/kilocode#4377, mnfst/llm-gateway#979: agents mark prompts for any model."""
    mark = {"cache_control": {"type": "ephemeral"}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    content = [{"type": "text", "text": "Hi", **mark}, picture]
    request = Request(
        request_id="r",
        messages=({"role": "user", "content": content, **mark},),
        params={"tools": [TOOL | mark]},
    )
    rung = Rung(name="r", engine="e", model="m")
    sent = request_body(request, rung, dialect=DIALECTS[dialect], stream=False)
    refuses = dialect in ("openai", "azure", "mistral", "gemini")
    assert json.dumps(sent).count("cache_control") == (0 if refuses else 3)
    named = dropped_fields(request, rung, dialect=DIALECTS[dialect])
    assert named == (("tools.cache_control",) if refuses else ())


def dropped_of(dialect: str, asked: JSON, **rung: object) -> tuple[str, ...]:
    request = Request(request_id="r1", messages=MESSAGES, params=asked)
    target = Rung(name="r", engine="e", model="m", **rung)
    return dropped_fields(request, target, dialect=DIALECTS[dialect])


@pytest.mark.parametrize("rung", [{}, {"effort": Effort.LOW}, {"params": {"top_k": 1}}])
@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_a_field_reaches_the_server_or_is_named(dialect: str, rung: JSON) -> None:
    plain = {"temperature": 0.5, "stop": ["x"], "user": "u", "seed": 4, "verbosity": "low"}
    asked: JSON = {**dict.fromkeys(sorted(ENGINE_FIELDS - {"n_predict"}), 7), **plain}
    named = dropped_of(dialect, asked, **rung)
    sent = body_of(dialect, asked=asked, **rung)
    arrived = {name for name, value in asked.items() if sent.get(name) == value}
    arrived |= {"seed"} if sent.get("random_seed") == 4 else set()
    assert {*named} == asked.keys() - arrived
    assert len(named) == len({*named})


@pytest.mark.parametrize(
    ("dialect", "asked", "rung", "named"),
    [
        ("vllm", {"chat_template_kwargs": {"enable_thinking": False, "date": "x"}}, LOW,
         ("chat_template_kwargs.enable_thinking",)),
        ("sglang", {"chat_template_kwargs": {"thinking": False}},
         {"params": {"chat_template_kwargs": {"thinking": True}}},
         ("chat_template_kwargs.thinking",)),
        ("sglang", {"chat_template_kwargs": {"date": "x"}}, LOW, ()),
        ("vllm", {"reasoning_effort": "high"}, {"thinking_budget_tokens": 9},
         ("reasoning_effort",)),
        ("vllm", {"reasoning_effort": "low"}, LOW, ()),
        ("openrouter", {"reasoning_effort": "low"}, {}, ()),
        ("llamacpp", {"reasoning_effort": "none"}, {}, ()),
        ("kimi", {"reasoning_effort": "none"}, {}, ()),
        ("kimi", {"reasoning_effort": "medium"}, {}, ("reasoning_effort",)),
        ("qwen", {"reasoning_effort": "high"}, {"params": {"enable_thinking": False}},
         ("reasoning_effort",)),
        ("openai", {"max_tokens": 900, "n": 1, "logprobs": False, "seed": None},
         {"max_output_tokens": 5, "params": {"n": 3, "logprobs": True, "seed": 1}}, ()),
        ("openai", {"n": 4, "seed": 2}, {"params": {"n": 3, "seed": 1}}, ("n", "seed")),
    ],
)  # fmt: skip
def test_what_a_rung_overrules_is_named(
    dialect: str, asked: JSON, rung: JSON, named: tuple[str, ...]
) -> None:
    assert dropped_of(dialect, asked, **rung) == named


@pytest.mark.parametrize(
    "name", ["max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens"]
)
@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_the_smallest_limit_holds_whatever_its_name(name: str, dialect: str) -> None:
    body = body_of(dialect, asked={name: 16, "n_predict": 900}, max_output_tokens=64)
    limits = DIALECTS[dialect].limits
    assert {field: body.get(field) for field in limits} == dict.fromkeys(limits, 16)
    assert name in limits or name not in body


@pytest.mark.parametrize(
    ("url", "names"),
    [
        ("https://api.openai.com/v1", {"max_completion_tokens"}),
        ("https://me.openai.azure.com/openai/v1", {"max_completion_tokens"}),
        ("http://127.0.0.1:9/v1", {"max_completion_tokens", "max_tokens"}),
        ("https://api.example.com/v1", {"max_completion_tokens", "max_tokens"}),
    ],
)
def test_servers_that_read_the_older_name_of_the_limit_get_both(url: str, names: set[str]) -> None:
    assert {*at_url(DIALECTS["openai"], url).limits} == names
    assert at_url(DIALECTS["vllm"], url) is DIALECTS["vllm"]


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.z.ai/api/paas/v4", "glm"),
        ("https://api.moonshot.cn/v1", "kimi"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen"),
        ("https://generativelanguage.googleapis.com/v1beta/openai", "gemini"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://me.openai.azure.com/openai/v1", "azure"),
        ("https://api.mistral.ai/v1", "mistral"),
        ("https://notdeepseek.com/v1", "openai"),
        ("http://127.0.0.1:11434/v1", "openai"),
    ],
)
def test_a_vendor_is_known_by_its_host_where_no_dialect_is_set(url: str, name: str) -> None:
    assert at_url(DIALECTS["openai"], url).name == name
    assert at_url(DIALECTS["sglang"], url).name == "sglang"


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        (
            "https://generativelanguage.googleapis.com/v1beta/openai",
            {"frequency_penalty", "presence_penalty", "logit_bias"},
        ),
        ("https://api.groq.com/openai/v1", {"logprobs", "top_logprobs", "logit_bias"}),
        (
            "https://api.cerebras.ai/v1",
            {"frequency_penalty", "presence_penalty", "logit_bias"},
        ),
        ("https://api.x.ai/v1", {"frequency_penalty", "presence_penalty"}),
        ("https://api.z.ai/api/paas/v4", {"frequency_penalty", "presence_penalty"}),
        ("https://llm.example.com/v1", set()),
    ],
)
def test_settings_that_a_vendor_refuses_are_left_out_and_named(url: str, refused: set[str]) -> None:
    """`Model grok-4-1-fast does not support parameter presencePenalty`: clients send zeros."""
    settings = {"frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {}}
    params = {**settings, "logprobs": True, "top_logprobs": 1, "temperature": 0.5}
    request = Request(request_id="r", messages=({"role": "user", "content": "x"},), params=params)
    vendor, rung = at_url(DIALECTS["openai"], url), Rung(name="r", engine="e", model="m")
    body = request_body(request, rung, dialect=vendor, stream=False)
    assert body.keys() & params.keys() == params.keys() - refused
    assert set(dropped_fields(request, rung, dialect=vendor)) == refused


TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("dialect", "model", "effort", "params", "free"),
    [
        ("deepseek", "deepseek-v4-flash", None, {}, True),
        ("deepseek", "deepseek-v4-flash", Effort.HIGH, {}, True),
        ("deepseek", "deepseek-v4-flash", Effort.NONE, {}, False),
        ("deepseek", "deepseek-v4-flash", None, {"thinking": {"type": "disabled"}}, False),
        ("deepseek", "deepseek-chat", None, {}, False),
        ("kimi", "kimi-k2.6", None, {}, True),
        ("kimi", "kimi-k2.6", None, {"reasoning_effort": "none"}, False),
        ("kimi", "kimi-k2-0905-preview", None, {}, False),
        ("qwen", "qwen3.5-plus", None, {"enable_thinking": True}, True),
        ("qwen", "qwen3.5-plus", Effort.NONE, {}, False),
        ("openai", "gpt-5.4", Effort.HIGH, {}, False),
    ],
)
def test_a_model_that_thinks_is_not_made_to_call_a_tool_where_its_vendor_refuses_that(
    dialect: str, model: str, effort: Effort | None, params: JSON, free: bool
) -> None:
    """`Thinking mode does not support this tool_choice` (DeepSeek V4), and so Kimi and Qwen."""
    rung = Rung(name="r", engine="e", model=model, effort=effort)
    server = DIALECTS[dialect]  # type: ignore[index]
    for choice in ("required", {"type": "function", "function": {"name": "f"}}, "auto", "none"):
        asked = {**params, "tools": [TOOL], "tool_choice": choice}
        request = Request(
            request_id="r", messages=({"role": "user", "content": "x"},), params=asked
        )
        dropped = free and choice not in ("auto", "none")
        body = request_body(request, rung, dialect=server, stream=False)
        assert ("tool_choice" in body) is not dropped
        named = dropped_fields(request, rung, dialect=server)
        assert ("tool_choice" in named) is dropped


@pytest.mark.parametrize(
    ("model", "effort", "kept"),
    [
        ("kimi-k2.6", None, False),
        ("kimi-k2.6", Effort.NONE, False),
        ("kimi-for-coding", None, False),
        ("kimi-k2-0905-preview", None, True),
        ("moonshot-v1-128k", None, True),
    ],
)
def test_kimi_gets_no_temperature_where_it_allows_one_alone(
    model: str, effort: Effort | None, kept: bool
) -> None:
    """`invalid temperature: only 1 is allowed for this model` (kodustech/kodus-ai pull 1120)."""
    params = {"temperature": 0.2, "top_p": 0.9}
    request = Request(request_id="r", messages=({"role": "user", "content": "x"},), params=params)
    rung = Rung(name="r", engine="e", model=model, effort=effort)
    body = request_body(request, rung, dialect=DIALECTS["kimi"], stream=False)
    assert body.keys() & params.keys() == (params.keys() if kept else set())
    own = Rung(name="r", engine="e", model=model, effort=effort, params={"temperature": 1.0})
    assert request_body(request, own, dialect=DIALECTS["kimi"], stream=False)["temperature"] == 1.0


def test_glm_knows_no_choice_of_a_tool_but_its_own() -> None:
    """`Tool choice must be auto` (vectorize-io/hindsight#4246), even to a choice of none."""
    named = {"type": "function", "function": {"name": "f"}}
    for choice, sent in ((named, {"tools"}), ("required", {"tools"}), ("none", set())):
        params = {"tools": [TOOL], "tool_choice": choice, "parallel_tool_calls": True}
        request = Request(
            request_id="r", messages=({"role": "user", "content": "x"},), params=params
        )
        rung = Rung(name="r", engine="e", model="glm-5.3")
        body = request_body(request, rung, dialect=DIALECTS["glm"], stream=False)
        assert body.keys() & {"tools", "tool_choice"} == sent
        assert "tool_choice" in dropped_fields(request, rung, dialect=DIALECTS["glm"])


def test_lm_studio_gets_the_one_tool_that_is_called_by_name() -> None:
    """`Invalid tool_choice type: 'object'` (can1357/llm-git#13)."""
    tools = [TOOL, {"type": "function", "function": {"name": "g"}}]
    choice = {"type": "function", "function": {"name": "g"}}
    params = {"tools": tools, "tool_choice": choice}
    request = Request(request_id="r", messages=({"role": "user", "content": "x"},), params=params)
    rung = Rung(name="r", engine="e", model="m")
    body = request_body(request, rung, dialect=DIALECTS["lmstudio"], stream=False)
    assert (body["tools"], body["tool_choice"]) == (tools[1:], "required")
    assert request_body(request, rung, dialect=DIALECTS["vllm"], stream=False)["tools"] == tools


def test_deepseek_gets_a_schema_as_an_order() -> None:
    """`This response_format type is unavailable now` (BerriAI/litellm pull 31466)."""
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "t", "schema": schema}}
    turns = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "x"})
    request = Request(request_id="r", messages=turns, params={"response_format": form})
    rung = Rung(name="r", engine="e", model="deepseek-v4-flash")
    body = request_body(request, rung, dialect=DIALECTS["deepseek"], stream=False)
    system, user = body["messages"]
    assert body["response_format"] == {"type": "json_object"}
    assert system["content"].startswith("Be brief.\n\nAnswer with JSON alone")
    assert system["content"].endswith(json.dumps(schema, separators=(",", ":")))
    assert user == turns[1]
    dropped = dropped_fields(request, rung, dialect=DIALECTS["deepseek"])
    assert dropped == ("response_format.type", "response_format.json_schema")
    plain = msgspec.structs.replace(request, params={"response_format": {"type": "json_object"}})
    assert request_body(plain, rung, dialect=DIALECTS["deepseek"], stream=False)["messages"] == [
        *turns
    ]
    assert request_body(request, rung, dialect=DIALECTS["vllm"], stream=False)["messages"] == [
        *turns
    ]
