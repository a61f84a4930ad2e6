"""A script for the sandbox: run one program on all tests of its problem, then say how it went.

It is sent into the sandbox as it is, so it imports the standard library alone. `job.json` holds the
code, the tests, the name of the method to call, and the seconds that a test may take.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

_IMPORTS = (
    "from typing import *\nimport bisect, collections, functools, heapq, itertools, math, re\n"
    "import string\nfrom collections import *\nfrom math import *\n"
)


def main() -> None:
    """Run the job of the first argument, or with no argument one call from standard input."""
    if len(sys.argv) == 1:
        call(json.load(sys.stdin))
        return
    job = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    for number, test in enumerate(job["tests"]):
        fault = run(test, job)
        if fault is not None:
            print(f"test {number}: {fault}")
            raise SystemExit(1)
    print("all passed")


def run(test: dict[str, Any], job: dict[str, Any]) -> str | None:
    """Run one test; return what is wrong, or None."""
    functional = test["testtype"] == "functional"
    command = [sys.executable, __file__] if functional else [sys.executable, "-c", job["code"]]
    given = json.dumps({**job, "tests": [], "input": test["input"]})
    try:
        done = subprocess.run(  # noqa: S603
            command,
            input=given if functional else test["input"],
            capture_output=True,
            text=True,
            timeout=job["test_s"],
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "too slow"
    if done.returncode:
        return str(done.stderr[-300:])
    if functional:
        right = json.loads(done.stdout.splitlines()[-1]) == json.loads(test["output"])
    else:
        right = same(done.stdout, test["output"])
    return None if right else "wrong answer"


def call(job: dict[str, Any]) -> None:
    """Call the method `function` with a JSON argument from each line of `input`; print JSON."""
    space: dict[str, Any] = {"__name__": "solution"}
    exec(_IMPORTS + job["code"], space)  # noqa: S102
    owner = space["Solution"]() if "Solution" in space else None
    method = space[job["function"]] if owner is None else getattr(owner, job["function"])
    result = method(*[json.loads(line) for line in job["input"].splitlines() if line.strip()])
    print("\n" + json.dumps(result))


def same(output: str, expected: str) -> bool:
    """Compare line by line: equal text but for spacing at the ends, or equal numbers."""
    mine, theirs = ([line.strip() for line in t.strip().splitlines()] for t in (output, expected))
    return len(mine) == len(theirs) and all(
        a == b or (_numbers(a) is not None and _numbers(a) == _numbers(b))
        for a, b in zip(mine, theirs, strict=True)
    )


def _numbers(line: str) -> list[float] | None:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return None


if __name__ == "__main__":
    main()
