"""Drive a long session of Claude Code or Codex behind the gateway, with switches that must happen.

`python tests/clients/session.py claude` (or `codex`) runs it against a scripted engine that keeps a
prompt cache as real ones do, and its own books. The session has a loop of thirty tools, a pause, a
compaction and a sub-agent. Its policy begins on the small model and goes by a check of
`suffice.toml`; the small model fails the check where the script says so, which forces a way up at
the next boundary. It prints one JSON object, and exits with 1 where a model changed off a boundary,
where a kind of boundary saw no change, or where the gateway's bill is not the engine's.
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import gateway_support  # noqa: E402
from catalog import AGENT, CLAUDE, CLIENTS, CODEX, URL  # noqa: E402
from drive import QUIET, run  # noqa: E402
from gateway_support import DONE, Call, Site, chunk, completion, event, site  # noqa: E402
from installed import install  # noqa: E402
from msgspec.structs import replace  # noqa: E402
from scripted import HEAD_WORK, SAY, SHELL, WORD, answer, tool_call  # noqa: E402

from suffice.certify.bundle import Bundle  # noqa: E402
from suffice.certify.bundling import settle  # noqa: E402
from suffice.certify.target import Target  # noqa: E402
from suffice.guarantee import LabelSource, Per  # noqa: E402
from support import checked_trials  # noqa: E402

TURNS, LIFE_S = 30, 6.0
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
CHECK = f'[check.river]\nkind = "regex"\npattern = "{WORD}"\n'
MORE = f'route_by = "session"\ncache_life_s = {LIFE_S}\n{CHECK}'
HIRE = "Let an agent work."
SPAWN, WAIT = "collaboration__spawn_agent", "collaboration__wait_agent"  # of Codex
COMPACTS = ("-c", "model_auto_compact_token_limit=17000")  # after about twenty of these:
LINES = f"seq 400; echo {WORD}"
SUMMARIZE = ("CONTEXT CHECKPOINT COMPACTION", "create a detailed summary of the conversation")


@dataclass(frozen=True)
class Step:
    """A command of the session; with `fails` the small model's answers do not pass the check."""

    command: tuple[str, ...]
    fails: bool = False
    pause: bool = True


@dataclass
class EngineCall:
    """One call as the engine saw it, in a step of the script; `agent` is all that it began with."""

    time_s: float
    step: str
    model: str
    messages: list[str]
    agent: str
    in_tool_loop: bool
    compacts: bool
    prompt_tokens: int
    cached_tokens: int


@dataclass
class CachingEngine:
    """A scripted engine that keeps each model's prompts for a while, and books what it is owed."""

    calls: list[EngineCall] = field(default_factory=list)
    usd: Decimal = Decimal(0)
    output_tokens: int = 25
    step: str = ""
    fails: bool = False
    work_done: int = 0

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
        name, arguments = ("", None) if seen.compacts else self._tool(body)
        if name:
            function = {"name": name, "arguments": json.dumps(arguments)}
            part = {"id": f"call_{len(self.calls)}", "type": "function", "function": function}
            delta: dict[str, Any] = {"tool_calls": [{"index": 0, **part}]}
        else:
            delta = {"content": self._text(body, seen)}
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
        typed = [
            at
            for at, text in enumerate(messages)
            if '"role": "user"' in text and "<environment_context>" not in text
        ]
        seen = EngineCall(
            time_s=now_s,
            step=self.step,
            model=model,
            messages=messages,
            agent="".join(messages[: typed[0] + 1]) if typed else "",
            in_tool_loop=body["messages"][-1]["role"] == "tool",
            compacts=any(words in messages[-1] for words in SUMMARIZE),
            prompt_tokens=sum(map(len, messages)) // 4,
            cached_tokens=warm // 4,
        )
        self.calls.append(seen)
        return seen

    def _text(self, body: dict[str, Any], seen: EngineCall) -> str:
        if self.fails and seen.model == "small-model":
            return f"{HEAD_WORK} Half is done." if seen.compacts else "It is not known."
        return answer(body)[-80:]  # as long as the 25 tokens it is booked for

    def _tool(self, body: dict[str, Any]) -> tuple[str, Any]:
        """Call the shell again and again where a long piece of work is wanted."""
        tools = {tool["function"]["name"] for tool in body.get("tools") or ()}
        texts = [json.dumps(message.get("content")) for message in body["messages"]]
        if HEAD_WORK in "".join(texts) and self.work_done < TURNS:
            for shell, words in (("Bash", SHELL), ("exec_command", {"cmd": LINES})):
                if shell in tools:
                    self.work_done += 1
                    return shell, words
        if SPAWN in tools and HIRE in texts[-1]:
            return SPAWN, {"task_name": "work", "message": HEAD_WORK, "fork_turns": "none"}
        if WAIT in tools and "/root/work" in texts[-1] and body["messages"][-1]["role"] == "tool":
            return WAIT, {"timeout_ms": 60_000}
        return tool_call(body)


