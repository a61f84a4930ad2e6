"""From a conversation to token ids, cut into prompt, answer, and end of turn.

The chat template determines the cuts. A conversation is rendered with a marker as its answer: the
text before the marker is the prompt, and the text after it closes the turn. No position is a
constant of a model, and no label depends on the value of a token. So a tokenizer whose pad token is
its end token works too.
"""

import gzip
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from suffice.errors import InputError
from suffice.types import JSON

Tokenizer = Any  # a transformers tokenizer; its class cannot be named without importing it

_MARKER = "\u2042answer\u2042"


class Conversation(Struct, frozen=True, kw_only=True):
    """Messages in the OpenAI form, the last by the assistant; `where` is its file and line."""

    messages: tuple[JSON, ...]
    where: str

    @property
    def answer(self) -> str:
        """The text that the model learns."""
        return str(self.messages[-1]["content"]).strip()


class TokenizedChat(Struct, frozen=True, kw_only=True):
    """One conversation as token ids, cut according to the chat template.

    Generation starts after `prompt`. `answer` holds the tokens to learn, `end` is the special token
    that closes the turn, and `rest` the tokens that the template writes after it.
    """

    prompt: tuple[int, ...]
    answer: tuple[int, ...]
    end: int
    rest: tuple[int, ...]
    text: str

    @property
    def tokens(self) -> int:
        """The length of the whole conversation, in tokens."""
        return len(self.prompt) + len(self.answer) + 1 + len(self.rest)


class _Frame(Struct, frozen=True, kw_only=True):
    """A rendered conversation: `text` consists of `head`, the answer and `tail`."""

    head: str
    tail: str
    text: str


def read_conversations(path: Path, *, rows: int | None = None) -> list[Conversation]:
    """Read a JSONL file (or .gz) of `{"messages": [...]}`, all of it or the first `rows`.

    Raises InputError naming a line that is not JSON, holds no conversation, does not end with an
    assistant's message, or has an empty answer.
    """
    conversations: list[Conversation] = []
    for number, line in enumerate(_lines(path), start=1):
        if rows is not None and len(conversations) == rows:
            break
        if line.strip():
            conversations.append(_conversation(line, where=f"{path}:{number}"))
    if not conversations:
        raise InputError(f"{path} holds no conversation", hint='write {"messages": [...]} lines')
    return conversations


def examples(
    conversations: Sequence[Conversation], *, tokenizer: Tokenizer, max_tokens: int | None = None
) -> list[TokenizedChat]:
    """Tokenize conversations.

    Raises InputError if the chat template cannot be split into prompt, answer and end, or if a
    conversation is longer than `max_tokens`; truncation would remove the end token.
    """
    frames = [_frame(c, tokenizer=tokenizer) for c in conversations]
    prompts = _ids(tokenizer, [f.head for f in frames])
    wholes = _ids(tokenizer, [f.text for f in frames])
    closings = {f.tail: _closing(f.tail, tokenizer=tokenizer) for f in frames}
    chats = []
    for conversation, frame, prompt, whole in zip(
        conversations, frames, prompts, wholes, strict=True
    ):
        after = whole[len(prompt) :]
        if whole[: len(prompt)] != prompt:  # a token spans the cut; generation never writes it
            (after,) = _ids(tokenizer, [frame.text[len(frame.head) :]])
        example = _cut(conversation, prompt=prompt, after=after, closing=closings[frame.tail])
        if max_tokens is not None and example.tokens > max_tokens:
            raise InputError(
                f"{conversation.where}: the conversation has {example.tokens} tokens, "
                f"{len(example.answer)} of them the answer's; the limit is {max_tokens}",
                hint="drop the row or raise --max-tokens; a cut answer does not teach to stop",
            )
        chats.append(example)
    return chats


def special_ids(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the ids of special tokens; only they can end an answer."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(tokenizer.all_special_ids) | {i for i, token in added if token.special}


def _lines(path: Path) -> list[str]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(
            f"cannot read {path}: {error}", hint="a JSONL file in UTF-8, or the same as .gz"
        ) from error
    return text.splitlines()


def _conversation(line: str, *, where: str) -> Conversation:
    try:
        row = msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InputError(
            f"{where} is not a JSON object: {error}", hint="write one object per line"
        ) from error
    messages = row.get("messages")
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise InputError(
            f"{where} holds no conversation",
            hint='write {"messages": [{"role": "user", "content": "..."}, ...]}',
        )
    if len(messages) < 2 or messages[-1]["role"] != "assistant":
        raise InputError(
            f"{where} does not end with an answer", hint="the last message must be the assistant's"
        )
    if not messages[-1]["content"].strip():
        raise InputError(f"{where} has an empty answer", hint="drop the row, or give it an answer")
    return Conversation(messages=tuple(messages), where=where)


def _is_message(message: object) -> bool:
    return (
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
    )


def _frame(conversation: Conversation, *, tokenizer: Tokenizer) -> _Frame:
    """Render a conversation, and find its answer by a second rendering with a marker."""
    messages, where = list(conversation.messages), conversation.where
    marked = [*messages[:-1], {**messages[-1], "content": _MARKER}]
    head, marker, tail = _render(marked, tokenizer, where=where).rpartition(_MARKER)
    opening = _render(messages[:-1], tokenizer, where=where, opening=True)
    if not marker or not head.startswith(opening):
        raise _unsplittable(
            conversation, "its text before an answer differs from the start of generation"
        )
    text = _render(messages, tokenizer, where=where)
    answer = text[len(head) : len(text) - len(tail)]
    if text != head + answer + tail or answer.strip() != conversation.answer:
        raise _unsplittable(conversation, "it changes the answer, or the text around it")
    return _Frame(head=head, tail=tail, text=text)


def _closing(tail: str, *, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the tokens after the answer from the first special one on; empty without one."""
    (ids,), special = _ids(tokenizer, [tail]), special_ids(tokenizer)
    stop = next((i for i, token in enumerate(ids) if token in special), len(ids))
    return ids[stop:]


def _cut(
    conversation: Conversation,
    *,
    prompt: tuple[int, ...],
    after: tuple[int, ...],
    closing: tuple[int, ...],
) -> TokenizedChat:
    if not closing:
        raise _unsplittable(conversation, "it writes no special token after an answer to stop at")
    if after[-len(closing) :] != closing:
        raise _unsplittable(conversation, "the tokens that close a turn depend on the answer")
    answer = after[: -len(closing)]
    if not prompt or not answer:
        raise _unsplittable(conversation, "its prompt or its answer has no token")
    return TokenizedChat(
        prompt=prompt,
        answer=answer,
        end=closing[0],
        rest=closing[1:],
        text=conversation.answer,
    )


def _render(
    messages: list[JSON], tokenizer: Tokenizer, *, where: str, opening: bool = False
) -> str:
    if not tokenizer.chat_template:
        raise InputError(
            "the tokenizer has no chat template", hint="use an instruct model, or set a template"
        )
    from jinja2 import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=opening)
        )
    except TemplateError as error:
        raise InputError(
            f"{where}: the chat template refuses the conversation: {error}",
            hint="check the roles, and their order, that the model's template accepts",
        ) from error


def _ids(tokenizer: Tokenizer, texts: Iterable[str]) -> list[tuple[int, ...]]:
    return [tuple(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]


def _unsplittable(conversation: Conversation, why: str) -> InputError:
    return InputError(
        f"{conversation.where}: the chat template cannot be split into prompt and answer: {why}",
        hint="use a template that writes the answer unchanged, after the generation prompt",
    )
