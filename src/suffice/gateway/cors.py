"""Cross-origin requests: pages of the origins that the operator names may call the gateway."""

from collections.abc import Sequence

from suffice.gateway.exchange import Exchange, Headers

_ANY = "*"
_SHOWN = b"x-request-id, x-suffice-request-id, x-suffice-rung, x-suffice-certificate, "
_SHOWN += b"x-suffice-cost-usd, x-suffice-saving-usd, x-suffice-ignored, retry-after"
_METHODS = b"GET, POST, DELETE"
_USUAL_HEADERS = b"authorization, content-type"
_MAX_AGE_S = 600


def allow_origin(exchange: Exchange, origins: Sequence[str]) -> None:
    """Let the page that asks read the answer, where its origin is one of `origins`, or `*` is.

    Keys travel in headers that a page must know, never in cookies: credentials are not allowed.
    """
    origin = exchange.headers.get(b"origin")
    if not origins or origin is None:
        return
    headers: Headers = [(b"vary", b"origin")]
    if _ANY in origins or origin.decode("latin-1") in origins:
        allowed = b"*" if _ANY in origins else origin
        headers += [
            (b"access-control-allow-origin", allowed),
            (b"access-control-expose-headers", _SHOWN),
        ]
    exchange.extra_headers += headers


def is_preflight(exchange: Exchange) -> bool:
    """Say whether a browser asks what it may ask for."""
    asks = b"access-control-request-method" in exchange.headers
    return exchange.method == "OPTIONS" and asks and b"origin" in exchange.headers


async def preflight(exchange: Exchange) -> None:
    """Answer that question; without the header of `allow_origin` the answer is no."""
    names = exchange.headers.get(b"access-control-request-headers", _USUAL_HEADERS)
    headers = [
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", names),
        (b"access-control-max-age", str(_MAX_AGE_S).encode()),
    ]
    await exchange.begin(204, headers)
    await exchange.send(b"", more=False)
