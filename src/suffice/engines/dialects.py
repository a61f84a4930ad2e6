"""How each kind of server takes a reasoning effort, and what it has to be asked for.

Replies are read in one way for all of them (see reply.py); only requests differ.
"""

from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct
from msgspec.structs import replace

from suffice.config import DialectName
from suffice.engines.turns import one_system
from suffice.errors import ConfigError
from suffice.types import JSON, Effort, Request, Rung

Path = tuple[str, ...]

# Request fields that only some open engines know; hosted APIs answer 400 or 422 to them.
_VLLM = """
    add_generation_prompt add_special_tokens allowed_token_ids bad_words cache_salt chat_template
    chat_template_kwargs continue_final_message documents echo ignore_eos include_reasoning
    include_stop_str_in_output kv_transfer_params length_penalty logprob_token_ids media_io_kwargs
    min_p min_tokens mm_processor_kwargs priority prompt_logprobs repetition_detection
    repetition_penalty request_id return_prompt_text return_token_ids return_tokens_as_token_ids
    session_id skip_special_tokens spaces_between_special_tokens stop_token_ids stream_interval
    structured_outputs thinking_token_budget top_k truncate_prompt_tokens truncation_side
    use_beam_search vllm_xargs watermarking
"""  # vllm/entrypoints/openai/chat_completion/protocol.py @002032e
_SGLANG = """
    custom_logit_processor custom_params ebnf extra_key images_config input_ids lora_path
    no_stop_trim reasoning regex return_hidden_states return_meta_info rid separate_reasoning
    session_params stop_regex stream_reasoning
"""  # python/sglang/srt/entrypoints/openai/protocol.py @004c82e
_LLAMACPP = """
    cache_prompt dynatemp_range grammar id_slot json_schema mirostat n_predict n_probs
    parse_tool_calls reasoning_budget_tokens reasoning_format repeat_penalty return_progress
    samplers thinking_budget_tokens timings_per_token typical_p
"""  # tools/server/README.md @00dc805
ENGINE_FIELDS = frozenset(f"{_VLLM} {_SGLANG} {_LLAMACPP}".split())


class Dialect(Struct, frozen=True, kw_only=True):
    """How one kind of server differs from the others; a path leads to a field of the request.

    `effort` is the path of the effort itself, `switches` are those of booleans that say whether to
    think at all, `budget` that of the largest number of reasoning tokens. `shows_reasoning` says
    that a reply holds all the reasoning there was. `tokenizes` names the field of POST /tokenize,
    `renders` the route that lays out a chat as a prompt, for going on from the start of an answer.
    `one_system` says that templates behind it may take one system message alone, at the beginning.
    """

    name: DialectName
    effort: Path = ("reasoning_effort",)
    switches: tuple[Path, ...] = ()
    budget: Path | None = None
    limits: tuple[str, ...] = ("max_completion_tokens",)
    renames: dict[str, str] = {}
    refuses: frozenset[str] = frozenset()
    asks_for_usage: bool = True
    tokenizes: Literal["prompt", "content"] | None = None
    renders: Literal["apply-template", "tokenize"] | None = None
    shows_reasoning: bool = True
    echoes_prefill: bool = False
    counts_one_sample: bool = False
    one_system: bool = True


# Chat templates name the switch differently; one that knows neither name is not disturbed by them.
_SWITCHES = (("chat_template_kwargs", "enable_thinking"), ("chat_template_kwargs", "thinking"))

DIALECTS: dict[DialectName, Dialect] = {
    # https://platform.openai.com/docs/api-reference/chat/create
    "openai": Dialect(
        name="openai", refuses=ENGINE_FIELDS, shows_reasoning=False, one_system=False
    ),
    # No switches: vLLM sets enable_thinking from the effort (pull request 43401), and refuses any
    # template argument for models with Mistral's tokenizer (vllm/tokenizers/mistral.py @0065ad5).
    "vllm": Dialect(
        name="vllm",
        budget=("thinking_token_budget",),
        tokenizes="prompt",
        renders="tokenize",
    ),
    # The budget: docs.sglang.io/docs/advanced_features/thinking_budget.
    "sglang": Dialect(
        name="sglang",
        switches=_SWITCHES,
        budget=("custom_params", "thinking_budget"),
        tokenizes="prompt",
    ),
    # Usage of n > 1 counts one sample, and only whole replies repeat a prefill: both seen live.
    "llamacpp": Dialect(
        name="llamacpp",
        effort=("chat_template_kwargs", "reasoning_effort"),
        switches=_SWITCHES,
        budget=("thinking_budget_tokens",),
        limits=("max_tokens",),
        tokenizes="content",
        renders="apply-template",
        echoes_prefill=True,
        counts_one_sample=True,
    ),
    # mistralai/client-python src/mistralai/client/models/chatcompletionrequest.py @02e327f.
    "mistral": Dialect(
        name="mistral",
        limits=("max_tokens",),
        shows_reasoning=False,  # `none` "thinks minimally and the thinking chunk is omitted"
        renames={"seed": "random_seed"},
        refuses=ENGINE_FIELDS
        | {"logit_bias", "logprobs", "service_tier", "store", "top_logprobs", "user"},
        asks_for_usage=False,  # the last chunk has it anyway
    ),
}

