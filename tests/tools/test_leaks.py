"""The scan for secrets sees each kind that it names, and the repository holds none."""

import string
from pathlib import Path

import pytest

from tools import leaks

BODY = (string.ascii_letters + string.digits[::-1]) * 3


@pytest.mark.parametrize(
    "text",
    [
        "sk-" + "proj-" + BODY,
        "sk-" + "ant-" + BODY,
        "AK" + "IA" + "ABCDEFGHIJKLMNOP",
        "gh" + "p_" + BODY[:36],
        "h" + "f_" + BODY[:34],
        "postgresql://suffice:" + "k9vP2m@host/db",
        "-----BEGIN " + "PRIVATE KEY-----\n" + BODY,
    ],
)
def test_a_secret_is_found_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(leaks, "ROOT", tmp_path)
    path = tmp_path / "settings.toml"
    path.write_text(f"a = 1\nkey = '{text}'\n")
    (finding,) = leaks.secrets_in(path)
    assert finding.startswith("settings.toml:2: ")
    assert text not in finding


def test_the_repository_holds_none() -> None:
    assert not [finding for path in leaks.tracked() for finding in leaks.secrets_in(path)]
