"""Drive one long session of Claude Code behind the gateway: tools, a pause, a compaction, an agent.

`python tests/clients/session.py` runs it against a scripted engine that keeps a prompt cache as
real ones do, and its own books. It prints one JSON object and exits with 1 where a model changed
off a boundary, or where the gateway's bill is not the engine's. With `codex` it drives Codex, which
has no sub-agents and no compaction on command.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import gateway_support  # noqa: E402
from catalog import CLIENTS, CODEX, URL  # noqa: E402
from drive import QUIET, run  # noqa: E402
from gateway_support import DONE, Call, Site, chunk, completion, event, site  # noqa: E402
from installed import install  # noqa: E402
from msgspec.structs import replace  # noqa: E402
from scripted import HEAD_WORK, SHELL, WORD, answer, tool_call  # noqa: E402

from suffice.certify.bundle import Bundle  # noqa: E402
from suffice.guarantee.clusters import Per  # noqa: E402
from support import make_trials, settle_trials  # noqa: E402

TURNS, LIFE_S, KEPT_AFTER_COMPACTION = 30, 6.0, 0.6
USD_PER_MTOK = {  # input, read from the cache, output
    "big-model": (Decimal(5), Decimal("0.5"), Decimal(25)),
    "small-model": (Decimal(1), Decimal("0.1"), Decimal(5)),
}
LADDER = gateway_support.LADDER.replace(
    "[price.flat]\ninput_usd_per_mtok = 1\noutput_usd_per_mtok = 1\n",
    "".join(
        f"[price.{name}]\ninput_usd_per_mtok = {new}\ncache_read_usd_per_mtok = {read}\n"
        f"output_usd_per_mtok = {out}\n"
        for name, (new, read, out) in USD_PER_MTOK.items()
    ),
)
for model in USD_PER_MTOK:
    LADDER = LADDER.replace(
        f'model = "{model}"\nprice = "flat"', f'model = "{model}"\nprice = "{model}"'
    )
MORE = f'route_by = "session"\ncache_life_s = {LIFE_S}\n'
PERMITTED = ("claude", "--model", "suffice", "--allowedTools", "Bash,Read,Task,Agent", "-p")


@dataclass
class EngineCall:
    """One call as the engine saw it."""

    time_s: float
    model: str
    messages: list[str]
    in_tool_loop: bool
    prompt_tokens: int
    cached_tokens: int


@dataclass
class CachingEngine:
    """A scripted engine that keeps each model's prompts for a while, and books what it is owed."""

    calls: list[EngineCall] = field(default_factory=list)
    usd: Decimal = Decimal(0)
    output_tokens: int = 25

    async def __call__(self, call: Call) -> None:
        body = call.body
        seen = self._noted(body)
        new, read, out = USD_PER_MTOK[seen.model]
        fresh = seen.prompt_tokens - seen.cached_tokens
        self.usd += (fresh * new + seen.cached_tokens * read + self.output_tokens * out) / 10**6
        usage = {
            "prompt_tokens": seen.prompt_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": seen.prompt_tokens + self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": seen.cached_tokens},
        }
        name, arguments = self._tool(body)
        if name:
            function = {"name": name, "arguments": json.dumps(arguments)}
            part = {"id": f"call_{len(self.calls)}", "type": "function", "function": function}
            delta: dict[str, Any] = {"tool_calls": [{"index": 0, **part}]}
        else:
            delta = {"content": answer(body)}
        if not body.get("stream"):
            whole = completion(delta.get("content", ""), usage=usage)
            if name:
                whole["choices"][0] |= {"finish_reason": "tool_calls"}
                whole["choices"][0]["message"]["tool_calls"] = [part]
            await call.reply(whole)
            return
        await call.events()
        finish = "tool_calls" if name else "stop"
        await call.write(chunk(role="assistant", **delta) + chunk(finish=finish))
        await call.write(event({**gateway_support.HEAD, "choices": [], "usage": usage}) + DONE)

    def _noted(self, body: dict[str, Any]) -> EngineCall:
        messages = [json.dumps(message, sort_keys=True) for message in body["messages"]]
        now_s, model = time.monotonic(), body["model"]
        warm = max(
            (
                _shared(messages, before.messages)
                for before in self.calls
                if before.model == model and now_s - before.time_s <= LIFE_S
            ),
            default=0,
        )
        seen = EngineCall(
            time_s=now_s,
            model=model,
            messages=messages,
            in_tool_loop=body["messages"][-1]["role"] == "tool",
            prompt_tokens=sum(map(len, messages)) // 4,
            cached_tokens=warm // 4,
        )
        self.calls.append(seen)
        return seen

    def _tool(self, body: dict[str, Any]) -> tuple[str, Any]:
        """Call the shell again and again where a long piece of work was asked for."""
        name, arguments = tool_call(body)
        texts = [json.dumps(message.get("content")) for message in body["messages"]]
        asked = max((at for at, text in enumerate(texts) if HEAD_WORK in text), default=-1)
        steps = sum(message["role"] == "tool" for message in body["messages"][asked + 1 :])
        tools = {tool["function"]["name"] for tool in body.get("tools") or ()}
        if name or asked < 0 or steps >= TURNS:
            return name, arguments
        for shell, words in (("Bash", SHELL), ("exec_command", {"cmd": f"echo {WORD}"})):
            if shell in tools:
                return shell, words
        return "", None


