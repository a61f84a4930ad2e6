"""The operator's own acceptance tests of an answer: `[check.NAME]`, run and never trusted.

A check says that an answer passed, that it failed, or nothing. One that hangs, breaks, floods its
output, replies with nonsense or is missing says nothing, which counts as not passed.
"""

import asyncio
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from suffice.config import CheckConfig
from suffice.ledger import Attempt, Role
from suffice.scoring.check_child import ChildQuestion, ChildTask
from suffice.scoring.material import MATERIAL, tagged
from suffice.scoring.sandbox import end, start
from suffice.scoring.scorers import ScorerVerdict
from suffice.types import NO_TOKENS, Charge, Completion, Request, Rung, Usage

if TYPE_CHECKING:
    import aiohttp

REPLY_BYTES = 64 * 1024  # of a hook, and of a line of a child
_LAST_EXIT = 125  # statuses above say that a program was not there, or was killed
_VERDICT = re.compile(r"verdict\**\s*[:=][\s*`]*(pass|fail)\b", re.I)
_WITHOUT_CHARGE = Charge(usd=None)

JudgeCall = Callable[[Request, Rung], Awaitable[tuple[Completion, Charge]]]


class CheckVerdict(Struct, frozen=True, kw_only=True):
    """What one check said: `passed` is None where it said nothing, and `reason` then says why.

    `charge` is what it cost; `usage` are the tokens of its judge.
    """

    name: str
    passed: bool | None
    reason: str | None = None
    duration_s: float = 0.0
    charge: Charge = _WITHOUT_CHARGE
    usage: Usage = NO_TOKENS

    def attempt(self, at: datetime) -> Attempt:
        """Return the books' line of a check; its rung is the check's name, after `check:`."""
        return Attempt(
            rung=f"check:{self.name}",
            role=Role.CHECK,
            charge=self.charge,
            time=at,
            usage=self.usage,
            duration_s=self.duration_s,
            check=self.passed,
            error=self.reason,
        )


class CheckedAnswer(Struct, frozen=True, kw_only=True):
    """The verdicts on one answer: it `passed` if every check says so, and failed if any does."""

    verdicts: tuple[CheckVerdict, ...]

    @property
    def passed(self) -> bool | None:
        """Whether the answer passed; None if no check failed it and one said nothing."""
        said = [verdict.passed for verdict in self.verdicts]
        return False if False in said else None if None in said else True


class Check(Protocol):
    """One way to check; raises whatever went wrong, and is cancelled where it takes too long."""

    async def look(self, request: Request, answer: str) -> CheckVerdict:
        """Check an answer; the caller fills in the time and the charge of the configuration."""
        ...

    async def close(self) -> None:
        """Give back processes and connections."""
        ...


