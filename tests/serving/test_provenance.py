"""Every video says by what it was made, signed; a changed byte or another signer is told."""

import io
import stat
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import pytest

from model.video import write_mp4
from serving.cli import main
from serving.intake import manifest
from serving.intake.jail import JAIL
from serving.mark import marked
from serving.provenance import CannotSign, Provenance, make
from serving.service import Service
from tests.serving.hostile import clip, picture
from tests.serving.idle import finish, idle_service, served

FRAMES = np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), np.uint8)
REQUEST = {"model": "tiny", "seed": 7, "prompt": "sentinel4711"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "provenance"
    make(folder)
    return folder


@pytest.fixture(scope="module")
def provenance(authority: Path) -> Provenance:
    return Provenance.of(authority, None, None, False)


def signed(provenance: Provenance, folder: Path, **inputs: Path) -> Path:
    path = folder / "1.mp4"
    write_mp4(path, FRAMES, 8)
    provenance.sign(path, REQUEST, inputs)
    assert [each.name for each in folder.glob(".*")] == []
    return path


def verify(data: bytes, authority: Path | None) -> dict[str, Any]:
    anchors = (authority / "authority.pem").read_text() if authority else ""
    with tempfile.TemporaryFile() as file:
        file.write(data)
        return JAIL.verify(file, anchors)


def test_a_video_says_what_made_it_and_plays_as_before(
    provenance: Provenance, authority: Path, tmp_path: Path
) -> None:
    path = signed(provenance, tmp_path)
    told = verify(path.read_bytes(), authority)
    assert (told["verdict"], told["model"], told["ai_made"]) == ("trusted", "tiny", True)
    assert told["signer"] == "Kinetograph (Kinetograph)"
    assert told["generator"].startswith("Kinetograph 0.") and told["made_at"][:2] == "20"
    write_mp4(tmp_path / "plain.mp4", FRAMES, 8)
    plain, shown = (
        np.stack([frame.to_ndarray() for frame in container.decode(video=0)])
        for container in map(av.open, (tmp_path / "plain.mp4", path))
    )
    assert np.array_equal(plain, shown) and len(shown) == 9
    # The index is still in front, so that it plays from its first bytes on.
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")
    assert b"sentinel4711" not in path.read_bytes()


@pytest.mark.parametrize("place", [0.3, 0.5, 0.999])
def test_a_changed_byte_is_seen(
    provenance: Provenance, authority: Path, tmp_path: Path, place: float
) -> None:
    """Anywhere behind the manifest, which itself has room that says nothing."""
    data = bytearray(signed(provenance, tmp_path).read_bytes())
    assert data.index(b"moov") < 0.3 * len(data)
    data[round(place * len(data))] ^= 1
    assert verify(bytes(data), authority)["verdict"] == "tampered"


@pytest.mark.parametrize("step", [37, pytest.param(3, marks=pytest.mark.proof)])
def test_no_changed_byte_has_a_file_say_anything_else(
    provenance: Provenance, authority: Path, tmp_path: Path, step: int
) -> None:
    """Behind the manifest each is seen. Within it, padding and the names of boxes are not signed,
    and neither is the type of the file before it (C2PA 2.1, 18.7.2): they may change, and what is
    told is the same to the letter.
    """
    data, anchors = signed(provenance, tmp_path).read_bytes(), (authority / "authority.pem")
    whole = manifest.verify(io.BytesIO(data), anchors.read_text())
    begin, end = data.index(b"uuid") - 4, data.index(b"moov") - 4
    inside, outside = range(begin, end, (step + 2) // 3), [*range(8, begin), *range(end, len(data))]
    verdicts: Counter[str] = Counter()
    for place in [*inside, *outside[::step]]:
        changed = bytearray(data)
        changed[place] ^= 1
        told = manifest.verify(io.BytesIO(bytes(changed)), anchors.read_text())
        verdicts[told["verdict"]] += 1
        if told["verdict"] == "trusted":
            assert told == whole and place < end, place
        else:  # a manifest whose box is called otherwise is none
            assert told["verdict"] in ("tampered", "absent")
            assert told["verdict"] == "tampered" or place < begin + 24, place
    print(f"  one bit of {len(data)} bytes, at so many places: {dict(verdicts)}")
    assert verdicts["tampered"] > 100


def test_a_cut_file_an_unknown_signer_and_no_signature_are_told_apart(
    provenance: Provenance, authority: Path, tmp_path: Path
) -> None:
    data = signed(provenance, tmp_path).read_bytes()
    assert verify(data[:-200], authority)["verdict"] == "tampered"
    make(tmp_path / "other")
    for stranger in (None, tmp_path / "other"):
        told = verify(data, stranger)
        assert (told["verdict"], told["model"]) == ("valid, unknown signer", "tiny")
    assert verify(clip(), authority) == {
        "verdict": "absent",
        **dict.fromkeys(("signer", "generator", "model", "made_at", "ai_made")),
    }


def test_what_a_video_starts_from_is_told_whatever_it_is(
    provenance: Provenance, authority: Path, tmp_path: Path
) -> None:
    (tmp_path / "image.png").write_bytes(picture("PNG"))
    (tmp_path / "source.webm").write_bytes(clip(3, format="webm", codec="libvpx-vp9"))
    (tmp_path / "source.mp4").write_bytes(clip()[:500])
    for file in ("image.png", "source.webm", "source.mp4"):
        data = signed(provenance, tmp_path, image=tmp_path / file).read_bytes()
        assert verify(data, authority)["verdict"] == "trusted"
        assert b"inputTo" in data


def test_the_prompt_is_told_if_that_is_asked_for(authority: Path, tmp_path: Path) -> None:
    data = signed(Provenance.of(authority, None, None, True), tmp_path).read_bytes()
    assert b"sentinel4711" in data


def test_keys_are_the_owner_s_alone_and_made_once(authority: Path, tmp_path: Path) -> None:
    for name in ("authority.key", "leaf.key"):
        assert stat.S_IMODE((authority / name).stat().st_mode) == 0o600
    before = (authority / "leaf.key").read_bytes()
    make(authority)
    assert (authority / "leaf.key").read_bytes() == before
    assert [path.name for path in authority.parent.iterdir()] == ["provenance"]


def test_a_certificate_that_is_given_signs(authority: Path, tmp_path: Path) -> None:
    chain, key = authority / "chain.pem", authority / "leaf.key"
    provenance = Provenance.of(tmp_path / "unused", chain, key, False)
    assert not (tmp_path / "unused").exists()
    assert verify(signed(provenance, tmp_path).read_bytes(), authority)["verdict"] == "trusted"
    with pytest.raises(CannotSign, match="given together"):
        Provenance.of(tmp_path, chain, None, False)
    with pytest.raises(CannotSign, match="cannot be read"):
        Provenance.of(tmp_path, chain, tmp_path / "nowhere", False)
    with pytest.raises(CannotSign, match="cannot be signed with this certificate"):
        Provenance.of(tmp_path, chain, chain, False)


def test_to_sign_takes_at_most_100_ms(provenance: Provenance, tmp_path: Path) -> None:
    """Of this thread's own time, the median of nine, at 512x512 and 17 frames."""
    path, spent = tmp_path / "1.mp4", []
    data = clip(17, 512)
    for _ in range(9):
        path.write_bytes(data)
        begun = time.thread_time()
        provenance.sign(path, REQUEST, {})
        spent.append(time.thread_time() - begun)
    print(f"  signed in {1000 * statistics.median(spent):.1f} ms")
    assert statistics.median(spent) < 0.1


@pytest.fixture
def service(tmp_path: Path, authority: Path) -> Iterator[Service]:
    with idle_service(tmp_path) as service:
        service._anchor_file = authority / "authority.pem"
        yield service


def test_the_api_verifies_what_is_sent_and_what_was_made_here(
    service: Service, provenance: Provenance, tmp_path: Path
) -> None:
    data = signed(provenance, tmp_path).read_bytes()

    def verdict(api: httpx.Client, **body: Any) -> str:
        response = api.post("/v1/videos/verify", **body)
        assert response.status_code == 200, response.text
        return str(response.json()["verdict"])

    with served(service) as api:
        assert verdict(api, files={"video": data}) == "trusted"
        assert verdict(api, files={"video": clip()}) == "absent"
        made = api.post("/v1/videos", json={"prompt": "a cat"}).json()["id"]
        finish(service, made, data)
        assert verdict(api, json={"video": {"id": made}}) == "trusted"
        refusal = api.post("/v1/videos/verify", files={"video": b"no video"})
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "invalid_video")
        nobody = api.post("/v1/videos/verify", json={"video": {"id": "video_nobody"}})
        assert nobody.status_code == 404


def test_the_command_verifies_a_file(
    provenance: Provenance, authority: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = signed(provenance, tmp_path)
    assert main(["verify", str(path), "--data", str(authority.parent)]) == 0
    told = capsys.readouterr().out
    assert "verdict: trusted\n" in told and "model: tiny\n" in told
    assert main(["verify", str(path), "--data", str(tmp_path)]) == 1
    assert "valid, unknown signer" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "nothing.mp4")]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_a_mark_is_in_the_corner_and_nowhere_else() -> None:
    frames = np.full((2, 60, 90, 3), 90, np.uint8)
    shown = marked(frames, "AI")
    changed = (shown != frames).any(axis=(0, 3))
    assert changed[40:, 60:].any() and not changed[:40].any() and not changed[:, :60].any()
    assert np.array_equal(shown[0], shown[1]) and shown.dtype == np.uint8
