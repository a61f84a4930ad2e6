"""The served OpenAPI document: our part of the API in full, OpenAI's as far as we act on it."""

from typing import Any

import msgspec

from suffice import __version__

JSON = dict[str, Any]


def _json(schema: JSON) -> JSON:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> JSON:
    return {"$ref": f"#/components/schemas/{name}"}


def _ok(description: str, content: JSON, headers: JSON | None = None) -> JSON:
    return {"description": description, "content": content} | (
        {"headers": headers} if headers else {}
    )


_TEXT: JSON = {"type": "string"}
_USD: JSON = {"type": ["string", "null"], "description": "dollars, exact; null where unknown"}
_ERROR: JSON = {"description": "no answer", "content": _json(_ref("Error"))}
_MESSAGE_ERROR: JSON = {"description": "no answer", "content": _json(_ref("MessageError"))}
_CHAT_ERRORS = ("400", "401", "403", "404", "413", "422", "429", "431", "500", "502", "503", "504")
_KEY: list[JSON] = [{}, {"key": []}, {"browser": []}]

_SCHEMAS: JSON = {
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type"],
                "properties": {
                    "message": _TEXT,
                    "type": _TEXT,
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                    "hint": {"type": ["string", "null"]},
                },
            }
        },
    },
    "ChatRequest": {
        "type": "object",
        "required": ["model", "messages"],
        "description": "Further fields reach the engine as they are.",
        "properties": {
            "model": {"type": "string", "description": "`suffice`, a rung, or an alias of one"},
            "messages": {"type": "array", "minItems": 1, "items": {"type": "object"}},
            "stream": {"type": ["boolean", "null"]},
            "stream_options": {
                "type": ["object", "null"],
                "properties": {"include_usage": {"type": "boolean"}},
            },
            "n": {"type": ["integer", "null"], "minimum": 1},
            "reasoning_effort": {
                "type": ["string", "null"],
                "enum": [
                    "auto", "none", "minimal", "low", "medium", "high", "xhigh", "max", None,
                ],
            },
        },
    },
    "ChatReply": {
        "type": "object",
        "required": ["choices", "suffice"],
        "properties": {
            "choices": {"type": "array", "items": {"type": "object"}},
            "usage": {"type": ["object", "null"]},
            "suffice": _ref("Account"),
        },
    },
    "ResponseRequest": {
        "type": "object",
        "required": ["model", "input"],
        "description": "OpenAI's Responses API; what is not known is refused. State needs "
        "gateway.responses_ttl.",
        "properties": {
            "model": {"type": "string", "description": "`suffice`, a rung, or an alias of one"},
            "input": {"type": ["string", "array"], "minItems": 1, "items": {"type": "object"}},
            "instructions": {"type": ["string", "null"]},
            "max_output_tokens": {"type": ["integer", "null"]},
            "stream": {"type": ["boolean", "null"]},
            "store": {"type": ["boolean", "null"]},
            "previous_response_id": {"type": ["string", "null"]},
            "conversation": {"type": ["string", "object", "null"]},
        },
    },
    "ResponseReply": {
        "type": "object",
        "required": ["id", "status", "output", "suffice"],
        "properties": {
            "id": _TEXT,
            "status": {"enum": ["completed", "incomplete"]},
            "output": {"type": "array", "items": {"type": "object"}},
            "usage": {"type": ["object", "null"]},
            "suffice": _ref("Account"),
        },
    },
    "MessageRequest": {
        "type": "object",
        "required": ["model", "max_tokens", "messages"],
        "description": "Anthropic's Messages API; what is not known is refused.",
        "properties": {
            "model": {"type": "string", "description": "`suffice`, a rung, or an alias of one"},
            "max_tokens": {"type": "integer"},
            "messages": {"type": "array", "minItems": 1, "items": {"type": "object"}},
            "stream": {"type": ["boolean", "null"]},
        },
    },
    "MessageReply": {
        "type": "object",
        "required": ["id", "type", "content", "stop_reason", "usage", "suffice"],
        "properties": {
            "id": _TEXT,
            "type": {"const": "message"},
            "content": {"type": "array", "items": {"type": "object"}},
            "stop_reason": _TEXT,
            "usage": {"type": "object"},
            "suffice": _ref("Account"),
        },
    },
    "MessageError": {
        "type": "object",
        "required": ["type", "error"],
        "properties": {
            "type": {"const": "error"},
            "error": {
                "type": "object",
                "required": ["type", "message"],
                "properties": {
                    "type": _TEXT,
                    "message": _TEXT,
                    "hint": {"type": ["string", "null"]},
                },
            },
        },
    },
    "Account": {
        "type": "object",
        "required": ["request_id", "rung", "certificate", "cost_usd", "saving_usd", "estimated"],
        "properties": {
            "request_id": _TEXT,
            "rung": _TEXT,
            "certificate": {"type": ["string", "null"]},
            "cost_usd": _USD,
            "saving_usd": _USD,
            "estimated": {"type": "boolean"},
            "counted_here": {"type": "object", "additionalProperties": _TEXT},
            "fallback": {"type": "string", "description": "why the policy did not choose"},
        },
    },
    "ReportedOutcome": {
        "type": "object",
        "properties": {
            "session": {"type": "string", "minLength": 1},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
            "kind": {"type": "string", "minLength": 1, "maxLength": 100},
        },
        "required": ["session", "score", "kind"],
        "additionalProperties": False,
    },
    "Feedback": {
        "type": "object",
        "required": ["request_id", "score"],
        "additionalProperties": False,
        "properties": {
            "request_id": {"type": "string", "description": "from x-suffice-request-id"},
            "score": {"type": "number", "minimum": 0, "maximum": 1},
        },
    },
    "Models": {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"type": "object", "required": ["id"]}},
        },
    },
    "Status": {
        "type": "object",
        "required": ["status"],
        "properties": {"status": _TEXT},
    },
}  # fmt: skip