_NESTED = ("chat_template_kwargs", "custom_params")
# What asks for an effort, in any dialect: a rung that has an effort or a budget drops all of it.
_EFFORTS = frozenset(
    {"reasoning", "reasoning_effort", "effort", "output_config", "prompt_mode"}
    | {"thinking", "enable_thinking", "think", "thinking_config", "include_thoughts"}
    | {"thinking_budget", "thinking_budget_tokens", "thinking_token_budget"}
    | {"reasoning_budget", "reasoning_budget_tokens"}
)
_ARGUMENTS = _EFFORTS | {"reasoning_strength", "thinking_mode"}
# What makes a model write on; a rung with a limit, an effort or a budget drops it.
_WRITE_ON = frozenset({"ignore_eos", "min_tokens", "min_new_tokens"})
# What else would replace the rung's own model.
_OTHER_MODELS = frozenset({"models", "fallbacks", "route"})
# Every name of a limit of tokens: the smallest one holds, under the name that the server reads.
_LIMITS = (
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "max_new_tokens",
    "n_predict",  # llama.cpp
    "num_predict",  # Ollama
)


def at_url(dialect: Dialect, url: str) -> Dialect:
    """Return the dialect of the server at a URL.

    Only OpenAI and Azure refuse the older name of the limit; many servers that speak their API read
    no other, so these get both.
    """
    host = urlsplit(url).hostname or ""
    if dialect.name != "openai" or host.endswith(("openai.com", "azure.com")):
        return dialect
    return replace(dialect, limits=("max_completion_tokens", "max_tokens"))


def request_body(request: Request, rung: Rung, *, dialect: Dialect, stream: bool) -> JSON:
    """Build the JSON that a server of this dialect gets for a request on a rung.

    Where both give a field the rung wins, for a rung is what a certificate vouches for; the
    smaller of two token limits holds. Fields that the server would refuse are left out.
    """
    params = _params(request, rung)
    params = {field: value for field, value in params.items() if field not in dialect.refuses}
    limit = _smallest_limit(params, rung)
    body = {
        dialect.renames.get(field, field): value
        for field, value in params.items()
        if field not in _LIMITS
    }
    if limit is not None:
        body |= dict.fromkeys(dialect.limits, limit)
    for path, value in effort_fields(rung, dialect=dialect):
        _put(body, path, value)
    messages = one_system(request.messages) if dialect.one_system else list(request.messages)
    body |= {"model": rung.model, "messages": messages, "stream": stream}
    body.pop("stream_options", None)
    if stream and dialect.asks_for_usage:
        body["stream_options"] = {"include_usage": True}
    return body


def effort_fields(rung: Rung, *, dialect: Dialect) -> list[tuple[Path, object]]:
    """List the fields that carry a rung's effort and budget, each as (path, value)."""
    fields: list[tuple[Path, object]] = []
    if rung.effort is not None:
        fields.append((dialect.effort, rung.effort.value))
        fields += [(path, rung.effort is not Effort.NONE) for path in dialect.switches]
    if rung.thinking_budget_tokens is not None and dialect.budget is not None:
        fields.append((dialect.budget, rung.thinking_budget_tokens))
    return fields


def output_limit(request: Request, rung: Rung) -> int | None:
    """Return the smallest limit of tokens that a request or its rung gives, or None."""
    return _smallest_limit(_params(request, rung), rung)


def _smallest_limit(params: JSON, rung: Rung) -> int | None:
    limits = [*(params.get(field) for field in _LIMITS), rung.max_output_tokens]
    return min((n for n in limits if isinstance(n, int) and n >= 0), default=None)


def check_rung(rung: Rung, *, dialect: Dialect) -> None:
    """Raise ConfigError for what a server of this dialect cannot be asked for."""
    if rung.thinking_budget_tokens is not None and dialect.budget is None:
        raise ConfigError(
            f"rung {rung.name!r}: the {dialect.name} API takes no thinking budget",
            hint="remove thinking_budget_tokens, and choose an effort instead",
        )
    if rung.early_stop is not None and dialect.renders is None:
        raise ConfigError(
            f"rung {rung.name!r}: early_stop has to go on from the start of an answer, which the "
            f"{dialect.name} API does not offer",
            hint="remove early_stop, or use an embedded engine or dialect llamacpp or vllm",
        )
    refused = sorted(dialect.refuses & rung.params.keys())
    if refused:
        raise ConfigError(
            f"rung {rung.name!r}: the {dialect.name} API refuses the field {refused[0]!r}",
            hint="remove it from params, or set the engine's dialect to the server that it is for",
        )


def _params(request: Request, rung: Rung) -> JSON:
    """Merge the params of both, template arguments field by field."""
    params = {k: v for k, v in request.params.items() if k not in _OTHER_MODELS}
    own_effort = rung.effort is not None or rung.thinking_budget_tokens is not None
    if own_effort:
        params = without_effort(params)
    if own_effort or rung.max_output_tokens is not None:
        params = {name: value for name, value in params.items() if name not in _WRITE_ON}
    merged = {
        field: _table(params[field]) | _table(rung.params[field])
        for field in _NESTED
        if field in params and field in rung.params
    }
    return {**params, **rung.params, **merged}


def without_effort(params: JSON) -> JSON:
    """Drop what a request says about effort, in every dialect: a rung's effort is its own."""
    kept = {field: value for field, value in params.items() if field not in _EFFORTS}
    for field in ("chat_template_kwargs", "extra_body", "custom_params", "google"):
        if isinstance(kept.get(field), dict):
            inner = {k: v for k, v in kept.pop(field).items() if k not in _ARGUMENTS}
            inner = without_effort(inner) if field == "extra_body" else inner
            kept |= {field: inner} if inner else {}
    return kept


def _put(body: JSON, path: Path, value: object) -> None:
    """Set a field on its path; what hangs on the path is copied, for it may be the request's."""
    *parents, field = path
    for parent in parents:
        body[parent] = dict(_table(body.get(parent)))
        body = body[parent]
    body[field] = value


def _table(value: object) -> JSON:
    """Take what ought to be a table for an empty one where it is none."""
    return value if isinstance(value, dict) else {}