class Checks:
    """All checks of a configuration; `below` are the rungs that a check looks at by default."""

    def __init__(
        self,
        configs: Mapping[str, CheckConfig],
        *,
        below: tuple[str, ...],
        judges: Mapping[str, Rung] | None = None,
        call: JudgeCall | None = None,
    ) -> None:
        self._configs = dict(configs)
        self._rungs = {name: config.rungs or below for name, config in configs.items()}
        self._checks = {
            name: _made(name, config, judges=judges or {}, call=call)
            for name, config in configs.items()
        }

    def covers(self, rung: str) -> bool:
        """Whether any check looks at the answers of a rung."""
        return any(rung in rungs for rungs in self._rungs.values())

    async def look(self, request: Request, rung: str, answer: str) -> CheckedAnswer:
        """Have all checks of a rung look at an answer, side by side."""
        names = [name for name, rungs in self._rungs.items() if rung in rungs]
        verdicts = await asyncio.gather(*(self._one(name, request, answer) for name in names))
        return CheckedAnswer(verdicts=tuple(verdicts))

    async def close(self) -> None:
        """Give back processes and connections."""
        for check in self._checks.values():
            await check.close()

    async def _one(self, name: str, request: Request, answer: str) -> CheckVerdict:
        config, began_s = self._configs[name], time.perf_counter()
        try:
            async with asyncio.timeout(config.timeout_s):
                verdict = await self._checks[name].look(request, answer)
        except TimeoutError:
            verdict = _silent(name, f"no verdict within {config.timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - whatever a check does, the answer goes up
            verdict = _silent(name, type(error).__name__)  # its words may repeat the answer
        verdict = replace(verdict, duration_s=time.perf_counter() - began_s)
        if config.judge is None:
            return replace(verdict, charge=Charge(usd=config.usd))
        return replace(verdict, usage=Usage()) if verdict.charge.usd is None else verdict


def _made(
    name: str, config: CheckConfig, *, judges: Mapping[str, Rung], call: JudgeCall | None
) -> Check:
    match config.kind:
        case "regex":
            return _ChildCheck(name, config, ChildTask(scorer="regex", target=config.pattern))
        case "json_schema":
            return _ChildCheck(name, config, ChildTask(scorer="json_schema", target=config.schema))
        case "python":
            return _ChildCheck(name, config, ChildTask(scorer=config.function or ""))
        case "command":
            return _CommandCheck(name, config)
        case "http":
            return _HookCheck(name, config)
        case "judge":
            assert call is not None
            judge = judges[config.judge or ""]
            return _JudgeCheck(name, config, lambda request: call(request, judge))


def _silent(name: str, reason: str) -> CheckVerdict:
    return CheckVerdict(name=name, passed=None, reason=reason)


class _ChildCheck:
    """Asks a process that is kept between answers, one answer at a time."""

    def __init__(self, name: str, config: CheckConfig, task: ChildTask) -> None:
        self._name, self._config, self._task = name, config, task
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def look(self, request: Request, answer: str) -> CheckVerdict:
        options: dict[str, Any] = {}
        if self._config.kind == "python":
            options = {"request_id": request.request_id, "messages": request.messages}
        async with self._turn:
            try:
                return self._read(await self._ask(ChildQuestion(answer=answer, options=options)))
            except BaseException:
                await self._stop()
                raise

    async def close(self) -> None:
        await self._stop()

    async def _ask(self, question: ChildQuestion) -> bytes:
        child = self._child
        if child is None:
            child = self._child = await start(
                (sys.executable, "-m", "suffice.scoring.check_child"),
                folder=None,
                memory_bytes=self._config.memory_bytes,
                network=self._config.network,
                reads=True,
            )
            assert child.stdin is not None
            child.stdin.write(msgspec.json.encode(self._task) + b"\n")
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(msgspec.json.encode(question) + b"\n")
        await child.stdin.drain()
        return await child.stdout.readline()

    def _read(self, line: bytes) -> CheckVerdict:
        if not line:
            raise ChildProcessError("the check's process ended")
        verdict = msgspec.json.decode(line, type=ScorerVerdict)
        if verdict.quality not in (0.0, 1.0):
            return _silent(self._name, "it said neither true nor false")
        return CheckVerdict(name=self._name, passed=verdict.quality == 1.0)

    async def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await end(child)


class _CommandCheck:
    """Runs a command on a copy of a folder; exit status 0 passes, up to 125 fails."""

    def __init__(self, name: str, config: CheckConfig) -> None:
        self._name, self._config = name, config

    async def look(self, request: Request, answer: str) -> CheckVerdict:
        folder = Path(await asyncio.to_thread(self._lay_out, request, answer))
        process = None
        try:
            process = await start(
                self._config.command,
                folder=folder / "work",
                memory_bytes=self._config.memory_bytes,
                network=self._config.network,
            )
            assert process.stdin is not None
            with suppress(ConnectionError):  # it need not read its input
                process.stdin.write(answer.encode("utf-8", "replace"))
                await process.stdin.drain()
            process.stdin.close()
            status = await process.wait()
        finally:
            if process is not None:
                await end(process)
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if not 0 <= status <= _LAST_EXIT:
            return _silent(self._name, f"the command ended with status {status}")
        return CheckVerdict(name=self._name, passed=status == 0)

    async def close(self) -> None:
        """There is nothing to close between two answers."""

    def _lay_out(self, request: Request, answer: str) -> str:
        folder = tempfile.mkdtemp(prefix="suffice-check-")
        work = Path(folder, "work")
        if self._config.folder is None:
            work.mkdir()
        else:
            shutil.copytree(self._config.folder, work, symlinks=True)
        Path(folder, "answer.txt").write_text(answer, "utf-8", errors="replace")
        fields = {"request_id": request.request_id, "messages": request.messages}
        Path(folder, "request.json").write_bytes(msgspec.json.encode(fields))
        return folder


class _HookCheck:
    """Posts the answer to a URL, which replies `{"passed": true}` or false."""

    def __init__(self, name: str, config: CheckConfig) -> None:
        self._name, self._config = name, config
        self._http: aiohttp.ClientSession | None = None

    async def look(self, request: Request, answer: str) -> CheckVerdict:
        if self._http is None:
            import aiohttp  # half a second, which certifying need not wait for

            self._http = aiohttp.ClientSession()
        body = msgspec.json.encode(
            {
                "check": self._name,
                "request_id": request.request_id,
                "messages": request.messages,
                "answer": answer,
            }
        )
        async with self._http.post(
            self._config.url or "",
            data=body,
            headers={"content-type": "application/json"},
            allow_redirects=False,
        ) as reply:
            content = await reply.content.read(REPLY_BYTES)
            if reply.status != 200:
                return _silent(self._name, f"the hook replied with status {reply.status}")
        verdict = msgspec.json.decode(content)
        passed = verdict.get("passed") if isinstance(verdict, dict) else None
        if not isinstance(passed, bool):
            return _silent(self._name, "the hook's reply has no `passed` of true or false")
        return CheckVerdict(name=self._name, passed=passed)

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.close()


class _JudgeCheck:
    """Asks a rung whether the answer is acceptable."""

    def __init__(
        self,
        name: str,
        config: CheckConfig,
        call: Callable[[Request], Awaitable[tuple[Completion, Charge]]],
    ) -> None:
        self._name, self._config, self._call = name, config, call

    async def look(self, request: Request, answer: str) -> CheckVerdict:
        parts = {"request": request.text, "rubric": self._config.rubric, "answer": answer}
        end_mark = "Reason briefly. End with the line `Verdict: pass` or `Verdict: fail`."
        question = Request(
            request_id=f"{request.request_id}#check",
            messages=(
                {"role": "user", "content": "\n\n".join([MATERIAL, *tagged(parts), end_mark])},
            ),
        )
        completion, charged = await self._call(question)
        said = _VERDICT.findall(completion.text)
        return CheckVerdict(
            name=self._name,
            passed=said[-1].lower() == "pass" if said else None,
            reason=None if said else "the judge's reply has no verdict",
            charge=charged,
            usage=completion.usage,
        )

    async def close(self) -> None:
        """Engines are closed by whoever opened them."""
