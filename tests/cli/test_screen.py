"""What every command prints: one screen by default, one JSON object of one shape, no escapes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from cli_support import WORDS, Outcome, leaves
from msgspec.structs import replace

from suffice import __version__
from suffice.trials.importers import read_trials
from support import make_trials, write_jsonl

LINES = 40
LEAVES = dict(leaves())
SERVES = {"serve", "launch"}  # until a signal ends it, or the client that it starts
NEEDS_TORCH = {"train jepa"}
QUICK = [path for path in LEAVES if path not in {"demo", *SERVES, *NEEDS_TORCH}]
WITH_JSON = [path for path in QUICK if any("--json" in p.opts for p in LEAVES[path].params)]
WITH_EXPLAIN = [path for path in QUICK if any("--explain" in p.opts for p in LEAVES[path].params)]
STRANGE = "\x1b[31m[/red]\x07\u202e\x9b2J[bold]"
Run = Callable[..., Outcome]


def test_every_command_has_small_inputs() -> None:
    assert WORDS.keys() == LEAVES.keys()


@pytest.mark.parametrize(
    "path", [*QUICK, pytest.param("demo", marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_the_default_output_fits_one_screen(path: str, workplace: Path, command: Run) -> None:
    ended = command(path, *WORDS[path].split())
    assert ended.status == 0, ended.err
    assert 0 < ended.lines <= LINES, ended.out + ended.err


def test_a_gateway_that_starts_fits_one_screen(workplace: Path) -> None:
    words = [sys.executable, "-m", "suffice", "serve", *WORDS["serve"].split()]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as served:
        lines = []
        assert served.stderr is not None
        for line in served.stderr:
            lines.append(line)
            if "serves on" in line:
                served.send_signal(signal.SIGTERM)
    assert "serves on" in "".join(lines)
    assert len(lines) <= LINES


@pytest.mark.parametrize("path", WITH_EXPLAIN)
@pytest.mark.slow
def test_explain_shows_more(path: str, workplace: Path, command: Run) -> None:
    words = WORDS[path].split()
    short, whole = command(path, *words), command(path, *words, "--explain")
    assert whole.status == short.status
    assert whole.lines >= short.lines


def test_chips_without_a_price_are_one_line_and_like_notes_too(command: Run) -> None:
    short = command("plan", "--model", "mistral-small-4")
    assert short.out.startswith("cheapest: ")
    assert sum("without a price" in line for line in short.out.splitlines()) == 1
    assert "no price" not in short.out
    whole = command("plan", "--model", "mistral-small-4", "--explain")
    assert whole.out.count("no price") > 10
    notes = [line for line in whole.err.splitlines() if line.startswith("note: ")]
    assert any("link rate" in line and "mtia-400, " in line for line in notes)
    assert len(notes) == len({line.split(" (")[0] for line in notes})


# -- JSON ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", WITH_JSON)
def test_json_is_one_object_that_names_command_and_version(
    path: str, workplace: Path, command: Run
) -> None:
    ended = command(path, *WORDS[path].split(), "--json")
    assert ended.status == 0, ended.err
    document = ended.json
    assert list(document)[:2] == ["command", "suffice"]
    assert (document["command"], document["suffice"]) == (path, __version__)
    assert len(document) > 2


@pytest.mark.parametrize("path", WITH_JSON)
def test_wrong_options_are_json_too(path: str, workplace: Path, command: Run) -> None:
    ended = command(path, *WORDS[path].split(), "--json", "--nonsense")
    assert (ended.status, ended.out) == (2, "")
    error = json.loads(ended.err.splitlines()[-1])["error"]
    assert error["code"] == "UsageError"
    assert "--nonsense" in error["message"]
    assert error["hint"].endswith(f"{path} --help")


def test_errors_are_the_last_line_of_standard_error(workplace: Path, command: Run) -> None:
    ended = command("certify", "gone.jsonl", "--reference", "big", "--json")
    assert (ended.status, ended.out) == (2, "")
    error = json.loads(ended.err.splitlines()[-1])["error"]
    assert error.keys() == {"message", "hint", "code"}
    assert error["code"] == "InputError"
    assert "cannot read gone.jsonl" in error["message"]
    written = command("certify", *WORDS["certify"].split(), "--json", "--out", "suffice.toml/x")
    assert written.json["certified"] is True
    assert json.loads(written.err.splitlines()[-1])["error"]["code"] == "InputError"


def test_a_fault_of_suffice_ends_in_a_line_and_status_1(
    workplace: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_paths: object, **_options: object) -> None:
        raise ZeroDivisionError("no rows")

    monkeypatch.setattr("suffice.trials.importers.read_trials", fail)
    ended = command("frontier", "trials.jsonl")
    assert (ended.status, ended.out) == (1, "")
    assert ended.err.startswith("error: unexpected ZeroDivisionError: no rows (test_screen.py, ")
    assert "\nhint: " in ended.err
    monkeypatch.setenv("SUFFICE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        command("frontier", "trials.jsonl")


def test_a_reader_that_goes_away_is_no_error(workplace: Path) -> None:
    shell = f"{sys.executable} -m suffice claims --explain | head -1; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(
        ["bash", "-c", shell], check=False, capture_output=True, text=True, env=os.environ
    )
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-1] in {"0", "141"}  # by how much the pipe takes


# -- names that would steer the terminal ---------------------------------------------------------


def assert_plain(ended: Outcome) -> None:
    for text in (ended.out, ended.err):
        assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(text)
    assert "unexpected" not in ended.err


def strange_trials(folder: Path) -> list[str]:
    """Name a rung, its groups and the file in ways that steer a terminal or break markup."""
    rungs = {"small": f"small {STRANGE}", "big": f"big {STRANGE}"}
    rows = [
        replace(trial, rung=rungs[trial.rung], group=f"{trial.group} {STRANGE}")
        for trial in make_trials()
    ]
    name = f"{STRANGE.replace('/', '')}.jsonl"
    write_jsonl(folder / name, rows)
    return [name, "--reference", rungs["big"]]


@pytest.mark.parametrize("json_flag", [(), ("--json",)])
@pytest.mark.parametrize("path", ["certify", "frontier", "report"])
def test_strange_names_are_escaped(
    path: str, json_flag: tuple[str, ...], workplace: Path, command: Run
) -> None:
    name, *reference = strange_trials(workplace)
    words = () if path == "frontier" else (*reference, "--alpha", "0.1")
    ended = command(path, name, *words, *json_flag)
    assert ended.status == 0, ended.err
    assert_plain(ended)
    if json_flag:
        assert json.dumps(STRANGE, ensure_ascii=False)[1:-1] in json.dumps(
            ended.json, ensure_ascii=False
        )
    elif path != "report":
        assert "\\u001b[31m[/red]" in ended.out


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("certify", ("trials.jsonl", "--reference", STRANGE)),
        ("frontier", (f"{STRANGE}/x",)),
        ("frontier", ("trials.jsonl", STRANGE)),
        ("frontier", ("trials.jsonl", f"--{STRANGE}")),
        ("plan", ("--model", STRANGE)),
        ("plan", ("--model", "mistral-small-4", "--slo", STRANGE)),
        ("claims", (STRANGE,)),
        ("init", ("--example", STRANGE)),
        ("ladder", (f"{STRANGE}/x",)),
        ("bench", ("some.jsonl", "--ladder", "suffice.toml", "--out", "x", "--max-usd", STRANGE)),
        ("key add", (STRANGE,)),
        ("train", (STRANGE,)),
    ],
)
@pytest.mark.parametrize("json_flag", [(), ("--json",)])
def test_errors_about_strange_words_are_escaped(
    path: str, words: tuple[str, ...], json_flag: tuple[str, ...], workplace: Path, command: Run
) -> None:
    ended = command(path, *words, *json_flag)
    assert ended.status == 2
    assert_plain(ended)


def test_a_strange_ladder_is_escaped(workplace: Path, command: Run) -> None:
    text = Path("suffice.toml").read_text()
    name = msgspec.json.encode(f"small {STRANGE}").decode().replace("\x9b", "\\u009b")
    Path("suffice.toml").write_text(text.replace('"small"', name.replace("\u202e", "\\u202e")))
    for json_flag in ((), ("--json",)):
        ended = command("ladder", "suffice.toml", *json_flag)
        assert ended.status == 0, ended.err
        assert_plain(ended)


def test_a_file_name_that_is_not_utf_8_is_an_error_or_escaped(
    workplace: Path, command: Run
) -> None:
    name = os.fsdecode(b"\xff.jsonl")
    write_jsonl(Path(name), read_trials("trials.jsonl"))
    people = command("report", name, "--out", os.fsdecode(b"\xff.html"))
    assert people.status == 0, people.err
    assert "\\udcff.html" in people.err
    program = command("report", name, "--json")
    assert program.status == 2
    assert "not UTF-8" in program.err
