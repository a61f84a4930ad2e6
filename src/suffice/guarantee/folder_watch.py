"""The watch of a certificate in a folder: a monitor beside it, fed with audited losses.

The state is a file of its own, so that processes which only use the folder need no ledger. It
belongs to one certificate: another certificate in the same folder starts anew.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from suffice.errors import CertificateError, InputError
from suffice.files import write_file
from suffice.guarantee.monitor import Monitor, update

WATCH = "watch.json"


class FolderWatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The audits of a certificate: each id of `audited` counts once, whatever is fed again."""

    certificate_id: str
    monitor: Monitor
    audited: tuple[str, ...] = ()

    @property
    def alarm(self) -> bool:
        """Whether the evidence that the risk passed `alpha` has reached `1 / delta`, for good."""
        return self.monitor.alarm_at is not None


def read_watch(folder: Path, certificate_id: str) -> FolderWatch | None:
    """Return the watch of a certificate, None before its first audit.

    Raises InputError for a damaged file: an alarm must not be lost with it.
    """
    path = folder / WATCH
    if not path.exists():
        return None
    try:
        watch = msgspec.json.decode(path.read_bytes(), type=FolderWatch)
    except (OSError, msgspec.DecodeError) as error:
        raise InputError(
            f"{path} is no state of a watch: {error}",
            hint="certify again; without this file nobody knows whether an alarm fell",
        ) from error
    return watch if watch.certificate_id == certificate_id else None


def refuse_alarmed(folder: Path, certificate_id: str) -> None:
    """Raise CertificateError if the watch of a certificate has raised its alarm."""
    watch = read_watch(folder, certificate_id)
    if watch is not None and watch.alarm:
        raise CertificateError(
            f"the certificate in {folder} was ended by an alarm after "
            f"{watch.monitor.alarm_at:,} audits",
            hint="fit and certify again, on traffic since the alarm",
        )


def record_audits(
    folder: Path,
    certificate_id: str,
    losses: Mapping[str, float],
    *,
    alpha: float,
    delta: float,
) -> FolderWatch:
    """Bet on the losses of new audits, in their order, and write the state into the folder.

    `losses` are by audit id. They must come from a random part of the traffic, drawn with one
    probability before anything else was known of it.
    """
    watch = read_watch(folder, certificate_id) or FolderWatch(
        certificate_id=certificate_id, monitor=Monitor(alpha=alpha, delta=delta)
    )
    known, monitor = {*watch.audited}, watch.monitor
    new = [audit_id for audit_id in losses if audit_id not in known]
    for audit_id in new:
        monitor = update(monitor, losses[audit_id])
    watch = FolderWatch(
        certificate_id=certificate_id, monitor=monitor, audited=(*watch.audited, *new)
    )
    write_file(folder / WATCH, msgspec.json.encode(watch) + b"\n")
    return watch