def _header(name: str, schema: JSON, description: str) -> JSON:
    return {"name": name, "in": "header", "schema": schema, "description": description}


def _get(summary: str, content: JSON, *errors: str, security: bool = False) -> JSON:
    responses = {"200": _ok("as asked", content), **dict.fromkeys(errors, _ERROR)}
    operation: JSON = {"summary": summary, "responses": responses}
    return {"get": operation | ({"security": _KEY} if security else {})}


def _asking(summary: str, name: str, *, error: JSON) -> JSON:
    """Describe a path that answers on the cheapest rung that the policy keeps."""
    reply = _json(_ref(f"{name}Reply")) | {"text/event-stream": {"schema": _TEXT}}
    headers = {name: {"schema": _TEXT} for name in ("x-suffice-rung", "x-suffice-certificate")}
    operation = {
        "summary": f"{summary} on the cheapest rung that the policy keeps",
        "security": _KEY,
        "parameters": _CHOICES,
        "requestBody": {"required": True, "content": _json(_ref(f"{name}Request"))},
        "responses": {
            "200": _ok("the engine's answer, with our account of it", reply, headers),
            **dict.fromkeys(_CHAT_ERRORS, error),
        },
    }
    return {"post": operation}


def _forwarding(summary: str, field: str) -> JSON:
    """Describe a path that is forwarded to a rung which serves it."""
    request: JSON = {
        "type": "object",
        "required": ["model", field],
        "description": "Further fields reach the engine as they are.",
        "properties": {"model": _TEXT, field: {"type": ["string", "array"]}},
    }
    reply: JSON = {
        "type": "object",
        "required": ["suffice"],
        "properties": {"usage": {"type": ["object", "null"]}, "suffice": _ref("Account")},
    }
    operation = {
        "summary": summary,
        "security": _KEY,
        "requestBody": {"required": True, "content": _json(request)},
        "responses": {
            "200": _ok("the engine's answer, with our account of it", _json(reply)),
            **dict.fromkeys(_CHAT_ERRORS, _ERROR),
        },
    }
    return {"post": operation}


def _counting(name: str, *, error: JSON) -> JSON:
    """Describe a path that counts the tokens of a request and answers nothing."""
    count: JSON = {
        "type": "object",
        "required": ["input_tokens"],
        "properties": {"input_tokens": {"type": "integer"}},
    }
    operation = {
        "summary": "Count the tokens of a prompt",
        "security": _KEY,
        "requestBody": {"required": True, "content": _json(_ref(f"{name}Request"))},
        "responses": {"200": _ok("as counted or estimated", _json(count)), "400": error},
    }
    return {"post": operation}


