"""What engines report of tokens: read under every name, reconciled, held against the text."""

from collections.abc import Iterator
from decimal import Decimal

import msgspec
from msgspec.structs import replace

from suffice.engines.counts import PLACES, beside_message, cache_writes, read_counts
from suffice.types import JSON, Count, CountSource, Request, Usage, estimated

_TICKS_PER_USD = Decimal(10**10)
_TOTALS = frozenset(PLACES["total_tokens"])
_OUR_FIELDS = frozenset(Usage.__struct_fields__)
_BESIDE_PROMPT = (  # the counts of Anthropic and Bedrock
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cacheReadInputTokens",
    "cacheWriteInputTokens",
)
_CACHED_BESIDE = (("perf_metrics", "cached-prompt-tokens"), ("timings", "cache_n"))


def usage_in(event: JSON) -> JSON | None:
    """Return the usage of a reply or an event, from wherever the engine put it.

    Fireworks and llama.cpp count cached tokens beside the usage. Moonshot has a usage in each
    choice, each with the output of its own choice.
    """
    groq = event.get("x_groq")
    told = event.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)
    if not told or not isinstance(told, dict):
        choices = event.get("choices") or ()
        inner = [choice.get("usage") for choice in choices]
        told = usage_of_choices([usage for usage in inner if usage and isinstance(usage, dict)])
    for name, field in _CACHED_BESIDE:
        table = event.get(name)
        if told and isinstance(table, dict) and field in table:
            told = {"cached_tokens": table[field], **told}
    return told


def usage_of_choices(usages: list[JSON]) -> JSON | None:
    """Join the usages of the choices of one reply: they share the prompt, each has its output."""
    if len(usages) < 2:
        return usages[0] if usages else None
    output = sum(read_counts(usage).get("output_tokens", 0) for usage in usages)
    shared = ("input_tokens", "cache_read_tokens", "cache_miss_tokens")
    places = {place for name in shared for place in PLACES[name]}
    tops = {place[0] for place in places}
    joined = {name: value for usage in usages for name, value in usage.items() if name in tops}
    return {**joined, "completion_tokens": output}


def read_usage(raw: object, *, reasoning: str, thoughts_in_total: bool = False) -> Usage:
    """Read the counts that a server reports, and reconcile the parts with their total.

    Reasoning and caches are mostly counted within the output and the prompt, by some beside them;
    the total tells which. What the total does not explain is an estimate. Absent counts are None.
    A reported 0 beside visible reasoning is not believed: SGLang says it without a parser.
    `thoughts_in_total` is true of a server that counts its reasoning in the total alone.
    """
    table = raw if isinstance(raw, dict) else {}
    counts = read_counts(table)
    for name, tokens in beside_message(table).items():
        counts[name] = counts.get(name, 0) + tokens
    tool_use, missed = (
        counts.pop("tool_use_prompt_tokens", 0),
        counts.pop("cache_miss_tokens", None),
    )
    if missed is not None:
        counts.setdefault("input_tokens", missed + counts.get("cache_read_tokens", 0))
    if "input_tokens" in counts:
        counts["input_tokens"] += tool_use
    if thoughts_in_total and counts.keys() >= {"input_tokens", "output_tokens", "total_tokens"}:
        rest = counts["total_tokens"] - counts["input_tokens"] - counts["output_tokens"]
        if rest >= 0:
            counts.setdefault("reasoning_tokens", rest)
    thought = counts.get("reasoning_tokens")
    prompt, output = _sides(counts, caches_beside=_is_anthropic(table))
    reported = CountSource.REPORTED
    return Usage(
        input_tokens=prompt,
        cache_read_tokens=_counted(counts.get("cache_read_tokens"), reported),
        cache_write_tokens=_counted(cache_writes(counts), reported),
        output_tokens=output,
        reasoning_tokens=_counted(None if reasoning and thought == 0 else thought, reported),
        kinds={
            name: Count(number, reported)
            for name, number in counts.items()
            if number and name not in _OUR_FIELDS and name != "total_tokens"
        },
        service_tier=_service_tier(table),
        stated_usd=_stated_usd(table),
    )


