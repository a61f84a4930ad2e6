"""How uvicorn serves: a class of a module, for several workers get it by pickle."""

import uvicorn

from suffice.gateway import tls


class ServerConfig(uvicorn.Config):
    """Lets the upkeep of each worker see to its TLS certificate."""

    def load(self) -> None:
        """Load as uvicorn does, and keep the certificate in view."""
        super().load()
        if self.ssl is not None and self.ssl_certfile is not None:
            tls.served.append(
                tls.ServedCertificate(
                    self.ssl,
                    chain=str(self.ssl_certfile),
                    key=None if self.ssl_keyfile is None else str(self.ssl_keyfile),
                )
            )
