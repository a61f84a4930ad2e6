"""Ask for known faults of the pinned packages, and say of how many nothing could be learnt.

`python -m tools.audit` runs pip-audit, which needs the network. It exits with 1 for a known fault,
and with 2 where packages were not checked: pip-audit itself calls that a success.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PINNED = ("requirements/dev.txt", "requirements/models.txt")
_SHOWN = 8


def main() -> None:
    """Print what was and what was not checked."""
    program = shutil.which("pip-audit")
    if program is None:
        print("nothing checked: pip-audit is not installed (pipx install pip-audit)")
        sys.exit(2)
    files = [part for name in PINNED for part in ("-r", name)]
    done = subprocess.run(
        [program, "--require-hashes", "--disable-pip", "--format", "json", *files],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        print("nothing checked: pip-audit failed", *done.stderr.splitlines()[-3:], sep="\n  ")
        sys.exit(2)
    sys.exit(report(packages))


def report(packages: list[dict[str, Any]]) -> int:
    """Print the findings, and return the exit status."""
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    faulty = {one["name"]: one["vulns"] for one in packages if one.get("vulns")}
    for name, faults in faulty.items():
        for fault in faults:
            mended = ", ".join(fault["fix_versions"]) or "no version"
            print(f"{name}: {fault['id']}, mended in {mended}")
    print(f"packages checked: {len(packages) - len(skipped)} of {len(packages)}")
    print(f"packages with known faults: {len(faulty)}")
    if skipped:
        more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
        print(f"not checked: {', '.join(skipped[:_SHOWN])}{more}: the advisories were not reached")
    return 1 if faulty else 2 if skipped or not packages else 0


if __name__ == "__main__":
    main()
