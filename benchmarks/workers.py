"""Work of benchmarks that is spread over processes, and their figures as JSON."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from msgspec import Struct

T = TypeVar("T")
WORKERS = 2


def spread(
    work: Callable[..., T],
    jobs: Sequence[tuple[Any, ...]],
    *,
    start: Callable[..., None] | None = None,
    inputs: tuple[Any, ...] = (),
) -> Iterator[T]:
    """Yield what `work` makes of the arguments of each job, in order.

    Two fresh processes work with one thread each: more threads only wait for each other. `start`
    is called with `inputs` once in each process.
    """
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with ProcessPoolExecutor(
        WORKERS, mp_context=get_context("spawn"), initializer=start, initargs=inputs
    ) as workers:
        yield from workers.map(work, *zip(*jobs, strict=True))


def rounded(figures: Struct) -> dict[str, Any]:
    """Return figures by name, numbers with four decimals."""
    values = {name: getattr(figures, name) for name in figures.__struct_fields__}
    return {name: round(v, 4) if isinstance(v, float) else v for name, v in values.items()}
