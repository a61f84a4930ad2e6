"""The claims: every one complete, dated and sourced, with a command that exists to measure it."""

import datetime as dt
import json
import re
import shlex
from pathlib import Path

import pytest
from msgspec import json as msgspec_json

from suffice.cli.main import command_tree, main
from suffice.errors import ConfigError, InputError
from suffice.evidence import GRADES, Claim, claims, find_claim
from suffice.evidence.claims import parse_claims

DOCS = Path(__file__).parents[2] / "docs"
CLAIM = """
[[claim]]
id = "a"
claim = "x"
who = "x"
baseline = "x"
workload = "x"
share_of_cost = "x"
grade = "no source"
verdict = "not shown"
date = 2026-03-01
source = ["https://example.com"]
evidence = "x"
where = "suffice forecast"
"""


def by_id(claim: Claim) -> str:
    return claim.id


def test_there_are_24_claims() -> None:
    assert len(claims()) == 24


@pytest.mark.parametrize("claim", claims(), ids=by_id)
def test_every_claim_is_dated_sourced_and_graded(claim: Claim) -> None:
    assert claim.grade in GRADES
    assert dt.date(2025, 1, 1) <= claim.date <= dt.date(2026, 11, 23)
    for address in claim.source:
        assert re.fullmatch(r"https://[\w.-]+\.[a-z]{2,}(/[\w./?=&#-]*)?", address)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", claim.id)
    assert claim.claim.endswith(".")
    assert claim.evidence.endswith(".")
    if claim.low is not None:
        assert claim.unit
        assert claim.low <= claim.high
    if claim.grade == "no source":
        assert claim.low is None


@pytest.mark.parametrize("claim", claims(), ids=by_id)
def test_the_command_to_measure_it_exists(claim: Claim) -> None:
    check_command(claim.where)


def mission_rows() -> list[list[str]]:
    """Read the table of factors in docs/claims.md."""
    text = (DOCS / "claims.md").read_text("utf-8").partition("## The mission")[2]
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]  # without the header


@pytest.mark.parametrize("row", mission_rows(), ids=lambda row: row[0])
def test_every_factor_of_the_mission_has_a_command_a_page_and_a_figure(row: list[str]) -> None:
    name, what, command, page, figure = row
    assert name
    assert what
    assert figure
    check_command(command.strip("`"))
    link = re.fullmatch(r"\[[\w ]+\]\(([\w-]+\.md)(#[\w-]+)?\)", page)
    assert link is not None
    text = (DOCS / link[1]).read_text("utf-8")
    if link[2]:
        titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        assert link[2][1:] in {re.sub(r"[^a-z0-9]+", "-", title.lower()) for title in titles}
    assert link[1] in (DOCS.parent / "mkdocs.yml").read_text("utf-8")


def test_the_mission_has_its_three_vectors_and_the_output() -> None:
    names = " ".join(row[0] for row in mission_rows())
    for factor in ("architecture", "output", "silicon", "paradigm", "all together"):
        assert factor in names


def check_command(line: str) -> None:
    """Check that a command line could be typed: its words, options and number of arguments."""
    words = shlex.split(line)
    assert words.pop(0) == "suffice"
    command = command_tree()
    while words and hasattr(command, "commands") and words[0] in command.commands:
        command = command.commands[words.pop(0)]
    assert command.name in line.split()
    options = {name: p for p in command.params for name in p.opts if name.startswith("--")}
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    values = 0
    for position, word in enumerate(words):
        if word.startswith("--"):
            assert word in options, f"{line}: {word}"
        elif position == 0 or not words[position - 1].startswith("--"):
            values += 1
    assert sum(p.required for p in arguments) <= values <= len(arguments)


def test_a_claim_is_found_by_its_id() -> None:
    assert find_claim("mtia-25x").high == 8.33
    with pytest.raises(InputError, match="mtia") as caught:
        find_claim("mtia-25")
    assert "mtia-25x" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (('grade = "no source"', ""), "grade"),
        (('grade = "no source"', 'grade = "sure"'), "grade"),
        (('evidence = "x"', 'evidence = " "'), "evidence"),
        (('["https://example.com"]', "[]"), "source"),
        (("date = 2026-03-01", 'date = "March"'), "date"),
        (('id = "a"', 'id = "a"\nlow = 2.0'), "half a range"),
        (('id = "a"', 'id = "a"\nlow = 2.0\nhigh = 1.0\nunit = "times"'), "low is above high"),
        (('id = "a"', 'id = "a"\nnew = 1'), "new"),
    ],
)
def test_half_a_claim_is_refused(change: tuple[str, str], complaint: str) -> None:
    assert parse_claims(CLAIM)[0].id == "a"
    with pytest.raises(ConfigError, match=complaint):
        parse_claims(CLAIM.replace(*change))


def test_two_claims_cannot_share_an_id() -> None:
    with pytest.raises(ConfigError, match="twice"):
        parse_claims(CLAIM + CLAIM)


def test_claims_are_printed_in_full_as_text_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    run("claims", capsys)
    text = capsys.readouterr().out
    for claim in claims():
        assert claim.id in text
        assert claim.where in text
    run("claims --json", capsys)
    printed = json.loads(capsys.readouterr().out)["claims"]
    assert msgspec_json.decode(json.dumps(printed), type=tuple[Claim, ...]) == claims()
    run("claims by-2027", capsys)
    assert "2511.23455" in capsys.readouterr().out


def test_forecast_and_contract_print_what_they_found(capsys: pytest.CaptureFixture[str]) -> None:
    run("forecast --until 2027-06 --paths 500", capsys)
    assert "chip and model kept" in capsys.readouterr().out
    run("forecast --hosted --until 2027-06 --paths 500 --json", capsys)
    assert json.loads(capsys.readouterr().out)["price_kind"] == "hosted"
    run("contract --paths 500", capsys)
    assert "dearer than hindsight" in capsys.readouterr().out
    run("contract --paths 500 --contract 1 --lasts 1 --json", capsys)
    assert json.loads(capsys.readouterr().out)["choice"] == "reserve"


def run(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(shlex.split(command))
    assert not end.value.code
