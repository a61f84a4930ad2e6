"""`suffice launch` gives a client a gateway of its own, and prints what its session cost."""

import json
import os
import stat
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from suffice.cli.launch import _settings
from suffice.ledger import Ledger
from suffice.ledger.spenders import spenders

LADDER = """
reference = "big"
[engine.stub]
kind = "openai"
url = "{url}/v1"
dialect = "vllm"
[price.list]
input_usd_per_mtok = 10
cache_read_usd_per_mtok = 1
output_usd_per_mtok = 50
[[ladder]]
name = "big"
engine = "stub"
model = "big-model"
price = "list"
[gateway]
ledger = "books.db"
"""
CLIENT = """#!{python}
import json, os, sys, urllib.request
body = {{"model": os.environ["ANTHROPIC_MODEL"], "max_tokens": 9,
        "messages": [{{"role": "user", "content": sys.argv[-1]}}]}}
name, _, value = os.environ["ANTHROPIC_CUSTOM_HEADERS"].partition(": ")
headers = {{"content-type": "application/json", name: value, "x-claude-code-session-id": "one",
           "authorization": "Bearer " + os.environ["ANTHROPIC_AUTH_TOKEN"]}}
for turn in range(2):
    request = urllib.request.Request(
        os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", json.dumps(body).encode(), headers)
    print(json.load(urllib.request.urlopen(request))["content"][0]["text"])
sys.exit(3 if "fail" in sys.argv else 0)
"""


class Engine(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "Done."}
        usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
        usage |= {"prompt_tokens_details": {"cached_tokens": 900}}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    (tmp_path / "suffice.toml").write_text(LADDER.format(url=url))
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text(CLIENT.format(python=sys.executable))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    server.shutdown()
    server.server_close()


def launched(*words: str) -> int:
    from suffice.cli.main import main

    with pytest.raises(SystemExit) as ended:
        main(["launch", *words])
    return int(ended.value.code or 0)


@pytest.mark.slow  # a gateway starts in a process of its own
def test_a_session_is_served_booked_and_billed(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert launched("claude", "--", "-p", "Fix the test") == 0
    printed = capfd.readouterr().out
    assert printed.count("Done.") == 2
    # 2 x (100 new at $10, 900 read at $1, 10 written at $50 a million)
    assert "in all: $0.0048" in printed
    with Ledger.open(folder / "books.db", read_only=True) as ledger:
        [session] = spenders(ledger, by="session", tag="claude")
        [tag] = spenders(ledger, by="tag")
    assert (session.requests, session.agents) == (2, 1)
    assert (session.input_tokens, session.cache_read_tokens) == (2000, 1800)
    assert (tag.name, tag.spend) == ("claude", session.spend)


@pytest.mark.slow
def test_the_status_of_the_client_is_ours(folder: Path) -> None:
    assert launched("claude", "--tag", "mine", "--", "fail") == 3
    with Ledger.open(folder / "books.db", read_only=True) as ledger:
        assert [one.name for one in spenders(ledger, by="tag")] == ["mine"]


def test_what_cannot_start_is_an_error(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launched("codex") == 2
    assert "codex is not installed" in capfd.readouterr().err
    (folder / "suffice.toml").write_text("reference = 1")
    assert launched("claude") == 2


def test_a_running_gateway_keeps_its_own_books(
    folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "suffice.toml").unlink()
    program = folder / "bin" / "claude"
    program.write_text(f"#!{sys.executable}\nimport os\nprint(os.environ['ANTHROPIC_BASE_URL'])\n")
    assert launched("claude", "--url", "http://gateway:1/v1") == 0
    printed = capfd.readouterr()
    assert printed.out.strip() == "http://gateway:1"
    assert "the books are with http://gateway:1" in printed.err


def test_codex_is_told_of_a_provider_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUFFICE_API_KEY", "sk-mine")
    environment, options = _settings("codex", "http://h:1", model="suffice", tag="codex")
    assert environment["SUFFICE_API_KEY"] == "sk-mine"
    assert options.count("-c") == len(options) / 2
    assert 'model_providers.suffice.base_url="http://h:1/v1"' in options
    assert 'model_providers.suffice.http_headers={"x-suffice-tags" = "codex"}' in options
    environment, options = _settings("claude", "http://h:1", model="suffice", tag="t")
    assert environment["ANTHROPIC_AUTH_TOKEN"] == "sk-mine"
    assert "ANTHROPIC_API_KEY" not in environment
    assert options == []
