"""The core runs a gateway without the extras, and whatever needs one says its name."""

import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from scipy import special

from suffice.errors import _EXTRAS
from suffice.ledger import Entry, Ledger, Status
from suffice.ledger.savings import _student_quantile

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGES = {"sklearn": "scikit-learn", "vl_convert": "vl-convert-python"}
BARE = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {set(_EXTRAS)}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def bare(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python where no library of an extra can be imported."""
    return subprocess.run(
        [sys.executable, "-c", BARE + code], capture_output=True, text=True, timeout=60, check=False
    )


def command(*words: object) -> subprocess.CompletedProcess[str]:
    return bare(f"from suffice.cli.main import main; main({[str(word) for word in words]})")


def test_each_library_is_in_the_extra_that_is_named() -> None:
    extras = PROJECT["optional-dependencies"]
    for library, extra in _EXTRAS.items():
        package = PACKAGES.get(library, library)
        assert any(line.startswith(package) for line in extras[extra]), library
        assert not any(line.startswith(package) for line in PROJECT["dependencies"]), library
        assert extra in extras["all"][0]


def test_a_gateway_starts_and_shows_its_page_without_extras(tmp_path: Path) -> None:
    code = f"""
from datetime import UTC, datetime
import suffice.gateway.app, suffice.gateway.protocol, suffice.gateway.server
from suffice.gateway.dashboard import render, snapshot
from suffice.ledger import Ledger, Window
from suffice.encoders.base import default_encoder
import suffice.pipeline, suffice.certify.bundle
default_encoder()
with Ledger.open({str(tmp_path / "books.db")!r}) as ledger:
    assert "No requests yet" in render(snapshot(ledger, window=Window(), now=datetime.now(UTC)))
"""
    done = bare(code)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("bill", "--demo"), "logs"),
        (("certify", "TRIALS", "--reference", "high", "--out", "OUT"), "certify"),
        (("report", "BOOKS", "--out", "OUT"), "charts"),
        (("serve", "--ladder", "LADDER"), "embedded"),
    ],
)
@pytest.mark.slow
def test_a_command_names_the_extra_that_it_lacks(
    words: tuple[str, ...], extra: str, tmp_path: Path
) -> None:
    rows = [
        f'{{"request_id": "{i}", "rung": "{rung}", "text": "q {i}", "quality": 1,'
        f' "charge_usd": "{usd}"}}'
        for i in range(200)
        for rung, usd in (("low", "0.001"), ("high", "0.01"))
    ]
    (tmp_path / "trials.jsonl").write_text("\n".join(rows))
    ladder = ROOT / "src" / "suffice" / "ladders" / "embedded.toml"
    text = ladder.read_text("utf-8") + f'\n[gateway]\nledger = "{tmp_path / "books.db"}"\n'
    (tmp_path / "suffice.toml").write_text(text)
    with Ledger.open(tmp_path / "some.db") as ledger:
        ledger.append(
            Entry(
                request_id="r",
                time=datetime.now(UTC),
                status=Status.OK,
                rung="low",
                reference_rung="high",
            )
        )
    places = {
        "BOOKS": tmp_path / "some.db",
        "TRIALS": tmp_path / "trials.jsonl",
        "OUT": tmp_path / "out",
        "LADDER": tmp_path / "suffice.toml",
    }
    done = command(*(places.get(word, word) for word in words))
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"suffice[{extra}]" in done.stderr.replace("\n", "")


@pytest.mark.parametrize("freedom", [10, 29, 200, 10_000])
def test_students_quantile_is_that_of_scipy(freedom: int) -> None:
    right = special.stdtrit(freedom, 0.975)
    assert _student_quantile(0.975, freedom=freedom) == pytest.approx(right, rel=1e-4)
