"""OTLP files in protobuf, written again as JSON lines; the one user of opentelemetry-proto."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from suffice.errors import InputError, MissingExtra
from suffice.logs.files import LogFile, unpacked

_CONTROL = frozenset(range(9))


def is_protobuf(head: bytes) -> bool:
    """Say whether a file starts as an OTLP message does, alone or after its length in 4 bytes."""
    start = head[:1] == b"\n" or (head[4:5] == b"\n" and head[:1] == b"\0")
    return start and bool(_CONTROL & {*head[:4096]})


def spans_as_json(log: LogFile, target: Path) -> None:
    """Write every message as one line of OTLP JSON; raises InputError and MissingExtra."""
    import msgspec

    try:
        from google.protobuf.json_format import MessageToDict
        from google.protobuf.message import DecodeError
        from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
        from opentelemetry.proto.trace.v1.trace_pb2 import TracesData
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "OTLP files in protobuf need opentelemetry-proto", hint="pip install 'suffice[otel]'"
        ) from error
    with target.open("wb") as out:
        for message in _messages(log):
            for kind in (TracesData, LogsData):
                parsed: Any = kind()
                try:
                    parsed.ParseFromString(message)
                except DecodeError as error:
                    raise InputError(
                        f"{log.path} is no OTLP file: {error}", hint="export it as OTLP JSON"
                    ) from error
                if _says_something(parsed):
                    out.write(msgspec.json.encode(MessageToDict(parsed)) + b"\n")
                    break


def _says_something(parsed: Any) -> bool:
    """Tell traces from logs: the two have the same field numbers down to their rows."""
    scopes = [
        scope
        for part in getattr(parsed, "resource_spans", None) or parsed.resource_logs
        for scope in (part.scope_spans if hasattr(part, "scope_spans") else part.scope_logs)
    ]
    rows = (
        [row for scope in scopes for row in getattr(scope, "spans", None) or scope.log_records]
        if not hasattr(parsed, "resource_spans")
        else [row for scope in scopes for row in scope.spans]
    )
    return any(len(getattr(row, "trace_id", b"")) in (0, 16) and row.attributes for row in rows)


def _messages(log: LogFile) -> Iterator[bytes]:
    """Yield the messages of a file: each after its length, or the one that the file is."""
    with unpacked(log.path, log.packing) as content:
        if log.head[:1] == b"\n":
            yield content.read()
            return
        while len(prefix := content.read(4)) == 4:
            yield content.read(struct.unpack(">I", prefix)[0])
