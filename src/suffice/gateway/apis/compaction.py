"""POST /v1/responses/compact: a conversation, and what stands for it afterwards.

https://platform.openai.com/docs/api-reference/responses/compact. What the user said stays; all
else is in the summary, which the model writes.
"""

from typing import Any

from suffice.gateway.apis.messages_request import Translated
from suffice.gateway.apis.responses_items import COMPACT
from suffice.gateway.apis.responses_reply import ResponseWriter
from suffice.gateway.apis.responses_request import chat_of_response
from suffice.gateway.problems import Problem
from suffice.types import JSON


def chat_of_compaction(body: Any, *, history: tuple[JSON, ...] | None) -> Translated:
    """Translate a body; raises Problem for what chat completions cannot carry."""
    if isinstance(body, dict) and body.get("stream"):
        raise Problem(
            "a compaction is not streamed here",
            status=400,
            param="stream",
            hint="leave it out; or send a compaction_trigger to /v1/responses",
        )
    return chat_of_response(_asking(body), history=history)


class CompactionWriter(ResponseWriter):
    """Writes what stands for a conversation, of which it knows the body and the id."""

    def __init__(self, body: JSON, *, request_id: str) -> None:
        super().__init__(_asking(body), request_id=request_id)
        self._said = [item for item in _items(body) if _is_of_user(item)]

    def result(self) -> JSON:
        """Return the items; raises Problem where the model wrote no summary, or not all of it."""
        whole = super().result()
        if whole["status"] != "completed":
            raise Problem(
                "the model wrote no whole summary of the conversation",
                status=502,
                code="upstream_broken",
                hint="try again, or compact with another model",
            )
        names = ("id", "created_at", "usage", "suffice")
        kept = {name: whole[name] for name in names if name in whole}
        output = [*self._said, *whole["output"]]
        return {"object": "response.compaction", **kept, "output": output}


def _asking(body: Any) -> Any:
    """Return the body of a response that the model answers with a summary."""
    if not isinstance(body, dict) or not isinstance(body.get("input"), list | str):
        return body
    return {**body, "input": [*_items(body), {"type": COMPACT}]}


def _items(body: JSON) -> list[Any]:
    items = body.get("input")
    return items if isinstance(items, list) else [{"role": "user", "content": items}]


def _is_of_user(item: Any) -> bool:
    return isinstance(item, dict) and item.get("role") == "user"
