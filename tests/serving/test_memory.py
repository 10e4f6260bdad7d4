"""What does not fit the device is refused before it is queued, and what is proposed is accepted."""

import re
from typing import Any

import pytest

from serving.errors import ApiError
from serving.memory import Memory, Shape, fits, peak, shorter, smaller
from serving.models import resolve
from serving.resolved import Description, Resolved
from serving.schema import CreateVideo

MEMORY: Memory = {
    "stages": {"text": (7e9, 0, 0), "denoise": (3e9, 0, 200.0), "decode": (1e9, 9000.0, 500.0)},
    "frames_per_latent": 4,
    "limit": 10_000_000_000,
}
WAN: Description = {
    "name": "wan",
    "capabilities": ["text", "remix"],
    "sizes": ["832x480", "480x832", "1280x720"],
    "size_multiple": 16,
    "num_frames": [81, *range(77, 0, -4)],
    "fps": 16,
    "num_inference_steps": 50,
    "guidance_scale": 5.0,
    "guidance_scale_2": None,
    "flow_shift": 3.0,
    "max_sequence_length": 512,
    "words": None,
    "grammar": None,
    "examples": None,
    "parameters": 1,
    "memory": MEMORY,
}


def asked(of: Description = WAN, /, **fields: Any) -> Resolved:
    return resolve(CreateVideo.parse({"prompt": "a cat", **fields}), [of])


def limited(gigabytes: float | None) -> Description:
    limit = None if gigabytes is None else int(gigabytes * 1e9)
    return {**WAN, "memory": {**MEMORY, "limit": limit}}


def test_the_peak_is_that_of_the_hungriest_stage() -> None:
    # 832 x 480 = 399,360 pixels; 81 frames are 21 latent frames.
    assert peak(MEMORY, Shape(832, 480, 1)) == 7e9
    assert peak(MEMORY, Shape(832, 480, 81)) == 1e9 + 9000 * 399_360 + 500 * 399_360 * 21
    assert fits(MEMORY, Shape(832, 480, 81)) and not fits(MEMORY, Shape(1280, 720, 81))


def test_frames_beside_the_clip_and_a_batch_of_two_take_memory_in_denoising_alone() -> None:
    area = 832 * 480
    hungry: Memory = {"stages": {"denoise": (3e9, 0, 200.0)}, "frames_per_latent": 4, "limit": None}
    assert peak(hungry, Shape(832, 480, 81, references=6)) == 3e9 + 200 * area * (21 + 6)
    assert peak(MEMORY, Shape(832, 480, 81, 1)) == peak(MEMORY, Shape(832, 480, 81))  # decode
    batched: Memory = {**hungry, "batched": area * 21}
    assert peak(batched, Shape(832, 480, 81)) == 3e9 + 200 * area * 2 * 21
    assert peak(batched, Shape(832, 480, 81, 1)) == 3e9 + 200 * area * 22  # one after the other
    assert peak(batched, Shape(832, 480, 85)) == 3e9 + 200 * area * 22


def test_a_lora_counts_before_it_is_queued() -> None:
    """By its name: one needs another's length, one none, and what is proposed is accepted."""
    memory: Memory = {
        "stages": {"denoise": (0, 0, 100.0), "decode": (0, 0, 90.0)},
        "frames_per_latent": 4,
        "limit": 832 * 480 * 21 * 110,
        "adapted": {"wide": (1e6, 0, 200.0), "thin": (1e6, 0, 105.0)},
    }
    area = 832 * 480
    assert peak(memory, Shape(832, 480, 81, lora="wide")) == 1e6 + 200 * area * 21
    assert peak(memory, Shape(832, 480, 81, lora="unread")) == 100 * area * 21
    model: Description = {**WAN, "loras": ["thin", "wide"], "memory": memory}
    for lora in (None, "thin"):
        assert asked(model, model="wan", num_frames=81, lora=lora).num_frames == 81
    with pytest.raises(ApiError, match="81 frames of 832x480 with the LoRA wide take") as refusal:
        asked(model, model="wan", num_frames=81, lora="wide")
    found = re.search(r"num_frames to (\d+)", refusal.value.message)
    assert found
    frames = int(found[1])
    assert asked(model, model="wan", num_frames=frames, lora="wide").num_frames == frames < 81


IMAGE = {"image_url": "data:image/png;base64,AAAA"}


