"""What a file's C2PA manifest says of who made it, and whether it can be believed."""

from typing import Any, BinaryIO

import c2pa

from serving.intake import Unfit

TRUSTED, UNKNOWN, TAMPERED, ABSENT = "trusted", "valid, unknown signer", "tampered", "absent"
PURPOSES = "1.3.6.1.5.5.7.3.4\n1.3.6.1.5.5.7.3.36\n1.3.6.1.4.1.62558.2.1\n"
"""What a certificate may be for: mail, documents (RFC 9336), C2PA claims."""
_UNTRUSTED = "signingCredential.untrusted"
_HEAD = 1 << 20


def verify(source: BinaryIO, anchors: str) -> dict[str, Any]:
    """Look into an MP4; anchors: certificates of the authorities that are trusted, as PEM.

    Raises:
        Unfit: for what is no MP4 at all.
    """
    head = source.read(_HEAD)
    source.seek(0)
    if head[4:8] != b"ftyp":
        raise Unfit("invalid_video", "an MP4 file")
    settings: dict[str, Any] = {
        "verify": {"verify_trust": True, "remote_manifest_fetch": False, "ocsp_fetch": False},
        "trust": {"trust_config": PURPOSES} | ({"user_anchors": anchors} if anchors else {}),
    }
    try:
        context = c2pa.Context.from_dict(settings)
        reader = c2pa.Reader.try_create("video/mp4", source, context=context)
        return _told(reader) if reader is not None else _answer(ABSENT)
    except (c2pa.C2paError, KeyError):  # a manifest, or a file around it, that cannot be read
        return _answer(TAMPERED if b"c2pa" in head else ABSENT)


def _told(reader: c2pa.Reader) -> dict[str, Any]:
    with reader:
        results, manifest = reader.get_validation_results(), reader.get_active_manifest()
    found: list[dict[str, str]] = (results or {}).get("activeManifest", {}).get("failure", [])
    failures = {each["code"] for each in found}
    if manifest is None or failures - {_UNTRUSTED}:
        return _answer(TAMPERED)
    signature = manifest.get("signature_info", {})
    told: dict[str, Any] = {each["label"]: each["data"] for each in manifest.get("assertions", [])}
    actions = [data["actions"] for name, data in told.items() if "c2pa.actions" in name]
    first: dict[str, Any] = actions[0][0] if actions else {}
    generator = (manifest.get("claim_generator_info") or [{}])[0]
    return _answer(
        UNKNOWN if _UNTRUSTED in failures else TRUSTED,
        signer=f"{signature.get('common_name')} ({signature.get('issuer')})",
        generator=f"{generator.get('name')} {generator.get('version')}",
        model=told.get("org.kinetograph.generation", {}).get("model"),
        made_at=first.get("when"),
        ai_made=str(first.get("digitalSourceType", "")).endswith("/trainedAlgorithmicMedia"),
    )


def _answer(verdict: str, **facts: Any) -> dict[str, Any]:
    names = ("signer", "generator", "model", "made_at", "ai_made")
    return {"verdict": verdict, **{name: facts.get(name) for name in names}}