def _shared(messages: list[str], before: list[str]) -> int:
    characters = 0
    for one, other in zip(messages, before, strict=False):
        if one != other:
            break
        characters += len(one)
    return characters


def goes_by_check() -> Bundle:
    """Certify a policy that begins on the small model, and moves up once its check fails."""
    target = Target(reference="big", label_source=LabelSource.TARGET, alpha=0.05, per=Per.SESSION)
    trials = [replace(trial, cluster=trial.request_id) for trial in checked_trials()]
    bundle = settle(trials, target, say=lambda _stage: None).bundle
    assert bundle is not None
    return bundle


def switches(calls: list[EngineCall]) -> tuple[Counter[str], list[str]]:
    """Count changes of the model by the boundary at which they were; list those at none.

    An agent that is new follows the one that was compacted last, or else is a sub-agent.
    """
    last: dict[str, EngineCall] = {}
    at_boundary: Counter[str] = Counter()
    faults = []
    for position, call in enumerate(calls):
        before = last.get(call.agent)
        paused = before is not None and call.time_s - before.time_s > LIFE_S
        boundary = "pause" if paused else ""
        if before is None and position:
            before = calls[position - 1]
            boundary = "compaction" if before.compacts else "sub-agent"
        if before is not None and before.model != call.model:
            at_boundary[boundary] += 1
            if call.in_tool_loop or not boundary:
                faults.append(f"{before.model} to {call.model} at call {position} ({call.step})")
        last[call.agent] = call
    return at_boundary, faults


def script(name: str) -> list[Step]:
    """Return the commands of a client's session."""
    if name == "claude":
        again = (*CLAUDE, SAY, "--continue")
        return [
            Step((*CLAUDE, f"{HEAD_WORK} {SAY}"), fails=True),
            Step(again),  # moves up after the pause
            Step((*CLAUDE, "/compact", "--continue"), pause=False),
            Step(again, fails=True),  # begins anew after the compaction
            Step(again),  # moves up after the pause
            Step((*CLAUDE, AGENT, "--continue")),  # the agent begins on the small model
        ]
    first = (*CODEX, "--model", "suffice", "--enable", "multi_agent_v2", *COMPACTS)
    resume = (*first, "resume", "--last")
    return [
        Step((*first, SAY), fails=True),
        Step((*resume, SAY), pause=False),  # moves up after the pause
        Step((*resume, HIRE), fails=True),  # the agent begins below, and moves up when compacted
        Step((*resume, SAY)),
    ]


async def session(name: str, here: Site, engine: CachingEngine) -> str:
    """Run the commands of one session; returns what went wrong."""
    client = next(one for one in CLIENTS if one.name.lower().startswith(name))
    installed = install(client.packages, npm=client.npm, setup=client.setup)
    home = here.folder / "home"
    home.mkdir()
    env = {"PATH": os.environ["PATH"], "HOME": str(home), **QUIET}
    env |= client.settings(home, here.url)
    for position, step in enumerate(script(name)):
        engine.step, engine.fails = f"step {position + 1}", step.fails
        filled = tuple(word.replace(URL, here.url) for word in step.command)
        problem = await run(installed.command(filled), env, here, needed="")
        if problem:
            return f"{engine.step}: {problem}"
        await asyncio.sleep(LIFE_S + 1 if step.pause else 0)
    return ""


async def main(name: str) -> int:
    os.environ["STUB_KEY"] = "sk-upstream"
    engine = CachingEngine()
    with tempfile.TemporaryDirectory() as folder:
        parts = {"ladder": LADDER, "more": MORE, "bundle": goes_by_check()}
        async with site(Path(folder), dialect="vllm", **parts) as here:
            here.upstream.script = engine
            problem = await session(name, here, engine)
            rows = here.rows()
    at_boundary, faults = switches(engine.calls)
    booked = sum(row["call_picousd"] or 0 for row in rows)
    figures = {
        "client": name,
        "calls": len(engine.calls),
        "tools": engine.work_done,
        "sessions": len({row["session_id"] for row in rows}),
        "agents": len({row["conversation_id"] for row in rows}),
        "by_model": {m: sum(c.model == m for c in engine.calls) for m in USD_PER_MTOK},
        "switches": at_boundary,
        "off_boundary": faults,
        "cached_share": sum(c.cached_tokens for c in engine.calls)
        / max(1, sum(c.prompt_tokens for c in engine.calls)),
        "engine_usd": str(engine.usd),
        "booked_usd": str(Decimal(booked) / 10**12),
        "problem": problem,
    }
    print(json.dumps(figures, indent=2))
    right = engine.usd * 10**12 == booked and engine.work_done >= TURNS
    seen = {"pause", "compaction", "sub-agent"} <= set(at_boundary)
    return int(bool(problem or faults) or not right or not seen)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if sys.argv[1:] else "claude")))
