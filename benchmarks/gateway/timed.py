"""`suffice serve`, with a clock around every decision, to tell its percentiles exactly.

A decision is all that happens between a request that was read and the first call upstream: may the
policy choose, and what does it choose. The seconds are written when the worker stops.
DECISIONS=FILE python -m benchmarks.gateway.timed serve --ladder suffice.toml --certificate FOLDER
"""

import json
import os
import time
from pathlib import Path

from suffice.cli.main import main as suffice
from suffice.gateway import chat
from suffice.gateway.worker import Worker


def main() -> None:
    """Run the command line of suffice, and write down how long its decisions took."""
    taken_s: list[float] = []
    start, close = vars(chat)["start_climb"], Worker.close

    def timed(*request, **parts):  # type: ignore[no-untyped-def]
        began_s = time.perf_counter()
        climb = start(*request, **parts)
        taken_s.append(time.perf_counter() - began_s)
        return climb

    async def closed(worker: Worker) -> None:
        await close(worker)
        Path(os.environ["DECISIONS"]).write_text(json.dumps(taken_s), "utf-8")

    vars(chat)["start_climb"] = timed
    Worker.close = closed  # type: ignore[method-assign,assignment]
    suffice()


if __name__ == "__main__":
    main()
