"""Replies read up to a size: neither an endless one nor a small gzip of zeros fills the memory."""

from collections.abc import AsyncGenerator

import aiohttp

from suffice.errors import EngineProtocolError

REPLY_LIMIT_BYTES = 64 * 1024 * 1024  # unpacked; a stream of 128,000 tokens has about half


async def reply_pieces(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """Yield a reply's bytes as they come; raises EngineProtocolError past the limit."""
    size = 0
    async for piece in response.content.iter_any():
        size += len(piece)
        if size > REPLY_LIMIT_BYTES:
            response.close()
            raise EngineProtocolError(
                f"{response.url} sent more than {REPLY_LIMIT_BYTES} bytes",
                hint="does the engine stop? limit its answers by max_output_tokens",
            )
        yield piece


async def reply_bytes(response: aiohttp.ClientResponse) -> bytes:
    """Read a reply, or the rest of it, to its end; raises EngineProtocolError past the limit."""
    return b"".join([piece async for piece in reply_pieces(response)])
