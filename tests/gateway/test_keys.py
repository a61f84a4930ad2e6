"""Keys open the door and nothing gives them away; rates and budgets hold, also in a crowd."""

import asyncio
import dataclasses
import json
import random
import stat
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace
from postgres_server import new_schema

from suffice.cli.main import main
from suffice.config import parse_config
from suffice.errors import ConfigError, InputError
from suffice.gateway import limits
from suffice.gateway.access import Access
from suffice.gateway.admissions import AdmissionDesk
from suffice.gateway.keys import (
    KeyLimits,
    KeyRights,
    KeyRing,
    add_key,
    read_keys,
    revoke_key,
    rotate_key,
)
from suffice.gateway.limits import Admission, KeyLimiter, Refused, Settlement, Wish
from suffice.gateway.problems import Problem
from suffice.gateway.wire import ChatRequest
from suffice.ledger import Attempt, Entry, Ledger, Role, Status
from suffice.pipeline import Pipeline, build_pipeline
from suffice.types import JSON, Charge, Request, Rung
from support import CONFIG

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
CENT = Decimal("0.01")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def ring(path: Path) -> KeyRing:
    return KeyRing(read_keys(path))


# -- the file ------------------------------------------------------------------------------------


def test_a_key_opens_the_door_and_is_nowhere_in_the_file(path: Path) -> None:
    alice, bob = (add_key(path, name, limits=KeyLimits()) for name in ("alice", "bob"))
    keys = ring(path)
    assert keys.find(alice).name == "alice"
    assert keys.find(bob).name == "bob"
    for wrong in (None, "", alice[:-1], alice + "x", alice.upper(), "\ud800", "sk-suffice-"):
        assert keys.find(wrong) is None
    text = path.read_text()
    assert alice.removeprefix("sk-suffice-") not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_same_key_has_another_digest_in_another_file(tmp_path: Path) -> None:
    made = add_key(tmp_path / "a.json", "alice", limits=KeyLimits())
    add_key(tmp_path / "b.json", "alice", limits=KeyLimits())
    salts = {read_keys(tmp_path / name).salt for name in ("a.json", "b.json")}
    assert len(salts) == 2
    assert ring(tmp_path / "b.json").find(made) is None


def test_keys_are_long_and_never_alike(path: Path) -> None:
    made = {add_key(path, f"k{i}", limits=KeyLimits()) for i in range(20)}
    assert len(made) == 20
    assert all(len(key.removeprefix("sk-suffice-")) >= 43 for key in made)


def test_a_revoked_key_is_out_and_its_name_stays_taken(path: Path) -> None:
    made = add_key(path, "alice", limits=KeyLimits())
    revoke_key(path, "alice")
    assert ring(path).find(made) is None
    assert read_keys(path).keys[0].revoked is not None
    with pytest.raises(InputError, match="is, or was"):
        add_key(path, "alice", limits=KeyLimits())
    with pytest.raises(InputError, match="no key 'alice' in force"):
        revoke_key(path, "alice")


def test_a_rotated_key_opens_beside_the_old_one_for_a_while(path: Path) -> None:
    old = add_key(path, "alice", limits=KeyLimits(requests_per_minute=5))
    new = rotate_key(path, "alice", overlap=timedelta(hours=1))
    assert [ring(path).find(key).requests_per_minute for key in (old, new)] == [5, 5]
    newest = rotate_key(path, "alice", overlap=timedelta(0))
    assert [ring(path).find(key) is None for key in (old, new, newest)] == [False, True, False]
    revoke_key(path, "alice")
    assert [ring(path).find(key) for key in (old, new, newest)] == [None] * 3