def merged_usage(before: JSON | None, later: JSON) -> JSON:
    """Join two usages of one stream: later counts win, but nothing and 0 do not erase a count."""
    if not before:
        return later
    joined, counts = dict(before), read_counts(later)
    if counts.get("output_tokens"):  # the total of less is none
        joined = {name: value for name, value in joined.items() if (name,) not in _TOTALS}
    elif read_counts(before).get("output_tokens"):
        later = {name: value for name, value in later.items() if (name,) not in _TOTALS}
    for name, value in later.items():
        if isinstance(value, dict) and isinstance(joined.get(name), dict):
            joined[name] = merged_usage(joined[name], value)
        elif value or name not in joined:
            joined[name] = value
    return joined


def tells_output(raw: JSON) -> bool:
    """Whether a usage counts any output."""
    return bool(raw.get("completion_tokens") or read_counts(raw).get("output_tokens"))


def openai_usage(usage: Usage, raw: object) -> JSON:
    """Write the reported counts under OpenAI's names, beside what else the engine reported."""
    before = raw if isinstance(raw, dict) else {}
    table = dict(before)
    prompt, output = _reported(usage.input_tokens), _reported(usage.output_tokens)
    if prompt is not None:
        table["prompt_tokens"] = prompt
    if output is not None:
        table["completion_tokens"] = output
    if prompt is not None and output is not None and (table != before or "total_tokens" in before):
        table["total_tokens"] = prompt + output
    for name, field, count in (
        ("prompt_tokens_details", "cached_tokens", usage.cache_read_tokens),
        ("prompt_tokens_details", "cache_write_tokens", usage.cache_write_tokens),
        ("completion_tokens_details", "reasoning_tokens", usage.reasoning_tokens),
    ):
        tokens, details = _reported(count), table.get(name)
        details = details if isinstance(details, dict) else {}
        if tokens is not None and details.get(field) != tokens:
            table[name] = {**details, field: tokens}
    return table


def against_text(usage: Usage, *, written: str, request: Request) -> Usage:
    """Replace counts that are too small for the text that they are to count, by estimates."""
    prompt, output = usage.input_tokens, usage.output_tokens
    if output is not None and output.tokens < _fewest_tokens(written):
        guess = max(output.tokens, estimated(written).tokens)
        output = Count(guess, CountSource.ESTIMATED)
    if prompt is not None:
        text = prompt_text(request)
        if prompt.tokens < -(-len(text) // 32):  # characters a token, far above what is usual
            prompt = Count(max(prompt.tokens, estimated(text).tokens), CountSource.ESTIMATED)
    if prompt is usage.input_tokens and output is usage.output_tokens:
        return usage
    return replace(usage, input_tokens=prompt, output_tokens=output)


def prompt_text(request: Request) -> str:
    """Join what is text in the messages of a request."""
    texts: list[str] = []
    for message in request.messages:
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [part["text"] for part in content if _is_text(part)]
    return "".join(texts)


def estimated_input(request: Request) -> Count | None:
    """Guess the tokens of the messages; None where there is more to them than text."""
    for message in request.messages:
        content = message.get("content") or ""
        if not isinstance(content, str) and not (
            isinstance(content, list) and all(_is_text(part) for part in content)
        ):
            return None
    return estimated(prompt_text(request))


def estimated_prompt(request: Request) -> Count:
    """Guess the tokens of the messages and the tools, the pictures left out."""
    tools = request.params.get("tools")
    more = msgspec.json.encode(tools).decode() if tools else ""
    return estimated(prompt_text(request) + more)


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)


def _sides(counts: dict[str, int], *, caches_beside: bool) -> tuple[Count | None, Count | None]:
    """Return all input and all output; an estimate where the counts contradict each other.

    `caches_beside` says where the caches are counted when there is no total to tell.
    """
    prompt, output = counts.get("input_tokens"), counts.get("output_tokens")
    total = counts.get("total_tokens") or None  # a 0 tells nothing
    if total is not None and prompt is None and output is not None and total >= output:
        prompt = total - output
    if total is not None and output is None and prompt is not None and total >= prompt:
        output = total - prompt
    if prompt is None or output is None:
        return _counted(prompt, CountSource.REPORTED), _counted(output, CountSource.REPORTED)
    cached = counts.get("cache_read_tokens", 0) + (cache_writes(counts) or 0)
    thought = counts.get("reasoning_tokens", 0)
    explained = None if total is None else _explained(counts, prompt, output, total=total)
    if explained is not None:
        return explained
    prompt_source = output_source = CountSource.REPORTED
    if cached > prompt or caches_beside:
        prompt_source = CountSource.REPORTED if caches_beside else CountSource.ESTIMATED
        prompt += cached
    if thought > output:
        output, output_source = output + thought, CountSource.ESTIMATED
    if total is not None:  # and it fits nothing
        prompt_source = output_source = CountSource.ESTIMATED
        if prompt == 0:
            prompt = max(0, total - output)
        output = max(output, total - prompt)  # thoughts that only the total counts, as Gemini's
    return Count(prompt, prompt_source), Count(output, output_source)


