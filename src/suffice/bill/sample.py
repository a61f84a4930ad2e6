"""Draw tasks for `suffice bench` out of a log: in proportion to its strata, each text once."""

import msgspec

from suffice.errors import InputError
from suffice.logs.read import Logs
from suffice.types import JSON


def draw_tasks(logs: Logs, *, count: int, seed: int) -> list[JSON]:
    """Draw `count` requests and read their texts again from the log, the only place that has them.

    Strata are model and key; a session gives one request before any gives two, and a text that came
    often is one task. `cluster` is the session. Of session files, which hold no whole prompts, a
    task is what a person wrote first. Raises InputError where the log has no texts.
    """
    store = logs.store
    known = store.execute("SELECT count(DISTINCT prompt_hash) FROM bill").fetchone()[0]
    if not known:
        return _draw_openings(logs, count=count, seed=seed)
    rows = store.execute(
        """WITH texts AS (
            SELECT prompt_hash, any_value(model) AS model, any_value(key) AS key,
                min(session) AS session, hash(prompt_hash, ?) AS draw
            FROM bill WHERE prompt_hash IS NOT NULL AND error IS NULL GROUP BY prompt_hash
        ), turns AS (
            SELECT *, row_number() OVER (PARTITION BY coalesce(session, prompt_hash::VARCHAR)
                ORDER BY draw) AS turn FROM texts
        ), ranked AS (
            SELECT *, row_number() OVER (PARTITION BY model, key ORDER BY turn, draw)
                / count(*) OVER (PARTITION BY model, key) AS place FROM turns
        )
        SELECT prompt_hash, model, key, session FROM ranked
        ORDER BY place, draw LIMIT ?""",
        [seed, count],
    ).fetchall()
    texts = logs.read_texts([row[0] for row in rows])
    tasks = []
    for name, model, key, session in rows:
        prompt = _prompt(texts.get(name))
        if prompt is not None:
            task: JSON = {"request_id": f"{name:016x}", **prompt, "group": key or model}
            tasks.append(task | ({"cluster": session} if session else {}))
    return tasks


def _draw_openings(logs: Logs, *, count: int, seed: int) -> list[JSON]:
    """Draw sessions in proportion to their models, each opening once."""
    openings = logs.read_openings()
    if not openings:
        raise InputError(
            "this log has no texts of prompts, so nothing can be drawn from it",
            hint="sample an export that holds them: docs/logs.md lists which formats do",
        )
    sessions = logs.store.execute(
        """WITH drawn AS (
            SELECT session, any_value(key) AS key, mode(model ORDER BY model) AS model,
                hash(session, ?) AS draw FROM bill WHERE session IS NOT NULL GROUP BY session
        )
        SELECT session, model, key FROM drawn
        ORDER BY row_number() OVER (PARTITION BY model, key ORDER BY draw)
            / count(*) OVER (PARTITION BY model, key), draw""",
        [seed],
    ).fetchall()
    tasks: dict[str, JSON] = {}
    for session, model, key in sessions:
        text = openings.get(session)
        if text is not None and text not in tasks and len(tasks) < count:
            tasks[text] = {
                "request_id": session,
                "text": text,
                "group": key or model,
                "cluster": session,
            }
    return list(tasks.values())


def _prompt(text: str | None) -> JSON | None:
    """Turn what a log holds of a prompt into the chat or the text of a task."""
    if text is None:
        return None
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return {"text": text}
    if isinstance(value, str):
        return _prompt(value) if value[:1] in "[{" and value else {"text": value}
    if isinstance(value, dict):
        value = value.get("messages", [])
    if (
        isinstance(value, list)
        and value
        and all(isinstance(turn, dict) and "role" in turn for turn in value)
    ):
        return {"messages": [_turn(turn) for turn in value]}
    return {"text": text}


def _turn(turn: JSON) -> JSON:
    """Write a turn of OpenTelemetry, which has parts, as OpenAI does."""
    if "content" in turn or not isinstance(turn.get("parts"), list):
        return turn
    content = "\n".join(
        str(part.get("content", "")) for part in turn["parts"] if isinstance(part, dict)
    )
    return {"role": turn["role"], "content": content}
