"""What each kind of server takes and tells: the table behind `dialect` in the configuration.

Sources stand beside each entry; those read in documentation are of 2026.
"""

from urllib.parse import urlsplit

import msgspec

from suffice.config import DialectName
from suffice.engines.dialect import Dialect, Switch
from suffice.types import Effort

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
"""  # ggml-org/llama.cpp/tools/server/README.md @00dc805
ENGINE_FIELDS = frozenset(f"{_VLLM} {_SGLANG} {_LLAMACPP}".split())

# Chat templates name the switch differently; one that knows neither name is not disturbed by them.
_SWITCHES = (
    Switch(("chat_template_kwargs", "enable_thinking")),
    Switch(("chat_template_kwargs", "thinking")),
)

_TYPE = Switch(("thinking", "type"), on="enabled", off="disabled")

DIALECTS: dict[DialectName, Dialect] = {
    # https://platform.openai.com/docs/api-reference/chat/create
    "openai": Dialect(
        name="openai",
        refuses=ENGINE_FIELDS,
        shows_reasoning=False,
        one_system=False,
        call_ids="short",
        strict_messages=True,
        refuses_marks=True,
        fixed_sampling=True,
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
        compiles_tools=True,
    ),
    # mistralai/client-python/src/mistralai/client/models/chatcompletionrequest.py @02e327f.
    "mistral": Dialect(
        name="mistral",
        limits=("max_tokens",),
        shows_reasoning=False,  # `none` "thinks minimally and the thinking chunk is omitted"
        renames={"seed": "random_seed"},
        refuses=ENGINE_FIELDS
        | {"logit_bias", "logprobs", "prompt_cache_retention", "safety_identifier"}
        | {"service_tier", "store", "top_logprobs", "user", "verbosity"},
        asks_for_usage=False,  # the last chunk has it anyway
        call_ids="nine",
        bridges_results=True,  # mistral_common/protocol/instruct/validator.py
        strict_messages=True,
        refuses_marks=True,
    ),
    # learn.microsoft.com/azure/foundry/openai/api-version-lifecycle: its v1 API is OpenAI's.
    "azure": Dialect(
        name="azure",
        refuses=ENGINE_FIELDS,
        shows_reasoning=False,
        one_system=False,
        call_ids="short",
        strict_messages=True,
        refuses_marks=True,
        fixed_sampling=True,
    ),
    # api-docs.deepseek.com/guides/thinking_mode: other efforts are mapped to these in silence.
    # A turn without a thought is refused, and so is an empty one (earendil-works/pi pull 3640).
    "deepseek": Dialect(
        name="deepseek",
        thinkers=r"v[4-9]|reasoner",
        forces_calls="unless_thinking",  # BerriAI/litellm pull 37470
        holds_schemas=False,  # `This response_format type is unavailable now`
        wants_thoughts=True,
        plain_text=True,
        levels=(Effort.NONE, Effort.LOW, Effort.HIGH, Effort.MAX),
        switches=(_TYPE,),
        switches_none=True,
        limits=("max_tokens",),
        refuses=ENGINE_FIELDS,
    ),
    # docs.z.ai/guides/capabilities/thinking-mode; java.agentscope.io/v2/en/integration/model/glm
    # lists what is refused. Effort since GLM-5.2; models from 5.3 on always think.
    "glm": Dialect(
        name="glm",
        forces_calls="never",  # vectorize-io/hindsight#4246: `Tool choice must be auto`
        plain_text=True,
        levels=(Effort.NONE, Effort.LOW, Effort.HIGH, Effort.MAX),
        switches=(_TYPE,),
        switches_none=True,
        limits=("max_tokens",),
        refuses=ENGINE_FIELDS | {"frequency_penalty", "presence_penalty"},
        asks_for_usage=False,  # the last chunk has it anyway
    ),
    # platform.moonshot.ai/docs/api/chat: `thinking` allows no other field, max_tokens is old.
    # One temperature is allowed while it thinks, and another one while it does not.
    "kimi": Dialect(
        name="kimi",
        thinkers=r"k2\.|k[3-9]|thinking|for-coding",
        fixed_sampling=True,
        forces_calls="unless_thinking",  # UKGovernmentBEIS/inspect_ai pull 5152
        wants_thoughts=True,
        plain_text=True,
        effort=None,
        levels=(Effort.NONE, Effort.HIGH),
        switches=(_TYPE,),
        refuses=ENGINE_FIELDS,
    ),
    # help.aliyun.com/en/model-studio/deep-thinking
    "qwen": Dialect(
        name="qwen",
        caches=True,
        forces_calls="unless_thinking",  # cloudwego/eino#994
        effort=None,
        levels=(Effort.NONE, Effort.HIGH),
        switches=(Switch(("enable_thinking",)),),
        budget=("thinking_budget",),
        limits=("max_tokens",),
        refuses=ENGINE_FIELDS - {"top_k", "repetition_penalty"},
    ),
    # ai.google.dev/gemini-api/docs/openai: an effort and a budget together are refused, so are
    # fields that it does not know. Thoughts are counted in the total of the usage alone.
    "gemini": Dialect(
        name="gemini",
        levels=(Effort.NONE, Effort.MINIMAL, Effort.LOW, Effort.MEDIUM, Effort.HIGH),
        budget=("extra_body", "google", "thinking_config", "thinking_budget"),
        budget_or_effort=True,
        limits=("max_tokens",),
        refuses=ENGINE_FIELDS
        | {"frequency_penalty", "presence_penalty", "logit_bias", "metadata", "store", "verbosity"}
        | {"prompt_cache_key", "safety_identifier"},
        shows_reasoning=False,
        thoughts_in_total=True,
        refuses_marks=True,
        strict_messages=True,
        wanted=frozenset({"extra_content"}),
        signs="calls",
        wants_names=True,  # NousResearch/hermes-agent pull 19728
    ),
    # openrouter.ai/docs/use-cases/reasoning-tokens: effort or budget, not both.
    "openrouter": Dialect(
        name="openrouter",
        caches=True,
        signs="details",
        effort=("reasoning", "effort"),
        levels=tuple(level for level in Effort if level is not Effort.MAX),
        budget=("reasoning", "max_tokens"),
        budget_or_effort=True,
        limits=("max_tokens",),
        refuses=ENGINE_FIELDS
        - {"include_reasoning", "min_p", "reasoning", "repetition_penalty", "top_k"},
        shows_reasoning=False,
    ),
    # ollama/ollama openai/openai.go @0098875: ChatCompletionRequest; an unknown effort is an error.
    "ollama": Dialect(
        name="ollama",
        plain_text=True,
        levels=(Effort.NONE, Effort.LOW, Effort.MEDIUM, Effort.HIGH),
        limits=("max_tokens",),
    ),
    # lmstudio.ai/docs/developer/openai-compat/chat-completions
    "lmstudio": Dialect(
        name="lmstudio",
        names_calls=False,  # can1357/llm-git#13
        plain_text=True,
        limits=("max_tokens",),
        compiles_tools=True,  # with llama.cpp
    ),
}

# Who answers at a host; subdomains count.
_HOSTS: dict[str, DialectName] = {
    "openai.com": "openai",
    "azure.com": "azure",
    "mistral.ai": "mistral",
    "deepseek.com": "deepseek",
    "z.ai": "glm",
    "bigmodel.cn": "glm",
    "moonshot.ai": "kimi",
    "moonshot.cn": "kimi",
    "aliyuncs.com": "qwen",
    "generativelanguage.googleapis.com": "gemini",
    "openrouter.ai": "openrouter",
}
_STRICT_HOSTS = (".cerebras.ai", ".groq.com")  # they refuse thoughts of earlier turns
# Fields that vendors without a dialect of their own refuse. console.groq.com/docs/openai;
# inference-docs.cerebras.ai/resources/openai; open-webui/open-webui#21266 for xAI.
_REFUSED_AT = {
    ".groq.com": frozenset({"logprobs", "logit_bias", "top_logprobs"}),
    ".cerebras.ai": frozenset({"frequency_penalty", "logit_bias", "presence_penalty"}),
    ".x.ai": frozenset({"frequency_penalty", "presence_penalty"}),
}


def vendor_at(url: str, *, dialect: Dialect) -> Dialect:
    """Return the dialect of the vendor at a URL, if the one that is set is `openai`."""
    host = f".{urlsplit(url).hostname or ''}"
    vendor = next((name for domain, name in _HOSTS.items() if host.endswith(f".{domain}")), None)
    return dialect if vendor is None or dialect.name != "openai" else DIALECTS[vendor]


def at_url(dialect: Dialect, url: str) -> Dialect:
    """Return the dialect of the server at a URL.

    Only OpenAI and Azure refuse the older name of the limit; many servers that speak their API read
    no other, so these get both. Some of them take no list of texts.
    """
    host = urlsplit(url).hostname or ""
    dialect = vendor_at(url, dialect=dialect)
    if dialect.name != "openai" or host.endswith("openai.com"):
        return dialect
    limits = ("max_completion_tokens", "max_tokens")
    strict = f".{host}".endswith(_STRICT_HOSTS)
    refused = (fields for end, fields in _REFUSED_AT.items() if f".{host}".endswith(end))
    return msgspec.structs.replace(
        dialect,
        refuses=dialect.refuses.union(*refused),
        limits=limits,
        plain_text=True,
        call_ids="any",
        fixed_sampling=False,
        strict_messages=strict,
        refuses_marks=strict,
    )