def _shared(messages: list[str], before: list[str]) -> int:
    characters = 0
    for one, other in zip(messages, before, strict=False):
        if one != other:
            break
        characters += len(one)
    return characters


def half_small() -> Bundle:
    """Return a policy that wishes for the small model at random, so that wishes change."""
    rows = make_trials(requests=400)
    trials = [
        replace(t, quality=float(t.rung == "big" or i % 10 > 0), answer="4", group=None, text="")
        for i, t in enumerate(rows)
    ]
    bundle = settle_trials(trials, alpha=0.1, per=Per.SESSION).bundle
    assert bundle is not None
    assert 0.3 < bundle.policy.part < 0.7, bundle.policy.part
    return bundle


def switches(calls: list[EngineCall]) -> tuple[int, list[str]]:
    """Count changes of the model within an agent, and say which were off a boundary."""
    last: dict[str, EngineCall] = {}
    count, faults = 0, []
    for call in calls:
        users = [at for at, text in enumerate(call.messages) if '"role": "user"' in text]
        agent = "".join(call.messages[: users[0] + 1]) if users else ""
        before = last.get(agent)
        if before is not None and before.model != call.model:
            count += 1
            paused = call.time_s - before.time_s > LIFE_S - 1
            shrunk = call.prompt_tokens < KEPT_AFTER_COMPACTION * before.prompt_tokens
            if call.in_tool_loop or not (paused or shrunk):
                faults.append(f"{before.model} to {call.model} at call {calls.index(call)}")
        last[agent] = call
    return count, faults


async def session(name: str, here: Site, engine: CachingEngine) -> str:
    """Run the commands of one session; returns what went wrong."""
    client = next(one for one in CLIENTS if one.name.lower().startswith(name))
    installed = install(client.packages, npm=client.npm, setup=client.setup)
    home = here.folder / "home"
    home.mkdir()
    env = {"PATH": os.environ["PATH"], "HOME": str(home), **QUIET}
    env |= client.settings(home, here.url)
    work, again = f"{HEAD_WORK} Say the river.", "Say the river."
    if name == "claude":
        commands = [
            (*PERMITTED, work),
            (*PERMITTED, again, "--continue"),
            (*PERMITTED, again, "--continue"),
            (*PERMITTED, "/compact", "--continue"),
            (*PERMITTED, again, "--continue"),
            (*PERMITTED, "Let an agent name the river.", "--continue"),
        ]
    else:
        resume = (*CODEX, "--model", "suffice", "resume", "--last")
        commands = [(*CODEX, "--model", "suffice", work), *[(*resume, again)] * 3]
    for words in commands:
        filled = tuple(word.replace(URL, here.url) for word in words)
        problem = await run(installed.command(filled), env, here, needed="")
        if problem:
            return f"{words[-2:]}: {problem}"
        await asyncio.sleep(LIFE_S + 1)  # the forced pause
    return ""


async def main(name: str) -> int:
    os.environ["STUB_KEY"] = "sk-upstream"
    gateway_support.LADDER = LADDER
    engine = CachingEngine()
    with tempfile.TemporaryDirectory() as folder:
        async with site(Path(folder), dialect="vllm", more=MORE, bundle=half_small()) as here:
            here.upstream.script = engine
            problem = await session(name, here, engine)
            rows = here.rows()
    count, faults = switches(engine.calls)
    booked = sum(row["call_picousd"] or 0 for row in rows)
    figures = {
        "client": name,
        "calls": len(engine.calls),
        "sessions": len({row["session_id"] for row in rows}),
        "agents": len({row["conversation_id"] for row in rows}),
        "by_model": {m: sum(c.model == m for c in engine.calls) for m in USD_PER_MTOK},
        "switches": count,
        "off_boundary": faults,
        "cached_share": sum(c.cached_tokens for c in engine.calls)
        / max(1, sum(c.prompt_tokens for c in engine.calls)),
        "engine_usd": str(engine.usd),
        "booked_usd": str(Decimal(booked) / 10**12),
        "problem": problem,
    }
    print(json.dumps(figures, indent=2))
    right = engine.usd * 10**12 == booked
    return int(bool(problem or faults or not right or len(engine.calls) < TURNS))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if sys.argv[1:] else "claude")))
