"""What is refused before anything else is read: strange hosts, web pages of others, forms."""

from collections.abc import Collection
from urllib.parse import urlsplit

from suffice.gateway.exchange import Exchange
from suffice.gateway.problems import Problem

# What a browser sends across origins without asking first.
_FORMS = (b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data")
_READING = ("GET", "HEAD", "OPTIONS")


def check_front(exchange: Exchange, *, hosts: Collection[str], origins: Collection[str]) -> None:
    """Raise Problem for a request that a web page may have made its visitor's browser send.

    `hosts` are the names that the gateway answers to, none for all; `origins` the web pages that
    may use it beside its own.
    """
    host = exchange.headers.get(b"host", b"").decode("latin-1").lower()
    if hosts and (urlsplit(f"//{host}").hostname or "") not in hosts:
        raise Problem(
            "this gateway does not answer to that Host",
            status=403,
            code="not_permitted",
            hint="the operator lists names in gateway.hosts",
        )
    if exchange.method in _READING:
        return
    origin = exchange.headers.get(b"origin", b"").decode("latin-1").lower()
    foreign = origin and origin not in origins and urlsplit(origin).netloc != host
    if foreign and "*" not in origins:
        raise Problem(
            "a web page of another origin may not send this",
            status=403,
            code="not_permitted",
            hint="the operator lists origins in gateway.cors_origins",
        )
    kind = exchange.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    if kind in _FORMS:
        raise Problem(
            f"the body is {kind.decode('latin-1')}, not JSON",
            status=415,
            hint="send content-type: application/json",
        )
    if exchange.headers.get(b"authorization", b"").lower().startswith(b"basic "):
        raise Problem(
            "a password of a browser opens the dashboard alone",
            status=401,
            code="invalid_api_key",
            hint="send the header: Authorization: Bearer KEY",
        )