def test_an_expired_key_is_out(path: Path) -> None:
    rights = KeyRights(lasts=timedelta(seconds=-1))
    late = add_key(path, "late", limits=KeyLimits(), rights=rights)
    assert ring(path).find(late) is None
    rights = KeyRights(lasts=timedelta(hours=1))
    early = add_key(path, "early", limits=KeyLimits(), rights=rights)
    assert ring(path).find(early) is not None


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        ("", KeyLimits()),
        ("../x", KeyLimits()),
        ("two words", KeyLimits()),
        ("a", KeyLimits(budget_usd_per_day=Decimal(0))),
        ("a", KeyLimits(budget_usd_per_day=Decimal("NaN"))),
        ("a", KeyLimits(requests_per_minute=0)),
    ],
)
def test_odd_names_and_limits_are_refused_and_write_nothing(
    path: Path, name: str, limits: KeyLimits
) -> None:
    with pytest.raises(InputError):
        add_key(path, name, limits=limits)
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604])
def test_a_file_open_to_others_is_refused(path: Path, mode: int) -> None:
    add_key(path, "alice", limits=KeyLimits())
    path.chmod(mode)
    with pytest.raises(ConfigError, match="open to other users"):
        read_keys(path)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"\xff", b'{"salt": "00"}', b'{"salt": "' + b"0" * 64 + b'", "extra": 1}'],
)
def test_a_damaged_file_is_said_so(path: Path, damage: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(damage)
    with pytest.raises(ConfigError, match=r"keys\.json"):
        read_keys(path)


def test_a_missing_file_or_folder_is_said_so(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_keys(path)
    with pytest.raises(InputError, match="cannot open"):
        add_key(path / "no" / "keys.json", "alice", limits=KeyLimits())


def test_the_command_prints_a_key_once(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(["key", *arguments, "--file", str(path)])
        assert end.value.code == 0
        return capsys.readouterr().out

    made = run("add", "alice", "--budget-usd-per-day", "2.50", "--requests-per-minute", "60")
    key = ring(path).find(made.strip())
    assert (key.budget_usd_per_day, key.requests_per_minute) == (Decimal("2.50"), 60)
    (listed,) = json.loads(run("list", "--json"))["keys"]
    assert listed["name"] == "alice"
    assert listed["budget_usd_per_day"] == "2.50"
    shown = run("list")
    assert shown.startswith("alice: ")
    assert key.digest not in shown
    run("rotate", "alice", "--overlap", "1h")
    run("add", "eyes", "--scope", "metrics", "--may-ask", "small", "--expires", "90d")
    assert "scopes metrics, models small" in run("list")
    run("revoke", "alice")
    assert "revoked" in run("list")


def test_an_amount_that_is_none_is_refused(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["key", "add", "a", "--budget-usd-per-day", "two", "--file", str(path)])
    assert end.value.code == 2
    assert "hint: write it as 2.50" in capsys.readouterr().err


# -- rates ---------------------------------------------------------------------------------------


class KeyDesk:
    """A limiter with one key over a ledger of its own, and a clock."""

    def __init__(self, path: Path, *, ledger: str | None = None, **limits: object) -> None:
        self.path = path
        self.key = add_key(path, "alice", limits=KeyLimits(**limits))
        self.ledger = Ledger.open(ledger or path.with_name("desk.db"))
        self.limiter = self.replica()
        self.now_s = 0.0
        self.numbers = count()

    def replica(self) -> KeyLimiter:
        """Make another limiter over the same ledger, as a second worker has it."""
        return KeyLimiter(ring(self.path), ledger=self.ledger, assumed_usd=CENT)

    def ask(
        self,
        worst: str | None = "0",
        *,
        now: datetime = NOON,
        tokens: int | None = None,
        limiter: KeyLimiter | None = None,
    ) -> Admission | Refused:
        limiter = limiter or self.limiter
        key = limiter.ring.find(self.key)
        admission = Admission(key=key, request_id=f"q{next(self.numbers)}")
        usd = limiter.assumed_usd if worst is None else Decimal(worst)
        wish = Wish(admission=admission, enters=True, usd=usd, tokens=tokens)
        return limiter.decide([wish], now=now + timedelta(seconds=self.now_s))[0]

    def settle(
        self,
        admission: Admission | Refused,
        charge: Charge | None,
        *,
        tokens: int | None = None,
        now: datetime = NOON,
    ) -> None:
        assert isinstance(admission, Admission)
        ended = Settlement(admission=admission, charge=charge, tokens=tokens)
        self.limiter.decide([], [ended], now=now + timedelta(seconds=self.now_s))

    def spend(self, usd: str | None, *, worst: str) -> None:
        self.settle(self.ask(worst), Charge(usd=None if usd is None else Decimal(usd)))


def code(given: Admission | Refused) -> str:
    return given.code if isinstance(given, Refused) else "admitted"


@pytest.mark.parametrize("key", [None, "", "sk-suffice-guess"])
def test_without_a_key_there_is_a_401_that_tells_nothing(path: Path, key: str | None) -> None:
    desk = SimpleNamespace(limiter=KeyDesk(path).limiter)
    headers = {} if key is None else {b"authorization": f"Bearer {key}".encode()}
    with pytest.raises(Problem) as refused:
        Access(cast("AdmissionDesk", desk)).authenticate(headers, "chat")
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
    assert "guess" not in refused.value.message


def test_a_flood_of_one_key_leaves_the_books_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each refusal was a transaction, and all other keys waited for it."""
    desk = KeyDesk(path, requests_per_minute=2)
    assert [code(desk.ask()) for _ in range(3)] == ["admitted"] * 2 + ["rate_limit_exceeded"]
    desk.now_s += 10
    with monkeypatch.context() as patch:
        patch.setattr(limits, "held_accounts", None)
        waits_s = [desk.ask().retry_after_s for _ in range(3)]
        desk.now_s -= 3600  # a clock that is set back holds nobody up
        with pytest.raises(TypeError):
            desk.ask()
    assert waits_s == [pytest.approx(20.0)] * 3
    desk.now_s += 3600 + waits_s[0] + 0.01
    assert code(desk.ask()) == "admitted"
    assert code(desk.ask()) == "rate_limit_exceeded"
    file = read_keys(path)
    more = tuple(replace(key, requests_per_minute=100) for key in file.keys)
    desk.limiter.reload(KeyRing(replace(file, keys=more)))
    desk.now_s += 1
    assert code(desk.ask()) == "admitted"


def test_a_minutes_requests_may_come_at_once_and_then_evenly(path: Path) -> None:
    desk = KeyDesk(path, requests_per_minute=30)
    assert [code(desk.ask()) for _ in range(30)] == ["admitted"] * 30
    refused = desk.ask()
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert refused.retry_after_s == pytest.approx(2.0)
    desk.now_s += refused.retry_after_s + 1e-5
    assert code(desk.ask()) == "admitted"
    assert code(desk.ask()) == "rate_limit_exceeded"


def test_over_an_hour_no_more_requests_pass_than_the_rate_allows(path: Path) -> None:
    desk, draw = KeyDesk(path, requests_per_minute=6), random.Random(1)
    passed = 0
    while desk.now_s < 3600.0:
        passed += code(desk.ask()) == "admitted"
        desk.now_s += draw.expovariate(0.25)
    assert 0.97 * 360 < passed <= 6 + 360


def test_a_clock_that_stands_or_goes_back_gives_nothing(path: Path) -> None:
    desk = KeyDesk(path, requests_per_minute=1)
    desk.ask()
    desk.now_s -= 500.0
    assert code(desk.ask()) == "rate_limit_exceeded"


def test_workers_share_a_rate_exactly(path: Path) -> None:
    desk = KeyDesk(path, requests_per_minute=8)
    workers = [desk.replica() for _ in range(4)]
    codes = [code(desk.ask(limiter=workers[i % 4])) for i in range(12)]
    assert codes == ["admitted"] * 8 + ["rate_limit_exceeded"] * 4


def test_tokens_are_reserved_and_what_was_not_used_comes_back(path: Path) -> None:
    desk = KeyDesk(path, tokens_per_minute=600)
    first = desk.ask(tokens=500)
    refused = desk.ask(tokens=200)
    assert (refused.status, refused.code) == (429, "rate_limit_exceeded")
    assert refused.retry_after_s == pytest.approx(10.0)
    desk.settle(first, Charge(usd=Decimal(0)), tokens=100)
    assert code(desk.ask(tokens=500)) == "admitted"
    assert code(desk.ask(tokens=1)) == "rate_limit_exceeded"


def test_a_request_longer_than_a_minutes_tokens_waits_for_a_full_minute(path: Path) -> None:
    desk = KeyDesk(path, tokens_per_minute=600)
    assert code(desk.ask(tokens=1200)) == "admitted"
    desk.now_s += 60.0
    assert code(desk.ask(tokens=1)) == "rate_limit_exceeded"
    desk.now_s += 1.0
    assert code(desk.ask(tokens=1)) == "admitted"


def test_parallel_requests_end_when_they_are_settled_or_lost(path: Path) -> None:
    desk = KeyDesk(path, parallel_requests=2)
    flying = [desk.ask(), desk.ask(limiter=desk.replica())]
    assert code(desk.ask()) == "rate_limit_exceeded"
    desk.settle(flying[0], Charge(usd=Decimal(0)))
    assert code(desk.ask()) == "admitted"
    desk.now_s += 601.0
    assert [code(desk.ask()) for _ in range(3)] == ["admitted"] * 2 + ["rate_limit_exceeded"]


# -- budgets -------------------------------------------------------------------------------------


def test_requests_in_flight_together_cannot_pass_a_budget(path: Path) -> None:
    desk, draw = KeyDesk(path, budget_usd_per_day=Decimal(1)), random.Random(2)
    flying: list[Admission] = []
    spent = Decimal(0)
    for _ in range(400):
        given = desk.ask(str(Decimal(draw.randrange(1, 20)) / 100))
        if isinstance(given, Admission):
            flying.append(given)
        if flying and draw.random() < 0.6:
            done = flying.pop(draw.randrange(len(flying)))
            cost = done.reserved_usd * draw.randrange(101) / 100
            spent += cost
            desk.settle(done, Charge(usd=cost))
        assert spent + sum(each.reserved_usd for each in flying) <= 1
    assert spent > Decimal("0.9")


def test_a_refusal_says_whether_to_wait_for_others_or_for_midnight(path: Path) -> None:
    desk = KeyDesk(path, budget_usd_per_day=Decimal(1))
    held = desk.ask("0.9")
    first = desk.ask("0.5")
    assert (first.code, first.retry_after_s) == ("insufficient_quota", 1.0)
    desk.settle(held, Charge(usd=Decimal("0.8")))
    assert desk.ask("0.5").retry_after_s == 12 * 3600
    assert code(desk.ask("0.2")) == "admitted"


def test_what_is_unknown_is_never_free(path: Path) -> None:
    desk = KeyDesk(path, budget_usd_per_day=3 * CENT)
    desk.spend(None, worst="0.02")
    assert code(desk.ask("0.02")) == "insufficient_quota"
    assert code(desk.ask(None)) == "admitted"
    assert code(desk.ask(None)) == "insufficient_quota"


def test_a_request_that_reached_no_engine_gives_its_reservation_back(path: Path) -> None:
    desk = KeyDesk(path, budget_usd_per_day=CENT)
    desk.settle(desk.ask("0.01"), None)
    assert code(desk.ask("0.01")) == "admitted"


def test_midnight_begins_a_new_day_and_late_charges_belong_to_the_old(path: Path) -> None:
    desk = KeyDesk(path, budget_usd_per_day=CENT)
    late = desk.ask("0.01", now=NOON + timedelta(hours=11, minutes=59))
    tomorrow = NOON + timedelta(hours=12)
    assert code(desk.ask("0.01", now=tomorrow)) == "admitted"
    desk.settle(late, Charge(usd=CENT), now=tomorrow)
    assert code(desk.ask("0.00", now=tomorrow)) == "admitted"
    assert code(desk.ask("0.01", now=tomorrow)) == "insufficient_quota"


def test_a_restart_and_other_workers_are_known_from_the_ledger(path: Path) -> None:
    desk = KeyDesk(path, budget_usd_per_day=10 * CENT)
    for i, usd in enumerate(["0.02", "0.03", None]):
        book(desk.ledger, f"r{i}", usd)
    book(desk.ledger, "old", "5", at=NOON - timedelta(days=1))
    book(desk.ledger, "other", "5", key_id="bob")
    assert code(desk.ask("0.05")) == "insufficient_quota"
    assert code(desk.ask("0.04")) == "admitted"


def book(
    ledger: Ledger, name: str, usd: str | None, *, at: datetime = NOON, key_id: str = "alice"
) -> None:
    charge = Charge(usd=None if usd is None else Decimal(usd))
    call = Attempt(rung="small", role=Role.ANSWER, charge=charge)
    ledger.append(
        Entry(
            request_id=name,
            time=at,
            status=Status.OK,
            rung="small",
            reference_rung="big",
            attempts=(call,),
            key_id=key_id,
        )
    )


def test_what_is_booked_and_not_yet_settled_counts_once(path: Path) -> None:
    desk = KeyDesk(path, budget_usd_per_day=10 * CENT)
    admitted = desk.ask("0.05")
    book(desk.ledger, admitted.request_id, "0.04")
    desk.limiter = desk.replica()
    desk.settle(admitted, Charge(usd=Decimal("0.04")))
    assert code(desk.ask("0.07")) == "insufficient_quota"
    assert code(desk.ask("0.06")) == "admitted"


def test_a_clock_that_jumps_to_another_day_and_back_locks_nobody_out(path: Path) -> None:
    desk = KeyDesk(path, budget_usd_per_day=CENT)
    ahead = NOON + timedelta(days=30)
    desk.settle(desk.ask("0.01", now=ahead), Charge(usd=CENT), now=ahead)
    assert code(desk.ask("0.01", now=ahead)) == "insufficient_quota"
    assert code(desk.ask("0.01")) == "admitted"


def test_what_a_dead_worker_had_in_flight_counts_as_spent(path: Path) -> None:
    desk = KeyDesk(path, budget_usd_per_day=10 * CENT)
    lost = desk.ask("0.06")
    desk.limiter = desk.replica()
    desk.now_s += 601.0
    assert code(desk.ask("0.05")) == "insufficient_quota"
    desk.settle(lost, Charge(usd=CENT))  # it was only slow
    assert code(desk.ask("0.09")) == "admitted"


def test_replicas_on_one_postgresql_cannot_overspend_a_key_together(
    path: Path, postgresql: str
) -> None:
    where = new_schema(postgresql)
    desk = KeyDesk(path, ledger=where, budget_usd_per_day=10 * CENT, requests_per_minute=200)
    replicas = [desk.replica() for _ in range(3)]
    now = datetime.now(UTC)
    with ThreadPoolExecutor(8) as pool:
        asks = [pool.submit(desk.ask, "0.01", limiter=replicas[i % 3], now=now) for i in range(60)]
        codes = Counter(code(ask.result()) for ask in asks)
    desk.ledger.close()
    assert codes == {"admitted": 10, "insufficient_quota": 50}


def test_a_reloaded_file_keeps_what_was_used_and_drops_who_is_out(path: Path) -> None:
    desk = KeyDesk(path, budget_usd_per_day=CENT)
    desk.spend("0.01", worst="0.01")
    add_key(path, "bob", limits=KeyLimits())
    desk.limiter.reload(ring(path))
    assert code(desk.ask("0.01")) == "insufficient_quota"
    revoke_key(path, "alice")
    desk.limiter.reload(ring(path))
    assert desk.limiter.ring.find(desk.key) is None


async def test_requests_wait_while_what_is_in_flight_takes_up_the_budget(path: Path) -> None:
    """Ten at once, each reserved at four times its cost, spend what their budget has room for."""
    desk = KeyDesk(path, budget_usd_per_day=3 * CENT)
    admissions, limiter = AdmissionDesk(desk.limiter), desk.limiter

    async def ask(number: int) -> str:
        key = limiter.ring.find(desk.key)
        admission = Admission(key=key, request_id=f"w{number}")
        decision = await admissions.decide(Wish(admission=admission, usd=2 * CENT))
        if isinstance(decision, Refused):
            return f"{decision.code} {decision.passing}"
        await asyncio.sleep(0.02)
        charge = Charge(usd=CENT / 2)
        admissions.settle(Settlement(admission=decision, charge=charge))
        return "admitted"

    ends = Counter(await asyncio.gather(*(ask(i) for i in range(10))))
    await admissions.close()
    assert ends == {"admitted": 3, "insufficient_quota False": 7}


# -- what a request can cost ---------------------------------------------------------------------


@pytest.fixture
def pipeline(tmp_path: Path) -> Iterator[Pipeline]:
    config = parse_config(CONFIG.format(trials="unused"))
    with Ledger.open(tmp_path / "books.db") as ledger:
        yield build_pipeline(config, engines={}, ledger=ledger, bundle=None)


async def reserved(
    pipeline: Pipeline, path: Path, *, rung: Rung | None = None, params: JSON | None = None
) -> Decimal:
    """Say what 6 bytes of role and text reserve for up to 94 tokens, at 1e-6 a token."""
    secret = add_key(path, "alice", limits=KeyLimits(budget_usd_per_day=Decimal(1)))
    desk = AdmissionDesk(KeyLimiter(ring(path), ledger=pipeline.ledger, assumed_usd=CENT))
    access = Access(desk, assumed_tokens=994)
    request = Request(
        request_id="r",
        messages=({"role": "user", "content": "Hi"},),
        params={"max_tokens": 94} if params is None else params,
    )
    chat = ChatRequest(request=request, model="m", stream=False, wants_usage=False, rung=rung)
    key = access.authenticate({b"authorization": f"Bearer {secret}".encode()}, "chat")
    entered = await access.enter(key, request_id="r")
    admitted = await access.reserve(entered, chat, pipeline, models={})
    await access.close()
    assert admitted is not None
    return admitted.reserved_usd


async def test_a_bounded_request_reserves_its_worst_case(pipeline: Pipeline, path: Path) -> None:
    assert await reserved(pipeline, path) == Decimal("0.0001")


@pytest.mark.parametrize(("name", "usd"), [("small", "0.0002"), ("big", "0.0001")])
async def test_a_rung_that_may_be_asked_twice_reserves_twice(
    pipeline: Pipeline, path: Path, name: str, usd: str
) -> None:
    hedged = dataclasses.replace(pipeline, hedge_after_s={"small": 1.0})
    assert await reserved(hedged, path, rung=pipeline.ladder.rung(name)) == Decimal(usd)


async def test_a_rung_that_reads_its_prompt_anew_has_no_known_worst_case(
    pipeline: Pipeline, path: Path
) -> None:
    stopped = replace(pipeline.ladder.reference, early_stop="stop")
    assert await reserved(pipeline, path, rung=stopped) == CENT


async def test_a_request_without_a_limit_reserves_that_of_its_rung(
    pipeline: Pipeline, path: Path
) -> None:
    limited = replace(pipeline.ladder.reference, max_output_tokens=44)
    assert await reserved(pipeline, path, rung=limited, params={}) == Decimal("0.00005")


async def test_a_request_that_nothing_limits_reserves_the_assumed_length(
    pipeline: Pipeline, path: Path
) -> None:
    assert await reserved(pipeline, path, params={"n": 2, "best_of": 3}) == Decimal("0.002988")
