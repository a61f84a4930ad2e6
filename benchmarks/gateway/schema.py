"""schemathesis against the served OpenAPI document: what a program can think of asking.

Its check `positive_data_acceptance` is left out: fields and headers that contradict each other are
refused with 400, and no schema can say which do.
"""

import subprocess
from typing import Any

from benchmarks.gateway import ours
from benchmarks.gateway.bed import Bed, say
from benchmarks.gateway.env import CACHE, Absent, environment
from benchmarks.gateway.ours import Policies, Setup
from benchmarks.gateway.processes import Broken

FOLDER = CACHE / "schemathesis"
EXAMPLES = 200  # for each operation


def run_schema(ready: Bed, policies: Policies) -> tuple[dict[str, Any], bool]:
    """Let schemathesis at a gateway; what it says goes to stderr, and nothing found is right."""
    found = environment(FOLDER, package="schemathesis", wanted="schemathesis")
    if isinstance(found, Absent):
        raise Broken(found.reason)
    setup = Setup(name="schema", upstream=ready.stub.port, policy=policies.routes)
    with ready.gateway(setup) as server:
        url = f"http://127.0.0.1:{server.port}/openapi.json"
        command = (str(found.program("schemathesis")), "--no-color", "run", url)
        options = ("--max-examples", str(EXAMPLES), "--exclude-checks", "positive_data_acceptance")
        done = subprocess.run(
            (*command, *options), check=False, capture_output=True, text=True, cwd=ready.folder
        )
        server.check()
    say(done.stdout + done.stderr)
    rows = ours.booked(ready.folder / setup.name / "suffice.db")
    figures = {
        "schemathesis": found.version,
        "examples": EXAMPLES,
        "exit_status": done.returncode,
        "rows_booked": len(rows),
    }
    return figures, done.returncode == 0
