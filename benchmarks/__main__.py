"""Every published figure, one benchmark after the other: `python -m benchmarks --data PATH`."""

import subprocess
import sys

BENCHMARKS = (
    "routing",
    "promise",
    "token_economy",
    "board",
    "sessions",
    "silicon",
    "silicon_outside",
    "latent",
    "stream",
    "choices",
    "forecast",
    "contracts",
    "compound",
    "compound_public",
    "speed",
    "wire",
    "gateway",
    "bill",
    "effort",
    "early_stop",
)


def main() -> None:
    """Run all benchmarks with the same arguments; the worst exit status is this one's."""
    worst = 0
    for name in BENCHMARKS:
        print(f"== benchmarks.{name}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=False
        )
        worst = max(worst, done.returncode)
    raise SystemExit(worst)


if __name__ == "__main__":
    main()
