"""What a newcomer is shown: panels in the order of need, one wording an option, completion."""

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_support import Outcome, leaves
from rich.text import Text

from suffice.cli.main import PANELS, command_tree

OWN_WORDING = {"--out"}  # says what is written, so each command words it
TRAINING = "train"  # its options are those of another trade


def test_help_lists_every_command_in_the_order_of_need(
    command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    shown = command("", "--help")
    assert shown.status == 0
    names = [name for commands in PANELS.values() for name in commands]
    places = [shown.out.index(f"│ {name} ") for name in names]
    assert places == sorted(places)
    titles = [shown.out.index(f"─ {title} ─") for title in PANELS]
    assert titles == sorted(titles)
    assert list(PANELS) == ["Start", "Certify", "Serve", "Plan", "Train", "Evidence"]
    assert set(names) == set(command_tree().commands)
    assert shown.lines <= 60


def texts() -> list[tuple[str, str]]:
    parameters = [
        (f"{path} {parameter.name}", parameter.help)
        for path, command in leaves()
        for parameter in command.params
        if parameter.name != "help"
    ]
    return [*((path, command.help) for path, command in leaves()), *parameters]


@pytest.mark.parametrize(("what", "text"), texts(), ids=lambda value: str(value)[:30])
def test_every_help_text_is_a_sentence_that_markup_leaves_alone(what: str, text: str) -> None:
    assert text, what
    assert text.rstrip().endswith((".", "`")), what
    assert Text.from_markup(text).plain == text


def test_an_option_is_worded_once() -> None:
    wordings: dict[str, set[str]] = defaultdict(set)
    for path, command in leaves():
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and not path.startswith(TRAINING):
                    wordings[option].add(parameter.help)
    several = {option: words for option, words in wordings.items() if len(words) > 1}
    assert several.keys() == OWN_WORDING


def test_the_vocabulary_is_one() -> None:
    options = {o for _, command in leaves() for p in command.params for o in p.opts}
    assert not options & {"--policy", "--picture", "--bundle", "--plot", "--config", "--verbose"}
    assert {"--certificate", "--figure", "--ladder", "--out", "--json", "--explain"} <= options


# -- completion ----------------------------------------------------------------------------------

COMPLETE = """
export PATH={bin}:$PATH
source <(suffice --show-completion)
COMP_WORDS=({words}) COMP_CWORD={at}
_suffice_completion suffice
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("suffice cert", {"certify"}),
        ("suffice plan ca", {"calibrate"}),
        ("suffice latent ''", {"fit", "stop", "gate"}),
        ("suffice serve --cert", {"--certificate"}),
        ("suffice latent fit x --encoder m", {"minilm"}),
    ],
)
@pytest.mark.slow
def test_bash_completes_commands_options_and_choices(words: str, offered: set[str]) -> None:
    script = COMPLETE.format(
        bin=Path(sys.executable).parent, words=words, at=len(words.split()) - 1
    )
    ended = subprocess.run(["bash", "-c", script], check=True, capture_output=True, text=True)
    assert set(ended.stdout.split()) >= offered, ended.stderr


@pytest.mark.skipif(not shutil.which("bash"), reason="installs for the shell that runs it")
def test_completion_is_installed_for_the_shell_that_asks(tmp_path: Path) -> None:
    script = f"{Path(sys.executable).with_name('suffice')} --install-completion; true"
    environment = os.environ | {"HOME": str(tmp_path)}
    subprocess.run(
        ["bash", "-c", script], check=True, capture_output=True, text=True, env=environment
    )
    assert "suffice" in (tmp_path / ".bashrc").read_text()
    check = (
        f"export PATH={Path(sys.executable).parent}:$PATH; source ~/.bashrc; complete -p suffice"
    )
    ended = subprocess.run(
        ["bash", "-c", check], check=True, capture_output=True, text=True, env=environment
    )
    assert "_suffice_completion" in ended.stdout
