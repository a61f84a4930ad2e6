"""What a certificate is used with: the policy it was made for, and what each rung cost then."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
from msgspec import Struct

from suffice.certify.manifest import MANIFEST, SIGNATURE, check_manifest, manifest_files
from suffice.errors import CertificateError, ConfigError, InputError
from suffice.files import reading_folder, write_folder
from suffice.guarantee import Certificate, check, from_json, to_json
from suffice.ladder import Ladder
from suffice.policy import Policy, policy_hash
from suffice.policy.store import decode_policy, policy_bytes
from suffice.scoring.checks import Checks
from suffice.types import Request

POLICY, CERTIFICATE, CHARGES = "policy.msgpack", "certificate.json", "charges.json"
FILES = (POLICY, CERTIFICATE, CHARGES, SIGNATURE, MANIFEST)


class Bundle(Struct, frozen=True, kw_only=True, eq=False):
    """A certified policy, and what each rung charged on average for requests that it keeps cheap.

    `mean_usd` is taken over the requests that a cheaper rung answered and that the policy was not
    fitted on, because those are easier than most; a rung whose charges are unknown is absent.
    """

    policy: Policy
    certificate: Certificate
    mean_usd: dict[str, Decimal] = {}

    def about_groups(self) -> list[str]:
        """Say what a client gets that changes nothing, and so declares no group."""
        groups = ", ".join(self.certificate.terms.scope.groups)
        if not groups:
            return []
        if self.policy.text_groups is not None:
            return [
                f"the policy tells the groups {groups} from the text: clients need not change, "
                "and x-suffice-group is ignored"
            ]
        return [
            f"the certificate covers the declared groups {groups}: a client that sends no "
            "x-suffice-group is answered by the reference rung, and saves nothing; with "
            "`certify --groups text` the policy tells the group itself"
        ]


def save_bundle(
    folder: str | os.PathLike[str], bundle: Bundle, *, sign: Path | None = None
) -> None:
    """Write a bundle into a folder, made if need be, signed with the private key of a PEM file.

    Raises InputError when the disk refuses, and for a key that cannot be used.
    """
    files = {
        POLICY: policy_bytes(bundle.policy),
        CHARGES: msgspec.json.encode(bundle.mean_usd) + b"\n",
        CERTIFICATE: to_json(bundle.certificate) + b"\n",
    }
    write_folder(Path(folder), files | manifest_files(files, sign=sign))


def load_bundle(folder: str | os.PathLike[str], *, trust: Sequence[Path] = ()) -> Bundle:
    """Read a bundle back; with public keys to `trust`, one of them must have signed it.

    Raises CertificateError when its parts do not belong together, or nobody trusted signed them.
    """
    at = Path(folder)
    with reading_folder(
        at,
        "certificate",
        file=CHARGES,
        make="suffice certify TRIALS --reference RUNG --out FOLDER",
        again="certify again",
    ):
        files = {name: (at / name).read_bytes() for name in (POLICY, CHARGES, CERTIFICATE)}
        certificate = from_json(files[CERTIFICATE])
        mean_usd = msgspec.json.decode(files[CHARGES], type=dict[str, Decimal])
    if not all(usd.is_finite() and usd >= 0 for usd in mean_usd.values()):
        raise InputError(f"{at / CHARGES} is damaged: not all are amounts", hint="certify again")
    policy = decode_policy(files[POLICY], where=at / POLICY)
    if policy_hash(policy) != certificate.terms.policy_hash:
        raise CertificateError(
            f"the policy in {at} is not the one its certificate was made for",
            hint="certify again; the two files belong together",
        )
    with reading_folder(
        at,
        "manifest",
        file=MANIFEST,
        make="suffice certify TRIALS --reference RUNG --out FOLDER",
        again="certify again",
    ):
        check_manifest(at, files, trust=trust)
    return Bundle(policy=policy, certificate=certificate, mean_usd=mean_usd)


def why_barred(bundle: Bundle | None, request: Request, *, policy_hash: str) -> str | None:
    """Say why a policy may not choose for a request; None when its certificate covers it."""
    if bundle is None:
        return "there is no certificate"
    certificate = bundle.certificate
    if request.group is None and certificate.terms.scope.groups:
        return "the certificate covers declared groups, and the request declares none"
    try:
        check(certificate, now=datetime.now(UTC), policy_hash=policy_hash, group=request.group)
    except CertificateError as error:
        return error.message
    return None


def check_rungs(bundle: Bundle, ladder: Ladder, checks: Checks | None) -> None:
    """Raise ConfigError where a ladder is not the one that was certified, or lacks its checks."""
    policy, names = bundle.policy, {rung.name for rung in ladder}
    missing = [rung for rung in policy.rungs if rung not in names]
    if missing:
        raise ConfigError(
            f"the certified policy uses rung {missing[0]!r}, which the ladder does not have",
            hint=f"rungs of the ladder: {', '.join(sorted(names))}",
        )
    if policy.reference != ladder.reference.name:
        raise ConfigError(
            f"the certificate is against {policy.reference!r}, the ladder's reference is "
            f"{ladder.reference.name!r}",
            hint="use the ladder that was certified, or certify this one",
        )
    for rung in (policy.rungs[at] for at in policy.checked):
        if checks is None or not checks.covers(rung):
            raise ConfigError(
                f"the certified policy keeps an answer of {rung!r} only if it passes a check, and "
                "none is configured for it",
                hint="add the [check.NAME] section that the trials were made with",
            )
