"""A policy that is rolled out by session: sticky, written down, and stopped by bad outcomes."""

from itertools import zip_longest
from pathlib import Path

import numpy as np
import pytest
from gateway_support import CHAT, Site, site
from msgspec.structs import replace

from suffice.certify.bundle import Bundle
from suffice.certify.by_outcomes import _path_of
from suffice.certify.rollout import compare_arms
from suffice.guarantee import Per, content_hash
from suffice.ledger import Ledger
from suffice.ledger.outcomes import arm_outcomes
from suffice.policy import policy_hash
from support import make_trials, settle_trials

HALF = "rollout = 0.5\n"


@pytest.fixture(scope="module")
def always_small() -> Bundle:
    right = [replace(t, quality=1.0, answer="4", group=None) for t in make_trials(requests=300)]
    bundle = settle_trials(right).bundle
    assert bundle is not None
    return bundle


async def rung_of(here: Site, session: str) -> tuple[str, str]:
    ask = {"model": "suffice", "messages": [{"role": "user", "content": "Hi"}]}
    status, answer = await here.post(ask, path=CHAT, **{"x-session-id": session})
    assert status == 200
    return answer["suffice"]["rung"], answer["suffice"].get("fallback") or ""


async def say(here: Site, session: str, score: float) -> None:
    said = {"session": session, "score": score, "kind": "tests"}
    assert (await here.post(said, path="/v1/outcomes"))[0] == 200


@pytest.mark.slow
async def test_arms_are_sticky_written_down_and_stopped(
    tmp_path: Path, always_small: Bundle
) -> None:
    async with site(tmp_path, more=HALF, bundle=always_small) as here:
        first = {f"s{i}": await rung_of(here, f"s{i}") for i in range(44)}
        assert {rung for rung, _ in first.values()} == {"small", "big"}
        again = [f"s{i}" for i in range(5)]
        assert [await rung_of(here, name) for name in again] == [first[name] for name in again]
        for rung, fallback in first.values():
            assert (rung == "small") == (fallback == "")
            assert rung == "small" or "does not choose for this session" in fallback
        for row in here.rows():
            assert (row["arm"], row["wish"]) == (
                "policy" if row["rung"] == "small" else "reference",
                "small",
            )
            assert (row["arm_chance"], row["turn"]) == (0.5, 1)
        assert (await here.chat(model="big")).suffice["rung"] == "big"
        assert here.rows()[-1]["arm"] is None, "a named rung takes no part"
        by_policy = [name for name, (rung, _) in first.items() if rung == "small"]
        others = [name for name in first if name not in by_policy]
        for pair in zip_longest(by_policy, others):
            for name, score in zip(pair, (0.0, 1.0), strict=True):
                if name is not None:
                    await say(here, name, score)
        await here.gateway.worker.refresh_rollout()
        rung, fallback = await rung_of(here, by_policy[0])
        assert rung == "big"
        assert "ended the roll-out" in fallback
        with Ledger.open(here.ledger, read_only=True) as ledger:
            records = arm_outcomes(ledger, kind="tests")
        assert len(records) == 44
        result = compare_arms(records, alpha=0.05, delta=0.1, candidate=None)
        assert result.stopped
        assert {arm: one.mean for arm, one in result.arms.items()} == {
            "policy": 0.0,
            "reference": 1.0,
        }


async def test_a_candidate_is_estimated_from_the_same_sessions(
    tmp_path: Path, always_small: Bundle
) -> None:
    async with site(tmp_path, more=HALF + "store_text = true\n", bundle=always_small) as here:
        for number in range(12):
            rung, _ = await rung_of(here, f"s{number}")
            await say(here, f"s{number}", 0.25 if rung == "small" else 0.75)
        with Ledger.open(here.ledger, read_only=True) as ledger:
            records = arm_outcomes(ledger)
    candidate = tmp_path / "bundle"
    estimate = compare_arms(records, alpha=0.9, delta=0.1, candidate=candidate).candidate
    assert estimate is not None
    assert estimate.score == pytest.approx(0.25, abs=1e-9)


@pytest.mark.parametrize("route_by", ["request", "session"])
async def test_a_part_of_the_sessions_is_one_of_whole_sessions(
    tmp_path: Path, always_small: Bundle, route_by: str
) -> None:
    """Where each request were drawn for by itself, nearly every long session would be touched."""
    right = [replace(t, quality=1.0, answer="4", group=None) for t in make_trials(requests=300)]
    whole = settle_trials(right, per=Per.SESSION).bundle
    assert whole is not None
    policy = _path_of(whole.policy, np.array([0.5])).at(1)
    terms = replace(whole.certificate.terms, policy_hash=policy_hash(policy))
    draft = replace(whole.certificate, terms=terms, certificate_id="")
    certificate = replace(draft, certificate_id=content_hash(draft)[:32])
    half = replace(whole, policy=policy, certificate=certificate)
    async with site(tmp_path, more=f'route_by = "{route_by}"\n', bundle=half) as here:
        rungs = [{(await rung_of(here, f"s{n}"))[0] for _ in range(4)} for n in range(8)]
        assert {len(own) for own in rungs} == {1}
        assert set.union(*rungs) == {"small", "big"}
