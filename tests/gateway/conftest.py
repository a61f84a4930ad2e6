"""What every test of the gateway has: the key of its scripted upstream."""

import pytest


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", "sk-upstream-secret")
