"""`suffice serve`: checks everything once, then hands over to uvicorn."""

import os
import resource
import signal
import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from suffice.config import GatewayConfig
from suffice.gateway.app import Gateway
from suffice.gateway.auditor import label_written, marker
from suffice.gateway.keys import read_keys
from suffice.gateway.serving import Settings, build_serving, read_settings
from suffice.guarantee import Certificate, LabelSource
from suffice.ledger import Label, Ledger
from suffice.scoring.audit_rule import AuditRule
from suffice.scoring.audits import watching_labels
from suffice.scoring.scorers import load_function

DRAIN_S = 30
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Listen(Struct, frozen=True, kw_only=True):
    """Where to listen, and with which certificate for TLS."""

    host: str = "127.0.0.1"
    port: int = 8080
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None


def serve(settings: Settings, listen: Listen) -> None:
    """Serve until a signal; raises SufficeError before the first connection where it cannot."""
    for note in _notes(settings, listen):
        print(f"note: {note}", file=sys.stderr)
    with TemporaryDirectory(prefix="suffice-") as shared:
        if settings.workers > 1:
            settings = replace(settings, shared=Path(shared))
        _run(settings, listen)


def _run(settings: Settings, listen: Listen) -> None:
    import uvicorn

    from suffice.gateway.protocol import BoundedProtocol
    from suffice.gateway.server_config import ServerConfig

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY:  # each connection is a file to the system
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    config = ServerConfig(
        partial(Gateway, settings),
        factory=True,
        http=BoundedProtocol,
        host=listen.host,
        port=listen.port,
        workers=settings.workers,
        ssl_certfile=listen.ssl_certfile,
        ssl_keyfile=listen.ssl_keyfile,
        lifespan="on",
        log_level="warning",
        access_log=False,
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
    )
    socket = config.bind_socket()
    socket.listen(config.backlog)  # whoever connects from now on waits for the workers
    scheme, port = "https" if listen.ssl_certfile else "http", socket.getsockname()[1]
    print(f"suffice serves on {scheme}://{listen.host}:{port}", file=sys.stderr, flush=True)
    if settings.workers == 1:
        uvicorn.Server(config).run(sockets=[socket])
    else:
        _many(config, socket)


def _many(config: Any, socket: Any) -> None:
    from uvicorn.supervisors import Multiprocess

    class Workers(Multiprocess):
        """Hands a hang-up on: a worker that reads a bad file keeps the old one, and lives."""

        def handle_hup(self) -> None:
            for worker in self.processes:
                if worker.pid is not None:
                    os.kill(worker.pid, signal.SIGHUP)

    Workers(config, sockets=[socket]).run()


def _notes(settings: Settings, listen: Listen) -> list[str]:
    """Check everything that the workers will need, and say what the operator should know."""
    config, bundle = read_settings(settings)
    gateway = config.gateway
    if gateway.keys is not None:
        read_keys(gateway.keys)
    marker(gateway.audit_scorer)
    if gateway.redact is not None:
        load_function(gateway.redact, at="gateway.redact", what="function")
    with Ledger.open(gateway.ledger) as ledger:
        built = build_serving(settings, config, bundle, ledger=ledger)
    notes = [*built.pipeline.ladder.notes, *_about(settings, listen, gateway)]
    if bundle is not None:
        written = label_written(gateway.audit_scorer)
        notes += bundle.about_groups()
        notes += about_audits(bundle.certificate, built.guard.rule, written=written)
    return notes


def about_audits(
    certificate: Certificate, rule: AuditRule, *, written: Label = Label.AGREEMENT
) -> list[str]:
    """Say where the labels that watch a certificate are not those it was made from.

    `written` is the kind that the gateway writes itself.
    """
    source = certificate.terms.label_source.value
    labels = rule.labels or watching_labels(certificate)
    if certificate.terms.label_source is LabelSource.OUTCOME and not rule.labels:
        return [
            "the certificate is about outcomes of sessions, which audits cannot see: keep "
            "gateway.rollout below 1, and outcomes of both arms watch it"
        ]
    if rule.share == 0:
        return ["gateway.audit_share is 0: nobody watches the certificate"]
    if written not in labels:
        return [
            f"audits wait for labels from {' or '.join(labels)}, which the gateway does not make: "
            "nobody watches the certificate until they come; see gateway.audit_labels"
        ]
    if source != written:
        stands_in = "a program" if written is Label.SCORER else "agreement with the reference"
        return [f"{stands_in} stands in for {source} in audits: see docs/gateway.md"]
    return []


def _about(settings: Settings, listen: Listen, gateway: GatewayConfig) -> list[str]:
    notes = []
    if gateway.keys is None and listen.host not in _LOOPBACK:
        notes.append("no gateway.keys: whoever reaches this address can spend your money")
    if settings.policy is None and not settings.observe:
        notes.append("no --certificate: the reference rung answers everything")
    if gateway.responses_ttl is not None and not gateway.store_text:
        notes.append(
            f"gateway.responses_ttl: what clients ask to be kept stays {gateway.responses_ttl} in "
            "the ledger's database, with its text, although store_text is off"
        )
    if settings.observe and not gateway.store_text:
        notes.append("gateway.store_text is off: recertify will find no text to learn from")
    return notes
