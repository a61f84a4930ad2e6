"""How long a ledger of millions of rows takes to read, in seconds, and with how much memory.

A year of invented traffic is written into SQLite and into a PostgreSQL of the benchmark's own, and
summed up by the hour. Then each of these runs in a process of its own, whose beginning counts for
`report` and `start`:
- `dashboard`: reading all that the page of the last seven days shows;
- `report`: `suffice report LEDGER`, all time;
- `labelled`: reading what `suffice recertify` learns from, the audited requests with their text;
- `guard`: reading the audits of a certificate, as a worker does at its start;
- `start`: `suffice serve` until it is ready; `revoke`: from `suffice key revoke` until a 401.

python -m benchmarks.ledger --rows 10000000 --json [--only sqlite]
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from benchmarks.gateway.postgres import database
from benchmarks.gateway.processes import Command, free_port, python, running, two_cores
from benchmarks.inputs import benchmark_parser
from benchmarks.ledger.fill import fill
from suffice.gateway.dashboard.snapshot import snapshot
from suffice.gateway.keys import KeyLimits, add_key, revoke_key
from suffice.ledger import Ledger, Window, audited_under, labelled_trials
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


class Cost(Struct, frozen=True, kw_only=True):
    """What a step took: seconds on the clock, and the most memory that its process held."""

    seconds: float
    peak_mb: float | None = None


def _dashboard(ledger: Ledger) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    snapshot(ledger, window=Window(since=now - timedelta(days=7)), now=now)


def _labelled(ledger: Ledger) -> None:
    labelled_trials(ledger)


def _guard(ledger: Ledger) -> None:
    deque(audited_under(ledger, "bench"), maxlen=0)


READINGS: Mapping[str, Callable[[Ledger], None]] = {
    "dashboard": _dashboard,
    "labelled": _labelled,
    "guard": _guard,
}


def main() -> None:
    """Print the figures of each database as one JSON object."""
    options = _options()
    if options.reading is not None:
        with Ledger.open(options.ledger, read_only=True) as ledger:
            began_s = time.perf_counter()
            READINGS[options.reading](ledger)
            print(time.perf_counter() - began_s)
        return
    figures: dict[str, object] = {"rows": options.rows}
    with TemporaryDirectory(prefix="suffice-ledger-", dir=options.folder) as name:
        folder = Path(name)
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
        began_s = time.perf_counter()
        fill(books, rows=rows, ends_us=time.time_ns() // 1000)
        costs["fill"] = Cost(seconds=time.perf_counter() - began_s)
        began_s = time.perf_counter()
        while not advance(books):
            time.sleep(0.1)
        costs["rollup"] = Cost(seconds=time.perf_counter() - began_s)
    for name in READINGS:
        command = ("-m", __package__ or "", "--reading", name, "--ledger", ledger)
        costs[name] = _timed(python(*command))
    page = str(folder / "report.html")
    costs["report"] = _timed(python("-m", "suffice", "report", ledger, "--out", page, "--json"))
    costs |= _served(ledger, folder)
    figures: dict[str, object] = {name: _figures(cost) for name, cost in costs.items()}
    print(json.dumps(figures), file=sys.stderr)
    return figures


def _figures(cost: Cost) -> dict[str, float]:
    figures = {"s": round(cost.seconds, 2)}
    return figures if cost.peak_mb is None else figures | {"mb": round(cost.peak_mb)}


def _timed(command: tuple[str, ...]) -> Cost:
    """Run a command; the seconds are those that it prints, or else those of the whole run."""
    began_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        print(f"failed: {' '.join(command)}", file=sys.stderr)
        raise SystemExit(1)
    took_s = time.perf_counter() - began_s
    own_s = float(printed) if "--reading" in command else took_s
    return Cost(seconds=own_s, peak_mb=usage.ru_maxrss / 1024)


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
        costs = {"start": Cost(seconds=time.perf_counter() - began_s)}
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
