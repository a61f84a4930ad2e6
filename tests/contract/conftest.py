"""Opens every engine once for the whole suite."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from engine_cases import ENGINES, MAKERS, Case, NotHere

Cases = dict[str, Case | NotHere]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cases() -> AsyncIterator[Cases]:
    cases: Cases = {}
    async with AsyncExitStack() as stack:
        for name, make in MAKERS.items():
            try:
                cases[name] = await stack.enter_async_context(make(name))
            except NotHere as reason:
                cases[name] = reason
        yield cases


@pytest_asyncio.fixture(params=ENGINES, loop_scope="session")
async def case(request: pytest.FixtureRequest, cases: Cases) -> Case:
    case = cases[request.param]
    if isinstance(case, NotHere):
        pytest.skip(str(case))
    return case
