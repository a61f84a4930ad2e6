"""Groups that a policy tells from the text: certified as they are told, for unchanged clients."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from gateway_support import site
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from suffice.certify.bundle import load_bundle, save_bundle
from suffice.certify.target import GroupSource
from suffice.features.groups import PREFIX, learn_text_groups
from suffice.policy import load_policy
from suffice.types import Trial
from support import make_trials, settle_trials

TEXTS = ["add 2 and 3", "add 5 and 9", "sue the tenant", "sue the landlord"]
GROUPS = ["sums", "sums", "law", "law"]


def trials(*, told: bool = True) -> list[Trial]:
    """Make trials whose text tells the group, one in fifty wrongly."""
    words = {"sums": "Add the numbers.", "riddles": "Solve the riddle."}
    other = {"sums": "riddles", "riddles": "sums"}

    def text(trial: Trial) -> str:
        group = str(trial.group)
        wrong = int(trial.request_id[1:]) % 50 == 0
        return f"{words[other[group] if wrong else group] if told else ''} {trial.text}"

    return [replace(trial, text=text(trial)) for trial in make_trials()]


def test_words_tell_the_group() -> None:
    told = learn_text_groups(TEXTS, GROUPS)
    assert told is not None
    assert told.group_of("please add 7") == "text:sums"
    assert told.group_of("may I sue?") == "text:law"


@pytest.mark.parametrize("groups", [[None] * 4, ["one"] * 4, ["one", None, "one", None]])
def test_one_group_or_none_needs_no_classifier(groups: Sequence[str | None]) -> None:
    assert learn_text_groups(TEXTS, groups) is None


@given(st.text())
def test_every_text_has_one_of_the_groups(text: str) -> None:
    told = learn_text_groups(TEXTS, GROUPS)
    assert told is not None
    assert told.group_of(text) in told.names


def test_groups_from_the_books_are_not_named_twice() -> None:
    told = learn_text_groups(TEXTS, [PREFIX + group for group in GROUPS])
    assert told is not None
    assert told.names == ("text:law", "text:sums")


def test_a_certificate_covers_the_groups_as_they_are_told(tmp_path: Path) -> None:
    certification = settle_trials(trials(), groups=GroupSource.TEXT)
    bundle = certification.bundle
    assert bundle is not None
    assert bundle.certificate.terms.scope.groups == ("text:riddles", "text:sums")
    told = bundle.policy.text_groups
    assert told is not None
    reported = certification.certified.reported
    assert reported.groups == tuple(map(told.group_of, reported.texts))
    save_bundle(tmp_path, bundle)
    again = load_bundle(tmp_path).policy.text_groups
    assert again is not None
    assert [again.group_of(text) for text in TEXTS] == [told.group_of(text) for text in TEXTS]
    assert load_policy(tmp_path / "policy.msgpack").text_groups is not None


def test_groups_told_by_a_gateway_are_told_again_when_it_is_certified_anew() -> None:
    from_books = [replace(trial, group=f"{PREFIX}{trial.group}") for trial in trials()]
    bundle = settle_trials(from_books).bundle
    assert bundle is not None
    assert bundle.policy.text_groups is not None
    assert bundle.certificate.terms.scope.groups == ("text:riddles", "text:sums")


def test_a_certificate_without_groups_covers_every_request() -> None:
    bundle = settle_trials(trials(), groups=GroupSource.NONE).bundle
    assert bundle is not None
    assert bundle.certificate.terms.scope.groups == ()
    assert bundle.about_groups() == []


@pytest.mark.parametrize(
    ("source", "headers", "certified", "ignored"),
    [
        (GroupSource.DECLARED, {}, False, None),
        (GroupSource.DECLARED, {"x-suffice-group": "sums"}, True, None),
        (GroupSource.TEXT, {}, True, None),
        (GroupSource.TEXT, {"x-suffice-group": "sums"}, True, "x-suffice-group"),
        (GroupSource.NONE, {}, True, None),
    ],
)
async def test_an_unchanged_client_saves_where_the_policy_tells_the_group(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    source: GroupSource,
    headers: dict[str, str],
    certified: bool,
    ignored: str | None,
) -> None:
    monkeypatch.setenv("STUB_KEY", "sk-upstream-secret")
    bundle = settle_trials(trials(), groups=source).bundle
    assert bundle is not None
    body = {
        "model": "suffice",
        "messages": [{"role": "user", "content": "Add the numbers. What is 2 + 2?"}],
    }
    async with site(tmp_path, bundle=bundle) as here:
        url = f"{here.url}/v1/chat/completions"
        async with here.http.post(url, json=body, headers=headers) as response:
            told = await response.json()
            assert response.status == 200, told
            assert (response.headers["x-suffice-certificate"] != "none") is certified
            assert response.headers.get("x-suffice-ignored") == ignored
        group = here.rows()[-1]["group_name"]
    expected = {GroupSource.TEXT: "text:sums", GroupSource.NONE: None}
    assert group == expected.get(source, headers.get("x-suffice-group"))
