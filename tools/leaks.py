"""Look for secrets in the files of the repository: keys of providers, private keys, passwords.

`python -m tools.leaks` prints where one stands, without showing it, and exits with 1.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from suffice.masking import SECRETS

ROOT = Path(__file__).parents[1]
LARGEST_BYTES = 2_000_000
_EXAMPLES = re.compile(r"(?i)password|secret|example|hunter2|xxx|\*\*\*|1234|fake|test")


def main() -> None:
    """Print the findings."""
    findings = [finding for path in tracked() for finding in secrets_in(path)]
    for finding in findings:
        print(finding)
    print(f"secrets found: {len(findings)}")
    sys.exit(1 if findings else 0)


def tracked() -> list[Path]:
    """List the files that git keeps."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [ROOT / name for name in listed.stdout.split("\0") if name]


def secrets_in(path: Path) -> Iterator[str]:
    """Say where a file holds what looks like a secret, and is no example."""
    if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
        return
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        return
    for name, pattern in SECRETS.items():
        for match in pattern.finditer(text):
            if not _EXAMPLES.search(match[0]):
                line = text.count("\n", 0, match.start()) + 1
                yield f"{path.relative_to(ROOT)}:{line}: {name}"


if __name__ == "__main__":
    main()
