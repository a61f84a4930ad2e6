import gzip
import json
from pathlib import Path

import pytest
from tiny_llama import CHATML, OPENING, PAIRS, TURN, conversation, cut, tokenizer

from suffice.errors import InputError
from suffice.jepa.views import examples, read_conversations

NO_END = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\\n' }}{% endfor %}" + (
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
THINKS = CHATML.replace(
    "m['content']", "('(no thought)' if m['role'] == 'assistant' else '') + m['content']"
)
OPENS_DIFFERENTLY = CHATML.replace("'<start>assistant\\n'", "'<start>assistant\\nSo: '")


def row(*messages: tuple[str, str]) -> str:
    return json.dumps({"messages": [{"role": r, "content": c} for r, c in messages]})


GOOD = row(("user", "a vowel"), ("assistant", " [aeiou]\n"))


def test_rows_are_read_plain_or_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(f"{GOOD}\n\n{GOOD}\n")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(GOOD.encode()))
    assert len(read_conversations(tmp_path / "a.jsonl")) == 2
    assert len(read_conversations(tmp_path / "a.jsonl", rows=1)) == 1
    (found,) = read_conversations(tmp_path / "a.jsonl.gz")
    assert found.answer == "[aeiou]"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{}", "no conversation"),
        (row(("user", "a"), ("assistant", "  ")), "empty answer"),
        (row(("assistant", "a"), ("user", "b")), "does not end with an answer"),
        (row(("assistant", "a")), "does not end with an answer"),
        ('{"messages": [{"role": "user"}]}', "no conversation"),
        ("", "holds no conversation"),
    ],
)
def test_a_bad_row_is_named(line: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n{line}\n" if line else "\n")
    with pytest.raises(InputError, match=says) as caught:
        read_conversations(path)
    assert not line or "rows.jsonl:2" in caught.value.message


@pytest.mark.parametrize("name", ["absent.jsonl", "not.jsonl.gz"])
def test_an_unreadable_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "not.jsonl.gz").write_text("plain")
    with pytest.raises(InputError, match=name):
        read_conversations(tmp_path / name)


@pytest.mark.torch
def test_the_template_says_where_the_answer_stands() -> None:
    words = tokenizer()
    asked = conversation("a vowel", "[aeiou]")
    (example,) = examples([asked], tokenizer=words)
    prompt = words.apply_chat_template(
        list(asked.messages[:-1]), tokenize=False, add_generation_prompt=True
    )
    assert words.decode(example.prompt) == prompt
    assert words.decode(example.answer) == "[aeiou]"
    assert words.decode([example.end]) == "<end>"
    assert words.decode(example.rest) == "\n"


@pytest.mark.torch
def test_what_a_template_writes_before_an_answer_belongs_to_the_prompt() -> None:
    words = tokenizer(template=THINKS)
    (example,) = examples([conversation("a vowel", "[aeiou]")], tokenizer=words)
    assert words.decode(example.prompt).endswith("assistant\n(no thought)")
    assert words.decode(example.answer) == "[aeiou]"


@pytest.mark.torch
def test_a_token_across_the_seam_is_cut_as_generation_sees_it() -> None:
    words = tokenizer()
    (example,) = examples([conversation("a vowel", "\n[aeiou]")], tokenizer=words)
    assert words.decode(example.prompt[-1:]) == "\n"
    assert words.decode(example.answer) == "\n[aeiou]"
    assert example.text == "[aeiou]"


@pytest.mark.torch
def test_earlier_answers_belong_to_the_prompt() -> None:
    words = tokenizer()
    asked = conversation("b", "y")
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "y"})
    longer = type(asked)(messages=(*turns, *asked.messages[1:]), where="here")
    (example,) = examples([longer], tokenizer=words)
    assert words.decode(example.prompt).count("assistant") == 2
    assert words.decode(example.answer) == "y"


@pytest.mark.torch
@pytest.mark.parametrize(
    ("template", "says"),
    [
        (None, "no chat template"),
        (NO_END, "no special token after an answer"),
        (OPENS_DIFFERENTLY, "differs from the start of generation"),
        (CHATML.replace("m['content']", "m['content'] | upper"), "cannot be split"),
        (CHATML.replace("m['content']", "m['content'][:3]"), "cannot be split"),
        ("{% for m in messages[:-1] %}" + TURN + "{% endfor %}" + OPENING, "cannot be split"),
        ("{{ raise_exception('no system role') }}", "no system role"),
    ],
)
def test_a_template_that_cannot_be_split_is_refused(template: str | None, says: str) -> None:
    with pytest.raises(InputError, match=says):
        examples([conversation("a vowel", "[aeiou]")], tokenizer=tokenizer(template=template))


@pytest.mark.torch
def test_a_conversation_longer_than_the_context_is_refused() -> None:
    (example,) = cut(PAIRS[0])
    asked = [conversation(*PAIRS[0])]
    examples(asked, tokenizer=tokenizer(), max_tokens=example.tokens)
    with pytest.raises(InputError, match=r"rows\.jsonl:1: .* 7 of them"):
        examples(asked, tokenizer=tokenizer(), max_tokens=example.tokens - 1)