@pytest.mark.parametrize(
    ("fields", "joining", "latent_frames"),
    [
        ({}, False, 21),
        ({"last_frame": IMAGE}, False, 22),
        ({"input_reference": IMAGE, "last_frame": IMAGE}, False, 22),
        ({"input_reference": IMAGE, "loop": True}, False, 22),
        ({}, True, 21 + 6),  # a quarter of 21, rounded up
    ],
)
def test_what_is_shown_beside_the_clip_counts_before_it_is_queued(
    fields: dict[str, Any], joining: bool, latent_frames: int
) -> None:
    """Accepted where there is just memory for it, and refused with one byte less."""
    needed = 832 * 480 * latent_frames
    memory: Memory = {"stages": {"denoise": (0, 0, 1.0)}, "frames_per_latent": 4, "limit": needed}
    able = ["text", "first_frame", "last_frame", "loop", "join"]
    model: Description = {**WAN, "capabilities": able, "memory": memory}
    request = CreateVideo.parse({"prompt": "a cat", "model": "wan", "num_frames": 81, **fields})
    made = resolve(request, [model], joining)
    assert (made.num_frames, made.references) == (81, latent_frames - 21)
    memory["limit"] = needed - 1
    with pytest.raises(ApiError, match="81 frames of 832x480 take") as refusal:
        resolve(request, [model], joining)
    found = re.search(r"num_frames to (\d+)", refusal.value.message)
    assert found
    shorter = request.model_copy(update={"num_frames": int(found[1])})
    assert resolve(shorter, [model], joining).num_frames == int(found[1]) < 81


def test_the_nearest_that_fits_is_found_exactly() -> None:
    shape = Shape(1280, 720, 81)
    near = shorter(MEMORY, shape, WAN["num_frames"])
    assert near == Shape(1280, 720, 1)  # 9000 · 921,600 alone are 8.3 GB
    near = smaller(MEMORY, shape, [(832, 480)], None)
    assert near == Shape(832, 480, 81)
    near = smaller(MEMORY, shape, [(832, 480)], 16)
    assert near and near.area > 832 * 480 and fits(MEMORY, near)
    assert abs(near.width / near.height - 1280 / 720) < 0.05
    assert near == Shape(880, 496, 81) and not fits(MEMORY, Shape(912, 512, 81))


@pytest.mark.parametrize(
    "gigabytes",
    [7.2, 8.0, 9.0, 12.0, 16.0],
)
@pytest.mark.parametrize("size", ["832x480", "1280x720", "640x592"])
def test_what_is_proposed_is_accepted(gigabytes: float, size: str) -> None:
    model = limited(gigabytes)
    try:
        asked(model, model="wan", size=size, num_frames=81)
        assert gigabytes >= 9
        return
    except ApiError as refusal:
        error = refusal
    assert (error.status, error.code) == (400, "insufficient_memory")
    assert f"81 frames of {size} take" in error.message
    assert f"wan has {gigabytes} GB" in error.message
    proposals = error.message.split("; lower ")[1].split(", or ")
    for proposal in proposals:
        fields: dict[str, Any] = {"size": size, "num_frames": 81}
        if found := re.search(r"num_frames to (\d+)", proposal):
            fields["num_frames"] = int(found[1])
        if found := re.search(r"size to (\w+)", proposal):
            fields["size"] = found[1]
        made = asked(model, model="wan", **fields)
        assert (made.rendered_size, made.num_frames) == (fields["size"], fields["num_frames"])
    assert error.param == ("num_frames" if "num_frames" in proposals[0] else "size")
    if found := re.search(r"seconds to ([\d.]+)", proposals[0]):
        size = fields["size"] if "size" in proposals[0] else size
        assert asked(model, model="wan", size=size, seconds=found[1])


def test_through_an_alias_the_nearest_is_made_with_a_warning() -> None:
    made = asked(limited(8.0), model="sora-2")
    (warning,) = made.warnings
    assert warning.startswith("memory: 81 frames of 832x480 take 8.8 GB of memory, and wan has 8.0")
    assert f"lowered num_frames to {made.num_frames}" in warning and made.num_frames < 81
    assert asked(WAN, model="sora-2").warnings == []


def test_where_nothing_fits_it_says_so_and_without_a_limit_all_fits() -> None:
    with pytest.raises(ApiError, match="nothing that it makes fits"):
        asked(limited(6.9), model="wan")
    assert asked(limited(None), model="wan", size="1280x720").num_frames == 81


def test_a_name_of_the_catalogue_s_and_a_lora_are_looked_up() -> None:
    model: Description = {**WAN, "aliases": ["fast"], "loras": ["ink", "noir"]}
    made = asked(model, model="fast", lora="ink", size="831x480")
    assert (made.model, made.lora, len(made.warnings)) == ("wan", "ink", 1)
    with pytest.raises(ApiError, match="or an alias .*, fast\\), not 'slow'"):
        asked(model, model="slow")
    for lora in ("../ink", "ink.safetensors", "/etc/passwd"):
        with pytest.raises(ApiError, match="lora must be one of ink, noir for wan, not") as error:
            asked(model, lora=lora)
        assert (error.value.param, error.value.code) == ("lora", "lora_not_found")
    with pytest.raises(ApiError, match="lora must be left out for wan"):
        asked(lora="ink")