_CHOICES = [
    _header("x-suffice-rung", _TEXT, "ask for this rung"),
    _header(
        "x-suffice-alpha",
        {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "largest risk allowed; below the certificate's, the reference answers",
    ),
    _header("x-suffice-group", _TEXT, "the declared group of the request"),
    _header("x-suffice-tags", _TEXT, "words that the books keep sums by, with commas between"),
]
_ANY = _json({"type": "object"})


_REFUSALS: JSON = dict.fromkeys(
    ("400", "401", "403", "404", "409", "413", "429", "431", "503"), _ERROR
)


def _booked(summary: str, schema: str) -> JSON:
    """Describe an operation that books what a client says."""
    return {
        "summary": summary,
        "security": _KEY,
        "requestBody": {"required": True, "content": _json(_ref(schema))},
        "responses": {"200": _ok("booked", _json(_ref("Status"))), **_REFUSALS},
    }


def _kept(summary: str, *, body: bool = False) -> JSON:
    """Describe an operation on what a client has had kept."""
    operation = {
        "summary": summary,
        "security": _KEY,
        "responses": {"200": _ok("as asked", _ANY), **_REFUSALS},
    }
    return operation | ({"requestBody": {"content": _ANY}} if body else {})


def _named(path: str, **operations: JSON) -> JSON:
    """Describe a path whose parts in braces are ids."""
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    ids = [{"name": n, "in": "path", "required": True, "schema": _TEXT} for n in names]
    return {path: {"parameters": ids, **operations}}


_PATHS: JSON = {
    "/v1/chat/completions": _asking("Answer a chat request", "Chat", error=_ERROR),
    "/v1/responses": _asking("Answer a request of the Responses API", "Response", error=_ERROR),
    "/v1/responses/compact": _asking(
        "Write what stands for a conversation", "Response", error=_ERROR
    ),
    "/v1/messages": _asking(
        "Answer a request of Anthropic's Messages API", "Message", error=_MESSAGE_ERROR
    ),
    "/v1/completions": _forwarding("Complete a text", "prompt"),
    "/v1/embeddings": _forwarding("Embed texts", "input"),
    "/v1/models": _get("Name what can be asked for", _json(_ref("Models")), "401", security=True),
    **_named("/v1/models/{model}", **_get("Show one of them", _ANY, "401", "404", security=True)),
    "/v1/messages/count_tokens": _counting("Message", error=_MESSAGE_ERROR),
    "/v1/responses/input_tokens": _counting("Response", error=_ERROR),
    **_named(
        "/v1/responses/{id}",
        get=_kept("Show a kept response"),
        delete=_kept("Erase a kept response"),
    ),
    **_named("/v1/responses/{id}/input_items", get=_kept("List the items it was given for")),
    "/v1/conversations": {"post": _kept("Begin a conversation", body=True)},
    **_named(
        "/v1/conversations/{id}",
        get=_kept("Show a conversation"),
        post=_kept("Replace its metadata", body=True),
        delete=_kept("Erase it with its items"),
    ),
    **_named(
        "/v1/conversations/{id}/items",
        get=_kept("List the items of a conversation"),
        post=_kept("Add items", body=True),
    ),
    **_named("/v1/conversations/{id}/items/{item}", get=_kept("Show one item")),
    "/v1/feedback": {"post": _booked("Say how good an answer was", "Feedback")},
    "/v1/outcomes": {"post": _booked("Say how a session came out", "ReportedOutcome")},
    "/healthz": _get("Say that the process lives", _json(_ref("Status"))),
    "/readyz": _get("Say that requests can be answered and booked", _json(_ref("Status")), "503"),
    "/": _get(
        "Show the dashboard", {"text/html": {"schema": _TEXT}}, "401", "403", "503", security=True
    ),
    "/sessions": _get(
        "Show what sessions cost",
        {"text/html": {"schema": _TEXT}},
        *("401", "403", "503"),
        security=True,
    ),
    "/metrics": _get(
        "Measure all workers", {"text/plain": {"schema": _TEXT}}, "401", "403", security=True
    ),
    "/openapi.json": _get("Return this document", _json({"type": "object"})),
}

DOCUMENT = msgspec.json.encode(
    {
        "openapi": "3.1.0",
        "info": {"title": "suffice gateway", "version": __version__},
        "paths": _PATHS,
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer"},
                "browser": {"type": "http", "scheme": "basic"},
            },
        },
    }
)
