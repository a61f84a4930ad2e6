"""An audit says what it has not checked, and is no success then."""

import json
from pathlib import Path

import pytest

from tools import audit

CLEAN = {"name": "clean", "version": "1", "vulns": []}
FAULTY = {"name": "faulty", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
SKIPPED = {"name": "skipped", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([CLEAN], 0, "packages checked: 1 of 1"),
        ([CLEAN, SKIPPED], 2, "not checked: skipped"),
        ([SKIPPED] * 20, 2, "packages checked: 0 of 20"),
        ([CLEAN, FAULTY, SKIPPED], 1, "faulty: CVE-1, mended in 2"),
        ([], 2, "packages checked: 0 of 0"),
    ],
)
def test_only_what_was_checked_is_cleared(
    packages: list, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.report(packages) == status
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (None, "nothing checked: pip-audit is not installed"),
        ("echo no network >&2; exit 1", "nothing checked: pip-audit failed\n  no network"),
        (f"echo '{json.dumps({'dependencies': [SKIPPED]})}'", "packages checked: 0 of 1"),
    ],
)
def test_an_audit_that_did_not_take_place_is_none(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    script: str | None,
    words: str,
) -> None:
    if script is not None:
        program = tmp_path / "pip-audit"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        audit.main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().out
