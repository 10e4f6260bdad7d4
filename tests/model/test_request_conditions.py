"""What a video cannot start from is refused by name: by its checkpoint, its company, its form."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.pipeline import GenerationRequest, RequestError, VideoPipeline

Build = Callable[..., Path]
IMAGE = Image.new("RGB", (8, 8))
FRAMES = np.zeros((17, 48, 64, 3), np.uint8)
MASK = np.ones((48, 64), bool)
LONG_MASK = np.ones((17, 48, 64), bool)
ALL = "conditioned"
REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("ti2v", {"last_image": IMAGE}, "last_image is <PIL.*can do text, remix and first_frame"),
    ("ti2v", {"prefix": FRAMES}, "prefix is 'given'; allowed: none, since .* can do text, remix"),
    ("ti2v", {"image": IMAGE, "mask": MASK}, "mask is 'given'; allowed: none, since"),
    ("ti2v", {"image": IMAGE, "loop": True}, "loop is True; allowed: none, since"),
    ("i2v", {"image": IMAGE, "keyframes": {3: IMAGE}}, "keyframes is 'given'; .* none"),
    ("i2v", {"last_image": IMAGE}, "image is None; allowed: a first frame, without which"),
    ("i2v-clip", {"image": IMAGE, "last_image": IMAGE}, "last_image is .*: none, since"),
    ("flf-clip", {"image": IMAGE}, "image is <PIL.*can do last_frame only"),
    ("embedded", {"suffix": FRAMES}, "suffix is 'given'; allowed: none, since .* text and remix"),
    (ALL, {"image": IMAGE, "prefix": FRAMES}, "image is <PIL.*: none beside prefix"),
    (ALL, {"last_image": IMAGE, "suffix": FRAMES}, "last_image is .*: none beside suffix"),
    (ALL, {"keyframes": {3: IMAGE}, "prefix": FRAMES}, "keyframes is .*: none beside prefix"),
    (ALL, {"image": IMAGE, "loop": True, "last_image": IMAGE}, "none beside loop"),
    (ALL, {"prefix": FRAMES, "suffix": FRAMES, "loop": True}, "loop is True; .* beside suffix"),
    (ALL, {"video": FRAMES, "prefix": FRAMES}, "prefix is 'given'; allowed: none beside video"),
    (ALL, {"video": FRAMES, "mask": MASK, "keyframes": {3: IMAGE}}, "none beside mask"),
    (ALL, {"mask": MASK}, "mask is 'given'; allowed: none without an image or a video"),
    (ALL, {"loop": True}, "loop is True; allowed: none without an image or a prefix"),
    (ALL, {"loop": 1, "image": IMAGE}, "loop is 1; allowed: true or false"),
    (ALL, {"last_image": "end.png"}, "last_image is 'end.png'; allowed: a PIL image"),
    (ALL, {"prefix": [IMAGE]}, "prefix is 'list'; allowed: an array of frames"),
    (ALL, {"suffix": FRAMES[..., 0]}, r"suffix is 'uint8 of shape \(17, 48, 64\)'; allowed: uint8"),
    (ALL, {"keyframes": {17: IMAGE}}, "keyframes is 17; allowed: frames from 0 to 16"),
    (ALL, {"keyframes": {-1: IMAGE}}, "keyframes is -1; allowed: frames from 0 to 16"),
    (ALL, {"keyframes": {0: IMAGE}, "image": IMAGE}, "0; allowed: frames from 1 to 16"),
    (ALL, {"keyframes": {16: IMAGE}, "last_image": IMAGE}, "16; .* from 0 to 15"),
    (ALL, {"keyframes": {2: "a.png"}}, "keyframes is 'a.png'; allowed: a PIL image for each"),
    (ALL, {"mask": MASK & False, "image": IMAGE}, "mask is 'false everywhere'"),
    (ALL, {"mask": MASK.astype(float), "image": IMAGE}, "mask is 'float64 of shape"),
    (ALL, {"mask": "m.png", "image": IMAGE}, "mask is 'str'; allowed: an array"),
    (ALL, {"mask": LONG_MASK[:16], "video": FRAMES}, "mask is '16 frames'; .* 1 or at least 17"),
    (ALL, {"strength": 0.5, "mask": MASK, "image": IMAGE}, "strength is 0.5; .*out a video"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "fields", "message"), REFUSED)
def test_what_cannot_be_is_refused_by_name(
    build: Build, form: str, fields: dict[str, Any], message: str
) -> None:
    """At once, before any work."""
    pipeline = VideoPipeline.from_pretrained(build(form))
    size = {} if form in ("embedded", ALL) else {"height": 64, "width": 96}
    with pytest.raises(RequestError, match=message):
        pipeline.generate(GenerationRequest("a cat", **size, **fields))


def test_one_frame_has_no_end_to_lead_to(build: Build) -> None:
    pipeline = VideoPipeline.from_pretrained(build("i2v"))
    request = GenerationRequest(
        "a cat", height=64, width=96, num_frames=1, image=IMAGE, last_image=IMAGE
    )
    with pytest.raises(RequestError, match="num_frames is 1; allowed: 5, 9, 13"):
        pipeline.generate(request)
