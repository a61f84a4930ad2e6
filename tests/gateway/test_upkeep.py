"""The watch cannot die: bad files, half-copied folders and errors that nobody foresaw."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa
from gateway_support import CHAT, Site, site
from msgspec.structs import replace

from suffice.certify.bundle import CERTIFICATE, POLICY, save_bundle
from suffice.certify.bundling import Certification
from suffice.gateway import upkeep
from suffice.gateway import worker as workers
from suffice.gateway.keys import KeyLimits, add_key, revoke_key, rotate_key
from suffice.gateway.metrics.families import UPKEEP_ERRORS
from suffice.gateway.metrics.registry import Metrics
from suffice.gateway.upkeep import Upkeep
from suffice.ledger import Ledger, totals
from suffice.ledger.events import events, note_states
from suffice.ledger.measures import rollup_marks
from support import make_trials, settle_trials

ASK = {"model": "suffice", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUB_KEY", "sk-upstream-secret")
    monkeypatch.setattr(workers, "UPKEEP_S", 0.02)
    monkeypatch.setattr(workers, "RELOAD_AGAIN_S", 0.02)


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path) as running:
        yield running


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come about")


BAD = [
    b'assumed_usd = "NaN"\n',
    b'assumed_usd = "sNaN"\n',
    b"deadline_s = inf\n",
    b"[price.odd]\ninput_usd_per_mtok = nan\n",
    b"[engine.odd]\nkind = 'openai'\ntimeout_s = -1.0\n",
    b"x = " + b"[" * 5000 + b"]" * 5000,
    b"\xff\xfe",
    b"\0",
]


@pytest.mark.parametrize("damage", BAD)
async def test_a_revoked_key_is_out_while_another_file_is_bad(
    tmp_path: Path, damage: bytes
) -> None:
    path = tmp_path / "keys.json"
    secret = add_key(path, "alice", limits=KeyLimits())
    async with site(tmp_path, more=f'keys = "{path}"\n') as here:
        worker, toml = here.gateway.worker, here.folder / "suffice.toml"
        good = toml.read_bytes()
        toml.write_bytes(good + damage)
        await until(lambda: worker.reload_error is not None)
        assert (await here.post(ASK, path=CHAT, authorization=f"Bearer {secret}"))[0] == 200
        revoke_key(path, "alice")
        await until(lambda: not worker.access.desk.limiter.ring.keys)
        assert (await here.post(ASK, path=CHAT, authorization=f"Bearer {secret}"))[0] == 401
        assert "suffice_reload_failing" in worker.exposition()
        toml.write_bytes(good + b'models = {fresh = "small"}\n')
        await until(lambda: worker.reload_error is None and "fresh" in worker.serving.models)


async def test_a_damaged_key_file_leaves_the_keys_and_is_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret = add_key(path, "alice", limits=KeyLimits())
    async with site(tmp_path, more=f'keys = "{path}"\n') as here:
        good = path.read_bytes()
        path.write_bytes(b"{")
        await until(lambda: _errors(here) > 1)
        assert (await here.post(ASK, path=CHAT, authorization=f"Bearer {secret}"))[0] == 200
        path.write_bytes(good)
        fresh = rotate_key(path, "alice", overlap=timedelta(0))
        await until(lambda: here.gateway.worker.access.desk.limiter.ring.find(fresh) is not None)
        assert (await here.post(ASK, path=CHAT, authorization=f"Bearer {secret}"))[0] == 401


async def test_new_keys_make_no_new_engines_and_another_key_file_is_watched(tmp_path: Path) -> None:
    first, second = tmp_path / "keys.json", tmp_path / "others.json"
    add_key(first, "alice", limits=KeyLimits())
    add_key(second, "bob", limits=KeyLimits())
    async with site(tmp_path, more=f'keys = "{first}"\n') as here:
        worker, toml = here.gateway.worker, here.folder / "suffice.toml"
        serving = worker.serving
        fresh = add_key(first, "carol", limits=KeyLimits())
        await until(lambda: worker.access.desk.limiter.ring.find(fresh) is not None)
        await asyncio.sleep(0.1)
        assert worker.serving is serving
        toml.write_text(toml.read_text().replace(str(first), str(second)))
        await until(lambda: worker.serving is not serving)
        later = add_key(second, "dave", limits=KeyLimits())
        await until(lambda: worker.access.desk.limiter.ring.find(later) is not None)


def _errors(here: Site) -> float:
    return _failed(here.gateway.worker.metrics)


def _failed(metrics: Metrics) -> float:
    return sum(value for _, (value,) in metrics.values().get(UPKEEP_ERRORS.name, []))


async def test_a_half_copied_certificate_is_taken_over_once_it_is_whole(
    tmp_path: Path, settled: Certification
) -> None:
    again = settle_trials(make_trials(seed=7)).bundle
    assert again is not None
    assert again.certificate != settled.bundle.certificate
    async with site(tmp_path, bundle=settled.bundle) as here:
        worker, folder = here.gateway.worker, here.folder / "bundle"
        whole = tmp_path / "whole"
        save_bundle(whole, again)
        (folder / CERTIFICATE).write_bytes((whole / CERTIFICATE).read_bytes())
        await until(lambda: worker.reload_error is not None)
        for name in (POLICY, *(path.name for path in whole.iterdir())):
            (folder / name).write_bytes((whole / name).read_bytes())
        fresh = again.certificate.certificate_id
        await until(lambda: worker.serving.pipeline.bundle.certificate.certificate_id == fresh)


async def test_a_step_that_raises_is_counted_and_run_again_and_one_that_hangs_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = 0

    async def raises() -> None:
        nonlocal turns
        turns += 1
        raise RuntimeError("unforeseen")

    async def hangs() -> None:
        await asyncio.Event().wait()

    metrics = Metrics()
    watch = Upkeep({"raises": raises, "hangs": hangs}, metrics=metrics, every_s=0.001)
    watch.start()
    await until(lambda: turns > 3)
    assert watch.why_unready() is None
    monkeypatch.setattr(upkeep, "HEARTBEAT_S", 0.0)
    assert "has not come round" in watch.why_unready()
    await watch.stop()
    assert _failed(metrics) >= 3


async def test_a_worker_whose_watch_hangs_is_not_ready(here: Site) -> None:
    here.gateway.worker.upkeep = SimpleNamespace(
        why_unready=lambda: "the watch of files has not come round",
        measure=lambda: None,
        stop=_nothing,
    )
    async with here.http.get(here.url + "/readyz") as reply:
        assert reply.status == 503
    async with here.http.get(here.url + "/healthz") as reply:
        assert reply.status == 200


async def _nothing() -> None:
    return None


async def test_changes_of_keys_and_configuration_are_logged_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secret = add_key(path, "alice", limits=KeyLimits(requests_per_minute=5))
    async with site(tmp_path, more=f'keys = "{path}"\n') as here:
        await until(lambda: len(_logged(here)) == 3)
        revoke_key(path, "alice")
        await until(lambda: len(_logged(here)) == 4)
        log = _logged(here)
    assert {event.subject for event in log} == {"key alice", "configuration", "certificate"}
    assert [event.state for event in log if event.subject == "key alice"][-1] is None
    assert secret not in str(log)


def _logged(here: Site) -> list[object]:
    with Ledger.open(here.ledger, read_only=True) as ledger:
        return list(events(ledger))


def test_replicas_that_see_one_change_log_it_once(tmp_path: Path) -> None:
    with Ledger.open(tmp_path / "books.db") as ledger:
        now = datetime.now(UTC)
        assert note_states(ledger, {"a": {"x": 1}}, origin="one", now=now) == ("a",)
        assert note_states(ledger, {"a": {"x": 1}}, origin="two", now=now) == ()
        assert note_states(ledger, {"b": {}}, origin="two", now=now) == ("a", "b")
        assert [event.origin for event in events(ledger)] == ["one", "two", "two"]


@pytest.mark.parametrize("file", ["suffice.toml", "keys.json", f"bundle/{POLICY}"])
async def test_a_worker_starts_again_whatever_the_files_hold_by_then(
    tmp_path: Path, settled: Certification, file: str
) -> None:
    secret = add_key(tmp_path / "keys.json", "alice", limits=KeyLimits())
    (tmp_path / "shared").mkdir()
    async with site(
        tmp_path, bundle=settled.bundle, more=f'keys = "{tmp_path / "keys.json"}"\n'
    ) as here:
        settings = replace(here.gateway.worker.settings, shared=tmp_path / "shared")
        first = await workers.open_worker(settings)
        await first.close()
        good = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(b"\xff")
        again = await workers.open_worker(settings)
        assert again.reload_error is not None
        assert again.access.desk.limiter.ring.find(secret) is not None
        (tmp_path / file).write_bytes(good)
        await again.reload()
        assert again.reload_error is None
        await again.close()


async def test_keys_that_change_while_another_file_is_bad_leave_its_good_copy(
    tmp_path: Path,
) -> None:
    keys = tmp_path / "keys.json"
    add_key(keys, "alice", limits=KeyLimits())
    (tmp_path / "shared").mkdir()
    async with site(tmp_path, more=f'keys = "{keys}"\n') as here:
        settings = replace(here.gateway.worker.settings, shared=tmp_path / "shared")
        worker = await workers.open_worker(settings)
        (tmp_path / "suffice.toml").write_bytes(b"\xff")
        fresh = add_key(keys, "bob", limits=KeyLimits())
        await worker.watch_keys()
        await worker.close()
        again = await workers.open_worker(settings)
        assert again.access.desk.limiter.ring.find(fresh) is not None
        await again.close()


async def test_a_process_that_is_to_end_is_unready_first(here: Site) -> None:
    here.gateway.worker.draining = True
    async with here.http.get(here.url + "/readyz") as reply:
        assert reply.status == 503
    assert (await here.post(ASK, path=CHAT))[0] == 200


async def test_a_gateway_sums_its_books_by_the_tags_that_clients_give(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "ROLLUP_S", 0.0)
    await here.chat(extra_headers={"x-suffice-tag": "team a"})
    await here.chat(extra_headers={"x-suffice-tag": "b" * 100})
    await here.post({"model": "nobody"}, **{"x-suffice-tag": "team a"})

    def marked() -> bool:
        with Ledger.open(here.ledger, read_only=True) as books, books.reading() as connection:
            return connection.execute(sa.select(rollup_marks.c.requests_id)).scalar_one() == 3

    await until(marked)
    with Ledger.open(here.ledger, read_only=True) as books:
        sums = {row.key: row.requests for row in totals(books, by="tag")}
    assert sums == {"team a": 2, "b" * 64: 1}


async def test_a_gateway_whose_ledger_was_moved_away_is_not_ready(here: Site) -> None:
    away = here.ledger.with_suffix(".away")
    here.ledger.rename(away)
    for path, method in (("/readyz", "GET"), ("/v1/chat/completions", "POST")):
        async with here.http.request(method, here.url + path, json={}) as reply:
            assert reply.status == 503
    away.rename(here.ledger)
    async with here.http.get(here.url + "/readyz") as reply:
        assert reply.status == 200


@pytest.mark.parametrize(("alive", "signals"), [(True, []), (False, [signal.SIGTERM])])
async def test_a_worker_ends_with_the_process_that_started_it(
    here: Site, alive: bool, signals: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[int, int]] = []
    parent = SimpleNamespace(is_alive=lambda: alive)
    monkeypatch.setattr(workers.multiprocessing, "parent_process", lambda: parent)
    monkeypatch.setattr(workers.os, "kill", lambda pid, number: sent.append((pid, number)))
    await here.gateway.worker.watch_parent()
    assert sent == [(os.getpid(), number) for number in signals]


async def test_a_worker_without_a_parent_of_ours_goes_on(
    here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So it is where one process serves alone, and its parent is somebody's shell."""
    monkeypatch.setattr(workers.os, "kill", lambda *_: pytest.fail("it was to go on"))
    await here.gateway.worker.watch_parent()