def _explained(
    counts: dict[str, int], prompt: int, output: int, *, total: int
) -> tuple[Count, Count] | None:
    """Return all input and all output as their total explains them; None where it explains none."""
    cached = counts.get("cache_read_tokens", 0) + (cache_writes(counts) or 0)
    thought = counts.get("reasoning_tokens", 0)
    if total == prompt + output and prompt >= cached and output >= thought:  # nearly always
        return Count(prompt, CountSource.REPORTED), Count(output, CountSource.REPORTED)
    fitting = {
        (prompt + cache, output + reasoning): None
        for cache in (0, cached, *(_caches(counts)))
        for reasoning in (0, thought)
        if prompt + cache >= cached and output + reasoning >= thought
        if prompt + cache + output + reasoning == total
    }
    if not fitting:
        return None
    first, *others = fitting
    source = CountSource.ESTIMATED if others else CountSource.REPORTED
    return Count(first[0], source), Count(first[1], source)


def _caches(counts: dict[str, int]) -> Iterator[int]:
    yield counts.get("cache_read_tokens", 0)
    yield cache_writes(counts) or 0


def _is_anthropic(table: JSON) -> bool:
    """Whether the input leaves out the caches, as Anthropic's own usage does."""
    return "prompt_tokens" not in table and any(name in table for name in _BESIDE_PROMPT)


def _service_tier(table: JSON) -> str | None:
    """Return the tier that answered: Anthropic, xAI and the Responses API name it in the usage.

    Anthropic's fast mode, which has rates of its own, is its `speed`.
    """
    tier = "fast" if table.get("speed") == "fast" else table.get("service_tier")
    if not tier:  # Vertex
        extra = table.get("extra_properties")
        inner = extra.get("google") if isinstance(extra, dict) else None
        traffic = inner.get("traffic_type") if isinstance(inner, dict) else table.get("trafficType")
        tier = str(traffic or "").lower().removeprefix("on_demand_")
    return tier if isinstance(tier, str) and tier else None


def _stated_usd(table: JSON) -> Decimal | None:
    """Return what the vendor says that the call cost: OpenRouter, Perplexity, xAI, DeepInfra.

    Of a call with the operator's own key at a provider OpenRouter tells its fee, and beside it what
    the provider charges.
    """
    ticks = table.get("cost_in_usd_ticks")
    if isinstance(ticks, int) and not isinstance(ticks, bool) and ticks >= 0:
        return ticks / _TICKS_PER_USD
    cost = table.get("cost", table.get("estimated_cost"))
    cost = _amount(cost.get("total_cost") if isinstance(cost, dict) else cost)
    if cost is None or table.get("is_byok") is not True:
        return cost
    details = table.get("cost_details")
    charged = _amount(details.get("upstream_inference_cost") if isinstance(details, dict) else None)
    return None if charged is None else cost + charged


def _amount(usd: object) -> Decimal | None:
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd < 10**6:
        return None
    return Decimal(str(usd))


def _reported(count: Count | None) -> int | None:
    return count.tokens if count is not None and count.source is CountSource.REPORTED else None


def _counted(tokens: int | None, source: CountSource) -> Count | None:
    return None if tokens is None else Count(tokens, source)


def _fewest_tokens(text: str) -> int:
    """Return fewer tokens than any tokenizer makes of a text.

    A token spans at most a few words, some 16 characters outside ASCII, or 128 of a repeated one.
    """
    other = 0 if text.isascii() else len(text.encode()) // 3 // 16
    return max(len(text.split()) // 2, len(text) // 128, other)
