"""A bundle comes back as it went, or is refused: its parts must belong together."""

from decimal import Decimal
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from msgspec.structs import replace

from suffice.certify.bundle import CERTIFICATE, CHARGES, POLICY, Bundle, load_bundle, save_bundle
from suffice.certify.bundling import Certification
from suffice.certify.manifest import MANIFEST, SIGNATURE
from suffice.errors import CertificateError, InputError, SufficeError
from suffice.policy import policy_hash, save_policy


@pytest.fixture
def folder(tmp_path: Path, settled: Certification) -> Path:
    save_bundle(tmp_path / "made" / "on demand", settled.bundle)
    return tmp_path / "made" / "on demand"


def test_a_bundle_comes_back_as_it_went(folder: Path, settled: Certification) -> None:
    back = load_bundle(folder)
    assert back.certificate == settled.bundle.certificate
    assert back.mean_usd == settled.bundle.mean_usd
    assert policy_hash(back.policy) == policy_hash(settled.bundle.policy)
    assert back.policy.point == settled.bundle.policy.point


def test_mean_charges_are_those_of_requests_that_were_kept_cheap(settled: Certification) -> None:
    certified = settled.certified
    chosen = certified.plays.chosen[:, 0].tolist()
    reported = certified.reported.request_ids
    kept = certified.kept_cheap
    assert {name for name, rung in zip(reported, chosen, strict=True) if rung == 0} < kept
    rows = certified.result.rows
    assert len(kept) <= rows["certify"] + rows["report"]
    for rung in ("small", "big"):
        charges = [t.charge_usd for t in settled.trials if t.rung == rung and t.request_id in kept]
        assert settled.bundle.mean_usd[rung] == sum(charges) / len(charges)


def test_charges_survive_to_the_last_digit(tmp_path: Path, settled: Certification) -> None:
    third = Decimal(1) / Decimal(3)
    save_bundle(tmp_path, replace(settled.bundle, mean_usd={"small": third}))
    assert load_bundle(tmp_path).mean_usd == {"small": third}


def test_a_swapped_policy_is_refused(folder: Path, settled: Certification) -> None:
    policy = settled.bundle.policy
    save_policy(folder / POLICY, policy.at(policy.point + 1))
    with pytest.raises(CertificateError, match="not the one") as caught:
        load_bundle(folder)
    assert caught.value.exit_status == 3


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"alpha": 0.1', b'"alpha": 0.01'), (b'"losses": ', b'"losses": 1'), (b"{", b'{"x": 1,')],
)
def test_an_edited_certificate_is_refused(folder: Path, before: bytes, after: bytes) -> None:
    path = folder / CERTIFICATE
    assert before in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(before, after, 1))
    with pytest.raises(CertificateError) as caught:
        load_bundle(folder)
    assert caught.value.exit_status == 3
    assert caught.value.hint


@pytest.mark.parametrize("part", [POLICY, CERTIFICATE, CHARGES])
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", None])
def test_a_broken_or_missing_part_is_an_error_with_a_hint(
    folder: Path, part: str, content: bytes | None
) -> None:
    if content is None:
        (folder / part).unlink()
    else:
        (folder / part).write_bytes(content)
    with pytest.raises(SufficeError):
        load_bundle(folder)


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-1"])
def test_a_charge_that_is_no_amount_is_refused(folder: Path, amount: str) -> None:
    (folder / CHARGES).write_text(f'{{"big": "{amount}"}}')
    with pytest.raises(InputError, match="damaged"):
        load_bundle(folder)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path, settled: Certification) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write") as caught:
        save_bundle(tmp_path / "file" / "bundle", settled.bundle)
    assert caught.value.hint


def test_a_bundle_without_known_charges_says_nothing_of_them(
    tmp_path: Path, settled: Certification
) -> None:
    bare = Bundle(policy=settled.bundle.policy, certificate=settled.bundle.certificate)
    save_bundle(tmp_path, bare)
    assert load_bundle(tmp_path).mean_usd == {}


# -- who vouches for it --------------------------------------------------------------------------


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    private.touch(0o600)
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def test_a_signed_bundle_is_trusted_by_one_of_the_keys(
    tmp_path: Path, settled: Certification
) -> None:
    (mine, public), (_, other) = key_pair(tmp_path, "mine"), key_pair(tmp_path, "other")
    save_bundle(tmp_path / "signed", settled.bundle, sign=mine)
    assert load_bundle(tmp_path / "signed", trust=[other, public]).mean_usd
    with pytest.raises(CertificateError, match="nobody who is trusted"):
        load_bundle(tmp_path / "signed", trust=[other])


def test_an_unsigned_bundle_is_refused_where_somebody_is_trusted(
    tmp_path: Path, folder: Path
) -> None:
    with pytest.raises(CertificateError, match="not signed"):
        load_bundle(folder, trust=[key_pair(tmp_path, "mine")[1]])


@pytest.mark.parametrize("part", [CHARGES, MANIFEST, SIGNATURE])
def test_a_signed_bundle_that_was_changed_is_refused(
    tmp_path: Path, settled: Certification, part: str
) -> None:
    mine, public = key_pair(tmp_path, "mine")
    save_bundle(tmp_path / "signed", settled.bundle, sign=mine)
    path = tmp_path / "signed" / part
    data = bytearray(path.read_bytes())
    at = next(i for i, byte in enumerate(data) if 0x31 <= byte <= 0x38)
    data[at] += 1
    path.write_bytes(data)
    with pytest.raises(CertificateError):
        load_bundle(tmp_path / "signed", trust=[public])


def test_a_private_key_open_to_others_signs_nothing(tmp_path: Path, settled: Certification) -> None:
    mine, public = key_pair(tmp_path, "mine")
    mine.chmod(0o644)
    with pytest.raises(InputError, match="open to other users"):
        save_bundle(tmp_path / "signed", settled.bundle, sign=mine)
    public.chmod(0o600)
    with pytest.raises(InputError, match="no private key"):
        save_bundle(tmp_path / "signed", settled.bundle, sign=public)
