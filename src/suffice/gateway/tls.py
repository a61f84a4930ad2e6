"""A TLS certificate that is renewed on disk is served from the next connection on."""

import logging
import ssl
from pathlib import Path

from suffice.gateway.files import WatchedFiles

_log = logging.getLogger("suffice.gateway")


class ServedCertificate:
    """The certificate chain and key that a context was loaded from."""

    def __init__(self, context: ssl.SSLContext, *, chain: str, key: str | None) -> None:
        self._context, self._chain, self._key = context, chain, key
        self._files = WatchedFiles([Path(chain), *([] if key is None else [Path(key)])])

    def refresh(self) -> None:
        """Take over changed files; the old pair stays until the new one is whole."""
        if not self._files.changed():
            return
        try:
            # A pair that does not match leaves a context without a key: try it on another one.
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                self._chain, self._key
            )
            self._context.load_cert_chain(self._chain, self._key)
        except (OSError, ssl.SSLError) as error:
            self._files.request_reload()
            _log.warning("the old TLS certificate stays: %s", error)
            return
        _log.warning("took over the changed TLS certificate")


served: list[ServedCertificate] = []  # of this process; uvicorn hands its context to nobody
