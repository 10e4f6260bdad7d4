"""Who made a video, inside the file: a C2PA manifest, signed by this service.

Content Credentials (C2PA 2.2, spec.c2pa.org) say that a model made it, and break if a byte changes.
Signed with a certificate that is given, or with one of a private authority made at the first start.
"""

import io
import json
import os
import secrets
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import c2pa
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

AI_MADE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's word for what a trained model made."""
DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""RFC 9336; one of the purposes that C2PA allows a signing certificate."""
YEARS = {"authority": 20, "leaf": 10}
MEDIA_TYPES = {".png": "image/png", ".mp4": "video/mp4", ".webm": "video/webm"}
_UNCHECKED = {
    "verify": {"verify_after_sign": False},
    "builder": {"thumbnail": {"enabled": False}},
}


class CannotSign(Exception):
    """Videos cannot be signed with what is given; a sentence says why."""


class Provenance:
    """Signs videos with a chain of certificates and the key of its first one, all as PEM."""

    def __init__(self, chain: bytes, key: bytes, with_prompt: bool = False) -> None:
        self._with_prompt = with_prompt
        try:
            info = c2pa.C2paSignerInfo(_algorithm(key), chain, key, None)
            self._signer = c2pa.Signer.from_info(info)
        except (c2pa.C2paError, ValueError) as error:
            raise CannotSign(f"Videos cannot be signed with this certificate: {error}.") from None

    @classmethod
    def of(
        cls, folder: Path, certificate: Path | None, key: Path | None, with_prompt: bool
    ) -> Self:
        """The one that is given, or the one in `folder`, which is made if absent.

        Raises:
            CannotSign: if what is given is not there, or of no use.
        """
        if (certificate is None) != (key is None):
            raise CannotSign("A signing certificate and its key are given together.")
        if certificate is None or key is None:
            make(folder)
            certificate, key = folder / "chain.pem", folder / "leaf.key"
        try:
            return cls(certificate.read_bytes(), key.read_bytes(), with_prompt)
        except OSError as error:
            raise CannotSign(f"{error.filename} cannot be read: {error.strerror}.") from None

    def sign(self, path: Path, request: Mapping[str, Any], inputs: Mapping[str, Path]) -> None:
        """Put the manifest into the MP4 at `path`.

        request: as resolved, with model, seed and prompt. inputs: files that it starts from.
        """
        manifest = json.dumps(self._manifest(path.stem, request))
        signed = path.with_name(f".{path.name}.{uuid4().hex}.part")
        try:
            context = c2pa.Context.from_dict(_UNCHECKED)
            with c2pa.Builder.from_json(manifest, context) as builder:
                for name, file in inputs.items():
                    _add_input(builder, name, file)
                with path.open("rb") as source, signed.open("w+b") as target:
                    builder.sign(self._signer, "video/mp4", source, target)
            os.replace(signed, path)
        finally:
            signed.unlink(missing_ok=True)

    def _manifest(self, title: str, request: Mapping[str, Any]) -> dict[str, Any]:
        ours = {"name": "Kinetograph", "version": version("kinetograph")}
        facts = {"model": request["model"], "seed": request["seed"]}
        facts |= {"prompt": request["prompt"]} if self._with_prompt else {}
        action = {"action": "c2pa.created", "digitalSourceType": AI_MADE, "softwareAgent": ours}
        action |= {"when": datetime.now(UTC).isoformat(timespec="seconds")}
        assertions = [
            {"label": "c2pa.actions.v2", "data": {"actions": [action]}},
            {"label": "org.kinetograph.generation", "data": facts},
        ]
        told = {"claim_generator_info": [ours], "assertions": assertions}
        return told | {"title": title, "format": "video/mp4"}


def _add_input(builder: c2pa.Builder, name: str, file: Path) -> None:
    kind = MEDIA_TYPES[file.suffix]
    told = json.dumps({"title": name, "relationship": "inputTo", "format": kind})
    try:
        with file.open("rb") as source:
            builder.add_ingredient(told, kind, source)
    except c2pa.C2paError:  # a format that cannot carry a manifest, or a broken one
        builder.add_ingredient(told, "application/octet-stream", io.BytesIO(b""))


def _algorithm(key: bytes) -> c2pa.C2paSigningAlg:
    loaded = serialization.load_pem_private_key(key, None)
    if isinstance(loaded, ec.EllipticCurvePrivateKey):
        bits = {256: "ES256", 384: "ES384", 521: "ES512"}
        return c2pa.C2paSigningAlg[bits[loaded.curve.key_size]]
    return c2pa.C2paSigningAlg.ED25519 if "Ed25519" in type(loaded).__name__ else _PS256


_PS256 = c2pa.C2paSigningAlg.PS256


def make(folder: Path) -> None:
    """Make an authority and a certificate under it, unless they are there; safe to race.

    `authority.pem` is what others need to trust what is signed here. Keys are for the owner alone.
    """
    if folder.is_dir():
        return
    part = folder.with_name(f".{folder.name}.{uuid4().hex}")
    part.mkdir(mode=0o700, parents=True)
    try:
        authority_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        # A name of its own, or two services' authorities would be taken for one.
        name = _name(f"Kinetograph private authority {secrets.token_hex(4)}")
        authority = _certificate("authority", name, authority_key, name, authority_key)
        leaf = _certificate("leaf", _name("Kinetograph"), leaf_key, name, authority_key)
        for file, data in (
            ("authority.key", _pem(authority_key)),
            ("leaf.key", _pem(leaf_key)),
            ("authority.pem", _public(authority)),
            ("chain.pem", _public(leaf) + _public(authority)),
        ):
            opened = os.open(part / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(opened, "wb") as target:
                target.write(data)
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another was first
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _certificate(
    kind: str,
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.Certificate:
    """As C2PA 2.2, section 14.5 (certificate profile), wants them."""
    ca, begins = kind == "authority", datetime.now(UTC) - timedelta(days=1)
    use = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    use |= {"key_cert_sign": True, "crl_sign": True} if ca else {"digital_signature": True}
    builder = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=365 * YEARS[kind]))
        .add_extension(x509.BasicConstraints(ca, 0 if ca else None), True)
        .add_extension(x509.KeyUsage(**use), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False
        )
    )
    if not ca:
        builder = builder.add_extension(x509.ExtendedKeyUsage([DOCUMENT_SIGNING]), False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    parts = {NameOID.COMMON_NAME: common, NameOID.ORGANIZATION_NAME: "Kinetograph"}
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts.items()])


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
