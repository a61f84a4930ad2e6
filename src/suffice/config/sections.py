"""The sections of `suffice.toml`, key by key."""

from decimal import Decimal
from typing import Any, Literal

from msgspec import Struct

from suffice.types import Rung

EngineKind = Literal["openai", "responses", "anthropic", "embedded", "replay", "latent"]
CACHE_LIFE_S = 300.0  # of a prefix that nobody reads, in seconds
POLICY_MODEL = "suffice"  # the model by which clients of the gateway ask for the policy
DialectName = Literal[
    "openai",
    "vllm",
    "sglang",
    "llamacpp",
    "mistral",
    "azure",
    "deepseek",
    "gemini",
    "glm",
    "kimi",
    "lmstudio",
    "ollama",
    "openrouter",
    "qwen",
]


class EngineConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an engine runs and how to talk to it.

    kind: `openai` (any OpenAI-compatible server), `responses` ([OpenAI's Responses
      API](engines.md)), `anthropic` ([the Messages API](engines.md)), `embedded` (llama.cpp in
      this process), `replay` (recorded trials), `latent` (a certified [prediction](latent.md))
    url: base URL of an `openai`, `responses` or `anthropic` engine, with its `/v1`; or a list of
      them, for servers of one model ([several servers](engines.md#several-servers)); keys never
      stand in it
    dialect: how this server takes effort and counts tokens: `openai`, `vllm`, `sglang`,
      `llamacpp`, `mistral`, `azure`, `deepseek`, `gemini`, `glm`, `kimi`, `lmstudio`, `ollama`,
      `openrouter`, `qwen` ([the table](engines.md))
    api_key_env: environment variable that holds the key
    api_key_file: file that holds the key instead, as Docker, Kubernetes and Vault write them; a
      gateway reads it again when it changes
    model_path: GGUF file of an `embedded` engine, or the folder of a `latent` one
    packaged: packaged model of an `embedded` engine: `suffice-moe-13m` (the default) or
      `SmolLM2-135M-Instruct`
    trials: trials file of a `replay` engine
    context_tokens: context of an `embedded` engine, shared by its parallel slots
    parallel: how many requests an engine is given at once
    timeout_s: longest silence before the call is given up; an answer that is not streamed is
      one silence
    max_retries: how often a call that was refused, or could not be sent, is tried again
    """

    kind: EngineKind
    url: str | tuple[str, ...] | None = None
    dialect: DialectName = "openai"
    api_key_env: str | None = None
    api_key_file: str | None = None
    model_path: str | None = None
    packaged: str | None = None
    trials: str | None = None
    context_tokens: int = 8192
    parallel: int = 4
    timeout_s: float = 120.0
    max_retries: int = 2

    @property
    def urls(self) -> tuple[str, ...]:
        """The base URLs, none where the engine has no server."""
        if self.url is None or isinstance(self.url, tuple):
            return self.url or ()
        return (self.url,)

    @property
    def first_url(self) -> str:
        """The base URL, of several the first, which stands for all; "" where there is none."""
        return next(iter(self.urls), "")


class PriceConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to price tokens: hosted, stated rates, or chips and measured speed; give exactly one.

    provider: hosted: whose price list `genai-prices` looks up
    model: hosted: the model on that list
    input_usd_per_mtok: stated: dollars per million input tokens
    cache_read_usd_per_mtok: stated: dollars per million tokens read from a cache; the input price
      where absent
    cache_write_usd_per_mtok: stated: dollars per million tokens written to a cache; the input price
      where absent
    output_usd_per_mtok: stated: dollars per million output tokens
    usd_per_thousand_requests: stated: dollars per thousand calls, on top of their tokens
    kinds: stated: dollars per million tokens of a kind, or per thousand uses of a tool, such as
      `{input_audio_tokens = 32, web_searches = 10}`; [the kinds](engines.md)
    chip_usd_per_hour: self-hosted: rent of one chip
    chips: self-hosted: how many chips the deployment has
    input_tokens_per_s: self-hosted: measured speed of the whole deployment when it only reads
      prompts
    output_tokens_per_s: self-hosted: measured speed of the whole deployment when it only decodes
    assumed: whether the numbers are a guess: every charge made with them is then an estimate
    source: where the numbers come from
    date: when they were read
    """

    provider: str | None = None
    model: str | None = None
    input_usd_per_mtok: Decimal | None = None
    cache_read_usd_per_mtok: Decimal | None = None
    cache_write_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    usd_per_thousand_requests: Decimal | None = None
    kinds: dict[str, Decimal] | None = None
    chip_usd_per_hour: Decimal | None = None
    chips: int = 1
    input_tokens_per_s: float | None = None
    output_tokens_per_s: float | None = None
    assumed: bool = False
    source: str | None = None
    date: str | None = None


CheckKind = Literal["json_schema", "regex", "python", "command", "http", "judge"]


class CheckConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Your own acceptance test of an answer ([checks](checks.md)).

    kind: `json_schema`, `regex`, `python` (a function of yours), `command`, `http` (a hook) or
      `judge` (a rung that judges)
    rungs: rungs whose answers it looks at; all below the reference where none is listed
    schema: `json_schema`: the JSON schema, as a table
    pattern: `regex`: what must be found in the answer
    function: `python`: `package.module:function`
    command: `command`: the program and its arguments, as a list
    folder: `command`: folder that it gets a copy of to work in
    url: `http`: where the answer is posted to
    judge: `judge`: name of the rung
    rubric: `judge`: what makes an answer acceptable
    timeout_s: longest time to a verdict
    memory_bytes: memory of a process that checks; its largest file, too
    network: let a process that checks use the network
    usd: dollars of one check, where you know them; a judge is charged by its tokens
    """

    kind: CheckKind
    rungs: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None
    pattern: str | None = None
    function: str | None = None
    command: tuple[str, ...] = ()
    folder: str | None = None
    url: str | None = None
    judge: str | None = None
    rubric: str | None = None
    timeout_s: float = 10.0
    memory_bytes: int = 1024 * 1024 * 1024
    network: bool = False
    usd: Decimal = Decimal(0)


class Targets(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The promise.

    alpha: largest risk allowed
    delta: largest probability that the promise fails
    lapses_after: how long a certificate holds
    """

    alpha: float = 0.05
    delta: float = 0.1
    lapses_after: str = "30d"


AuditLabel = Literal["target", "scorer", "judge", "agreement", "feedback"]


class GatewayConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How `suffice serve` behaves; limits of rungs hold for each worker process.

    ledger: file of the books, or `postgresql://` URL
    fsync: have rows survive a power cut too (SQLite)
    store_text: keep prompts, answers and the reasoning shown, as `recertify` needs
    redact: a `package.module:function` from text to text, for all that the books keep of texts
      ([privacy](security.md#privacy))
    id_key_file: file of a secret that conversation and session ids are hashed with
      ([privacy](security.md#privacy))
    log_format: `text`, or `json`: one object a line, with a line for each request
    models: further names that clients may use: `{"gpt-4o" = "suffice", "mini" = "small"}`
    effort: what an effort asked of the policy is: `limit`, `refuse` or `ignore`
      ([effort](apis.md#effort))
    defer_streams: streams that the policy may look at first: `hold` them back, or `route` them
      to the reference
    failover: let the next rung up stand in for one that fails, where the reference does not
    deadline_s: longest time for a request, standing in line included
    drain_delay_s: seconds after SIGTERM in which it is unready and still takes connections
    write_timeout_s: how long a client may not read before it counts as gone
    rung_concurrency: calls to a rung at once
    rung_queue: calls to a rung that may wait in line
    queue_timeout_s: longest wait in that line
    keepalive_s: seconds of silence in a stream after which a comment or ping keeps it open
    open_after_s: seconds after which a stream without a word is begun, so that comments can go out
      ([silent streams](gateway.md#silent-streams))
    hedge_after_s: seconds after which a rung that has begun no answer is asked
      [once more](gateway.md#hedging): `{big = 5}`
    breaker_failures: failures in a row after which a rung is left alone
    breaker_open_s: how long it is left alone
    body_limit_bytes: largest body of a request
    cors_origins: origins whose pages may call the gateway from a browser, such as
      `https://app.example`, or `*` for all; none may without it
    connections: open connections of a worker
    connections_by_address: open connections from one address; a proxy in front is one
    hosts: names that the gateway answers to in a Host header; all, where none is listed
    conversations: how many conversations are remembered
    route_by: what the policy chooses a rung for: each `request`, or each `session`
      ([sessions](sessions.md))
    session_header: a header that names the session, read before those that are known
    cache_life_s: how long engines keep a prompt that nobody reads, for the choice by session
    rollout: share of sessions that the policy chooses for; the reference answers the others
      ([roll-out](sessions.md#roll-out))
    shadow_rung: a rung that answers the first turns of some sessions too, unseen by their clients
      ([shadow](sessions.md#shadow))
    shadow_share: share of sessions that it does so for
    shadow_turns: how many first turns of each of their agents
    shadow_concurrency: such calls at once
    responses_ttl: how long responses and conversations are kept that clients ask to be
      [kept](apis.md#kept-responses), such as `30d`; none are without it
    keys: file of API keys ([keys](keys.md)); without it everybody is let in
    session_budget_usd: what one session may cost; its requests are refused from then on
    tag_metadata: names in a request's `metadata` whose values are tags `NAME:VALUE`
    tag_budget_usd_per_day: what requests of a tag may cost a day (UTC): `{web = 5}`
    assumed_usd: what a request of unknown cost counts as in a budget
    assumed_output_tokens: length that a key's limits assume of an answer that neither request nor
      rung limits
    audit_share: share of requests that are audited, with `--certificate` or `--observe`
    audit_seed: draws them; keep it from whoever may choose request ids
    audit_usd_per_day: what audits may cost a day; fewer are drawn so that it lasts
    audit_assumed_usd: what an audit of unknown cost counts as; a budget needs it
    audit_concurrency: audits under way at once
    audit_labels: labels that watch it, of `target`, `scorer`, `judge`, `agreement`, `feedback`
      ([gateway](gateway.md#what-watches-a-certificate))
    audit_scorer: how audits mark answers: `exact`, `choice`, `numeric` or `calls` agreement with
      the reference, or a `package.module:function` of your own
      ([gateway](gateway.md#what-watches-a-certificate))
    """

    ledger: str = "suffice.db"
    fsync: bool = False
    store_text: bool = False
    redact: str | None = None
    id_key_file: str | None = None
    log_format: Literal["text", "json"] = "text"
    models: dict[str, str] = {}
    effort: Literal["limit", "refuse", "ignore"] = "limit"
    defer_streams: Literal["hold", "route"] = "hold"
    failover: bool = True
    deadline_s: float = 600.0
    drain_delay_s: float = 0.0
    write_timeout_s: float = 60.0
    rung_concurrency: int = 256
    rung_queue: int = 1024
    queue_timeout_s: float = 30.0
    keepalive_s: float = 15.0
    open_after_s: float | None = None
    hedge_after_s: dict[str, float] = {}
    breaker_failures: int = 5
    breaker_open_s: float = 10.0
    body_limit_bytes: int = 16 * 1024 * 1024
    cors_origins: tuple[str, ...] = ()
    connections: int = 4096
    connections_by_address: int = 1024
    hosts: tuple[str, ...] = ()
    conversations: int = 10_000
    route_by: Literal["request", "session"] = "request"
    session_header: str | None = None
    cache_life_s: float = CACHE_LIFE_S
    rollout: float = 1.0
    shadow_rung: str | None = None
    shadow_share: float = 0.05
    shadow_turns: int = 2
    shadow_concurrency: int = 2
    responses_ttl: str | None = None
    keys: str | None = None
    session_budget_usd: Decimal | None = None
    tag_metadata: tuple[str, ...] = ("team", "project", "feature", "app", "environment")
    tag_budget_usd_per_day: dict[str, Decimal] = {}
    assumed_usd: Decimal = Decimal("0.01")
    assumed_output_tokens: int = 16_384
    audit_share: float = 0.02
    audit_seed: int = 0
    audit_usd_per_day: Decimal | None = None
    audit_assumed_usd: Decimal | None = None
    audit_concurrency: int = 4
    audit_labels: tuple[AuditLabel, ...] = ()
    audit_scorer: str = "exact"


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file.

    reference: name of the rung whose quality is promised against
    engine: sections `[engine.NAME]`, see below
    ladder: sections `[[ladder]]`, one a rung, cheapest first
    embedding: sections `[[embedding]]`, one a model for `POST /v1/embeddings`; of a rung's keys
      they have `name`, `engine`, `model`, `price` and `params`
    price: sections `[price.NAME]`, which rungs refer to
    check: sections `[check.NAME]`, your own tests of answers
    targets: section `[targets]`
    gateway: section `[gateway]`, for `suffice serve`
    """

    reference: str
    engine: dict[str, EngineConfig]
    ladder: tuple[Rung, ...]
    embedding: tuple[Rung, ...] = ()
    price: dict[str, PriceConfig] = {}
    check: dict[str, CheckConfig] = {}
    targets: Targets = Targets()
    gateway: GatewayConfig = GatewayConfig()
