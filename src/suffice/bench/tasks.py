"""Tasks: a request, and how its answer is marked; read from JSONL."""

from typing import Any

from msgspec import Struct

from suffice.errors import InputError
from suffice.scoring.scorers import check_scorer
from suffice.trials.jsonl import PathLike, convert_row, decode_object, read_lines, refuse_unknown
from suffice.types import JSON, Request


class Task(Struct, frozen=True, kw_only=True):
    """A request with the target of its scorer; without a scorer its answers are unscored.

    Tasks of one `cluster` (a conversation, a session, a stream) are no independent draws.
    """

    request: Request
    target: Any = None
    scorer: str | None = None
    options: JSON = {}
    cluster: str | None = None


class _Row(Struct, frozen=True, kw_only=True):
    """One line of a task file; `text` stands for a single user message."""

    request_id: str
    text: str | None = None
    messages: tuple[JSON, ...] | None = None
    group: str | None = None
    cluster: str | None = None
    target: Any = None
    scorer: str | None = None
    options: JSON = {}
    params: JSON = {}


def read_tasks(path: PathLike, *, allow_code: bool = False) -> tuple[Task, ...]:
    """Read a JSONL file of tasks; raises InputError with the line number and the field.

    A scorer `package.module:function` is code that the file names: it is refused, and its module
    not imported, without `allow_code`.
    """
    tasks: list[Task] = []
    seen: dict[str, int] = {}
    for number, line in read_lines(path):
        at = f"{path}, line {number}"
        row = decode_object(line, at=at)
        refuse_unknown(row, _Row, at=at)
        task = _task(convert_row(row, _Row, at=at), at=at, allow_code=allow_code)
        first = seen.setdefault(task.request.request_id, number)
        if first != number:
            raise InputError(
                f"{at}: request_id {task.request.request_id!r} is that of line {first}",
                hint="give each request its own id",
            )
        tasks.append(task)
    return tuple(tasks)


def _task(row: _Row, *, at: str, allow_code: bool) -> Task:
    """Check one line and turn it into a Task; raises InputError."""
    scorer = row.scorer or (None if row.target is None else "exact")
    if scorer is not None and ":" in scorer and not allow_code:
        raise InputError(
            f"{at}: the scorer {scorer!r} is code, which is given whatever a model writes",
            hint="read it, and give --allow-code if you trust it",
        )
    if scorer is not None:
        check_scorer(scorer, target=row.target, options=row.options, at=at)
    request = Request(
        request_id=row.request_id,
        messages=_messages(row, at=at),
        group=row.group,
        params=row.params,
    )
    return Task(
        request=request,
        target=row.target,
        scorer=scorer,
        options=row.options,
        cluster=row.cluster,
    )


def _messages(row: _Row, *, at: str) -> tuple[JSON, ...]:
    if (row.text is None) == (row.messages is None):
        both = "both" if row.text is not None else "neither"
        raise InputError(
            f"{at}: fields 'text' and 'messages': {both} given",
            hint="give the prompt as text, or the whole chat as messages",
        )
    if row.messages is None:
        return ({"role": "user", "content": row.text},)
    if not row.messages or not all("role" in message for message in row.messages):
        raise InputError(
            f"{at}: field 'messages': a message without a role, or no message",
            hint='write [{"role": "user", "content": "..."}]',
        )
    return row.messages
