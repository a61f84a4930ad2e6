"""How long a ledger of millions of rows takes to read, in seconds, and with how much memory.

A year of invented traffic is written into SQLite and into a PostgreSQL of the benchmark's own, and
summed up by the hour. Then each of these runs in a process of its own:
- `dashboard`: reading all that the page of the last seven days shows;
- `labelled`: reading what `suffice recertify` learns from, the audited requests with their text;
- `spenders`: reading what `suffice report --by key` shows of the last thirty days;
- `guard`, `guard_again`: taking in the audits of a certificate, as a worker does at its start: all
  of them, and those after the checkpoint;
- `report`, `report_json`: `suffice report LEDGER`, all time, as a page and as values;
- `start`: `suffice serve` until it is ready; `revoke`: from `suffice key revoke` until a 401;
- `prune`: deleting the first week of the year.
`s` are seconds on the clock, `processor_s` those of the processor, of a whole process in `report`
and `start`. `reservations` are requests of keys with limits that four processes let in and settle
a second: all of one key, each of its own, and of one key with twenty in a transaction.
Modules are compiled before, as an installation does.

python -m benchmarks.ledger --rows 10000000 --json [--only sqlite]
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from benchmarks.gateway.postgres import database
from benchmarks.gateway.processes import Command, free_port, python, running, two_cores
from benchmarks.inputs import benchmark_parser
from benchmarks.ledger.fill import fill
from benchmarks.ledger.readings import READINGS, timed_reading
from benchmarks.ledger.reservations import reservations_per_s
from suffice.gateway.keys import KeyLimits, add_key, revoke_key
from suffice.ledger import Ledger
from suffice.ledger.rollups import advance

_TOML = """reference = "big"
[engine.none]
kind = "openai"
url = "http://127.0.0.1:9/v1"
[[ladder]]
name = "small"
engine = "none"
model = "small"
vector = "architecture"
[[ladder]]
name = "big"
engine = "none"
model = "big"
vector = "none"
[gateway]
ledger = "{ledger}"
keys = "{keys}"
"""
_MODULES = (
    "import suffice.cli.serve, suffice.cli.report, suffice.gateway.server, suffice.report.build"
)


class Cost(Struct, frozen=True, kw_only=True):
    """What a step took: seconds on the clock, of the processor, and its process's most memory."""

    seconds: float
    processor_s: float | None = None
    peak_mb: float | None = None


def main() -> None:
    """Print the figures of each database as one JSON object."""
    options = _options()
    if options.reading is not None:
        print(*timed_reading(options.reading, options.ledger))
        return
    figures: dict[str, object] = {"rows": options.rows}
    with TemporaryDirectory(prefix="suffice-ledger-", dir=options.folder) as name:
        folder = Path(name)
        bytecode = {"PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
        os.environ |= bytecode
        subprocess.run(python("-c", f"import {__package__}.readings; {_MODULES}"), check=True)
        if options.only != "postgresql":
            figures["sqlite"] = _measured(str(folder / "books.db"), folder, rows=options.rows)
        if options.only != "sqlite":
            with database() as server:
                if server is not None:
                    figures["postgresql"] = _measured(server.url, folder, rows=options.rows)
    print(json.dumps(figures, indent=None if options.json else 2))


def _options() -> argparse.Namespace:
    parser = benchmark_parser(__package__, __doc__, data=False)
    parser.add_argument("--rows", type=int, default=1_000_000, help="requests in the ledger")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one database alone")
    parser.add_argument("--folder", type=Path, help="where the databases lie for the while")
    parser.add_argument("--reading", choices=tuple(READINGS), help=argparse.SUPPRESS)
    parser.add_argument("--ledger", help=argparse.SUPPRESS)
    return parser.parse_args()


def _measured(ledger: str, folder: Path, *, rows: int) -> dict[str, object]:
    costs: dict[str, Cost] = {}
    with Ledger.open(ledger) as books:
        costs["fill"] = _of(lambda: fill(books, rows=rows, ends_us=time.time_ns() // 1000))
        costs["rollup"] = _of(lambda: _sum_up(books))
    page, report = str(folder / "report.html"), ("-m", "suffice", "report", ledger)
    costs["report"] = _timed(python(*report, "--out", page))
    costs["report_json"] = _timed(python(*report, "--json"))
    costs |= _served(ledger, folder)
    for name in READINGS:
        command = ("-m", __package__ or "", "--reading", name, "--ledger", ledger)
        costs[name] = _timed(python(*command))
    figures: dict[str, object] = {name: _figures(cost) for name, cost in costs.items()}
    figures["reservations"] = reservations_per_s(ledger, folder)
    print(json.dumps(figures), file=sys.stderr)
    return figures


def _of(step: Callable[[], None]) -> Cost:
    began_s, processor_s = time.perf_counter(), time.process_time()
    step()
    return Cost(
        seconds=time.perf_counter() - began_s, processor_s=time.process_time() - processor_s
    )


def _sum_up(books: Ledger) -> None:
    while not advance(books):
        time.sleep(0.1)


def _figures(cost: Cost) -> Mapping[str, float]:
    figures = {"s": cost.seconds, "processor_s": cost.processor_s, "mb": cost.peak_mb}
    return {name: round(figure, 2) for name, figure in figures.items() if figure is not None}


def _timed(command: tuple[str, ...]) -> Cost:
    """Run a command; the seconds are those that a reading prints, or else of the whole run."""
    began_s = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        print(f"failed: {' '.join(command)}", file=sys.stderr)
        raise SystemExit(1)
    seconds, processor_s = time.perf_counter() - began_s, usage.ru_utime + usage.ru_stime
    if "--reading" in command:
        seconds, processor_s = map(float, printed.split())
    return Cost(seconds=seconds, processor_s=processor_s, peak_mb=usage.ru_maxrss / 1024)


def _served(ledger: str, folder: Path) -> dict[str, Cost]:
    """Start a gateway on the ledger, and take a key away from it."""
    keys, port = folder / "keys.json", free_port()
    keys.unlink(missing_ok=True)
    secret = add_key(keys, "key-1", limits=KeyLimits(requests_per_minute=1000))
    toml = folder / "suffice.toml"
    toml.write_text(_TOML.format(ledger=ledger, keys=keys))
    command = Command(
        name="suffice",
        arguments=python("-m", "suffice", "serve", "--ladder", str(toml), "--port", str(port)),
        port=port,
        ready="/readyz",
        folder=folder,
    )
    began_s = time.perf_counter()
    with running(command, core=two_cores().proxy) as server:
        seconds = time.perf_counter() - began_s
        costs = {"start": Cost(seconds=seconds, processor_s=server.processor_s)}
        assert _status(port, secret) == http.HTTPStatus.OK
        began_s = time.perf_counter()
        revoke_key(keys, "key-1")
        while _status(port, secret) == http.HTTPStatus.OK:
            time.sleep(0.02)
        costs["revoke"] = Cost(seconds=time.perf_counter() - began_s)
        costs["idle"] = Cost(seconds=0.0, peak_mb=server.resident_bytes / 1e6)
    return costs


def _status(port: int, secret: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/v1/models", headers={"authorization": f"Bearer {secret}"})
    return connection.getresponse().status


if __name__ == "__main__":
    main()
