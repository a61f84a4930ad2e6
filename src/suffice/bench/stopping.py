"""Learn rules that end the reasoning of a rung early, from tasks."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from suffice.bench.sources import load_tasks
from suffice.bench.traces import Recording, record_traces, trace_label_source
from suffice.config import Config, load_config
from suffice.deployment import opened
from suffice.early_stop.engine import check_stopping
from suffice.early_stop.learn import LearnedStop, StopTarget, learn_stop
from suffice.early_stop.rule import ReasoningTags, Trace
from suffice.ladder import build_ladder, single_rung
from suffice.meter import price_for
from suffice.types import Say


class StopOrder(Struct, frozen=True, kw_only=True):
    """The tasks to record, the promise to certify, and the file that keeps the traces."""

    tasks: str
    ladder: Path
    rung: str
    tags: ReasoningTags
    alpha: float
    delta: float
    lapses_after_s: float
    seed: int = 0
    traces: Path | None = None


def learn_from_tasks(order: StopOrder, *, say: Say) -> LearnedStop:
    """Record the rung uncut on every task, and certify rules on the traces.

    Raises InputError, ConfigError, PriceError or an EngineError; see `record_traces` and
    `learn_stop`.
    """
    config = load_config(order.ladder)
    rung = replace(build_ladder(config).rung(order.rung), early_stop=None)
    check_stopping(rung)
    price = None if rung.price is None else price_for(rung.price, config.price[rung.price])
    tasks = load_tasks(order.tasks)
    label_source = trace_label_source(tasks)
    say(f"recording {len(tasks):,} traces of {rung.name}")
    recording = Recording(
        tasks=tasks,
        rung=rung,
        tags=order.tags,
        parallel=config.engine[rung.engine].parallel,
        path=order.traces,
    )
    traces = asyncio.run(_record(single_rung(config, rung), recording, say=say))
    say("choosing rules")
    return learn_stop(
        traces,
        StopTarget(
            rung=rung,
            tags=order.tags,
            alpha=order.alpha,
            delta=order.delta,
            lapses_after_s=order.lapses_after_s,
            label_source=label_source,
            price=price,
            seed=order.seed,
        ),
    )


async def _record(config: Config, recording: Recording, *, say: Say) -> tuple[Trace, ...]:
    async with AsyncExitStack() as stack:
        engines = await opened(stack, config)
        return await record_traces(recording, engines[recording.rung.engine], say=say)
