"""What an operator asks for is done: texts redacted, ids keyed, secrets in files, logs wordless."""

import asyncio
import json
import logging
import sqlite3
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType

import gateway_support
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_support import site

from suffice.deployment import read_secret
from suffice.errors import ConfigError, InputError
from suffice.gateway import worker as workers
from suffice.gateway.serving import Settings
from suffice.gateway.tls import ServedCertificate

NAMES = ("suffice", "uvicorn")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", "sk-upstream-secret")
    monkeypatch.setattr(workers, "UPKEEP_S", 0.02)


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> None:
    def hide(text: str) -> str:
        if "fail" in text:
            raise ValueError(text)
        return text.replace("Ada", "[name]")

    module = ModuleType("operators_hook")
    module.hide = hide  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "operators_hook", module)


@pytest.fixture
def loggers() -> Iterator[None]:
    """Put the loggers back that a gateway in this process takes for itself."""
    before = [(one, one.handlers, one.propagate) for one in map(logging.getLogger, NAMES)]
    yield
    for logger, handlers, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about")


async def refuse_start(folder: Path, more: str) -> None:
    ladder = gateway_support.LADDER.format(
        url="http://127.0.0.1:9/v1", dialect="openai", ledger=folder / "books.db"
    )
    (folder / "suffice.toml").write_text(ladder + more)
    with pytest.raises(InputError):
        await workers.open_worker(Settings(ladder=folder / "suffice.toml"))


async def test_texts_are_redacted_before_they_are_kept(
    tmp_path: Path, hook: None, caplog: pytest.LogCaptureFixture
) -> None:
    more = 'store_text = true\nredact = "operators_hook:hide"\n'
    async with site(tmp_path, more=more) as here:
        await here.chat("I am Ada. Who are you?")
        await here.chat("Ada will fail")
        with closing(sqlite3.connect(here.ledger)) as database:
            texts = database.execute("SELECT text FROM suffice_requests ORDER BY id").fetchall()
            everything = "\n".join(database.iterdump())
    assert [text for (text,) in texts] == ["I am [name]. Who are you?", "redaction failed"]
    assert "Ada" not in everything
    assert "Ada" not in caplog.text


async def test_a_redaction_that_cannot_be_found_stops_the_start(tmp_path: Path) -> None:
    await refuse_start(tmp_path, 'redact = "nowhere:nothing"\n')


async def test_ids_are_keyed_by_the_operators_secret(tmp_path: Path) -> None:
    ids = []
    for name, secret in (("plain", None), ("one", "a" * 32), ("other", "b" * 32)):
        folder = tmp_path / name
        folder.mkdir()
        more = ""
        if secret is not None:
            (folder / "secret").write_text(secret + "\n")
            more = f'id_key_file = "{folder / "secret"}"\n'
        async with site(folder, more=more) as here:
            for _ in range(2):
                await here.chat(extra_headers={"x-session-id": "run-7"})
            rows = here.rows()
        assert rows[0]["conversation_id"] == rows[1]["conversation_id"]
        ids.append((rows[0]["conversation_id"], rows[0]["session_id"]))
    assert len({one for pair in ids for one in pair}) == 6


@pytest.mark.parametrize("secret", ["", "short", "two\nlines", "x" * 65])
async def test_a_bad_secret_for_ids_stops_the_start(tmp_path: Path, secret: str) -> None:
    (tmp_path / "secret").write_text(secret)
    await refuse_start(tmp_path, f'id_key_file = "{tmp_path / "secret"}"\n')


def test_a_secret_is_never_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("sk-very\nsecret")
    with pytest.raises(ConfigError) as caught:
        read_secret(str(tmp_path / "secret"), at="engine.a.api_key_file")
    assert "very" not in str(caught.value)
    with pytest.raises(ConfigError, match=r"engine\.a\.api_key_file"):
        read_secret(str(tmp_path / "absent"), at="engine.a.api_key_file")


async def test_an_upstreams_key_is_read_again_when_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "upstream.key"
    secret.write_text("sk-old\n")
    ladder = gateway_support.LADDER.replace(
        'api_key_env = "STUB_KEY"', f'api_key_file = "{secret}"'
    )
    assert ladder != gateway_support.LADDER
    monkeypatch.setattr(gateway_support, "LADDER", ladder)
    async with site(tmp_path) as here:
        await here.chat()
        before = here.gateway.worker.serving
        secret.write_text("sk-new\n")
        await until(lambda: here.gateway.worker.serving is not before)
        await here.chat()
        sent = [call.headers["authorization"] for call in here.upstream.calls]
    assert sent == ["Bearer sk-old", "Bearer sk-new"]


async def test_logs_are_lines_of_json_without_words_of_a_client(
    tmp_path: Path, loggers: None, capsys: pytest.CaptureFixture[str]
) -> None:
    async with site(tmp_path, more='log_format = "json"\n') as here:
        await here.chat("my secret question")
        await here.post({"model": "secret-model"})
        await here.post({}, path="/my/secret/path")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    requests = [line for line in lines if line["logger"] == "suffice.access"]
    assert [(line["route"], line["status"]) for line in requests] == [
        ("/v1/chat/completions", 200),
        ("/v1/chat/completions", 400),
        ("other", 404),
    ]
    assert requests[0]["rung"] == "big"
    assert requests[0]["ended"] == "ok"
    assert "secret" not in json.dumps(lines)


def test_a_renewed_tls_certificate_is_taken_over_once_it_is_whole(tmp_path: Path) -> None:
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    old, new = pair(), pair()
    chain.write_bytes(old[0])
    key.write_bytes(old[1])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(chain, key)
    served = ServedCertificate(context, chain=str(chain), key=str(key))
    assert shown(context) == old[0]
    chain.write_bytes(new[0] + b"\n")  # the key is still the old one
    served.refresh()
    assert shown(context) == old[0]
    key.write_bytes(new[1] + b"\n")
    served.refresh()
    assert shown(context) == new[0]


def pair() -> tuple[bytes, bytes]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    return (
        certificate.public_bytes(pem),
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain),
    )


def shown(context: ssl.SSLContext) -> bytes:
    """Shake hands in memory, and return the certificate that the server shows."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        context.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ssl.DER_cert_to_PEM_cert(ends[0].getpeercert(binary_form=True)).encode()
