"""A request becomes one that the model can do: strictly by its name, leniently by an alias."""

from typing import Any

import pytest

from serving.errors import ApiError
from serving.models import ALIASES, prompt_warnings, resolve
from serving.resolved import Description, shortest_decimal
from serving.schema import CreateVideo
from serving.vocabulary import nearest_prompt, unknown_words

TOY: Description = {
    "name": "toy",
    "capabilities": ["text"],
    "sizes": ["64x64", "96x48"],
    "size_multiple": None,
    "num_frames": [17, 9, 33],
    "fps": 8,
    "num_inference_steps": 24,
    "guidance_scale": 2.5,
    "guidance_scale_2": None,
    "flow_shift": 2.0,
    "max_sequence_length": 8,
    "words": ["a", "red", "ball", "bounces", "cat", "walks"],
    "grammar": ["a {c} ball bounces"],
    "examples": ["a cat walks", "a red ball bounces"],
    "parameters": 9,
}
WAN: Description = {
    **TOY,
    "name": "wan",
    "sizes": ["832x480", "480x832"],
    "size_multiple": 16,
    "num_frames": [81, 77, 5, 1],
    "fps": 16,
    "words": None,
    "examples": None,
}


def asked(of: Description = TOY, /, **fields: Any) -> Any:
    return resolve(CreateVideo.parse({"prompt": "a cat walks", **fields}), [of])


def test_with_nothing_asked_the_first_size_and_length_are_made_and_a_stamp_is_enlarged() -> None:
    made = asked()
    assert (made.model, made.size, made.rendered_size, made.seconds) == (
        *("toy", "512x512", "64x64", "2.125"),
    )
    assert made.warnings == []
    assert asked(WAN).size == asked(WAN).rendered_size == "832x480"


@pytest.mark.parametrize(
    ("size", "rendered", "scale"),
    [
        ("64x64", "64x64", 1),
        ("512x512", "64x64", 8),
        ("96x48", "96x48", 1),
        ("768x384", "96x48", 8),
    ],
)
@pytest.mark.parametrize("name", ["toy", "sora-2"])
def test_native_sizes_and_their_eightfold_are_made_as_asked(
    size: str, rendered: str, scale: int, name: str
) -> None:
    made = asked(size=size, model=name)
    assert (made.size, made.rendered_size, made.scale, made.warnings) == (size, rendered, scale, [])
    width, height = map(int, size.split("x"))
    assert asked(width=width, height=height, model=name).size == size


def test_what_a_model_draws_itself_is_not_enlarged_from_a_stamp() -> None:
    both: Description = {**TOY, "sizes": ["64x64", "512x512"]}
    made = asked(both, size="512x512")
    assert (made.rendered_size, made.scale) == ("512x512", 1)
    assert asked(both, size="64x64").scale == 1


@pytest.mark.parametrize("name", [None, *ALIASES])
@pytest.mark.parametrize(
    ("size", "resolved"), [("1280x720", "768x384"), ("720x1280", "512x512"), ("65x64", "512x512")]
)
def test_an_alias_takes_the_nearest_aspect_and_says_so(
    name: str | None, size: str, resolved: str
) -> None:
    # log(16/9) is nearer to log(2) than to log(1); log(9/16) is nearer to log(1).
    made = asked(size=size, model=name)
    assert (made.model, made.size) == ("toy", resolved)
    (warning,) = made.warnings
    assert warning.startswith("size: ") and size in warning and resolved in warning


@pytest.mark.parametrize(
    ("seconds", "frames"), [("12", 33), ("4.125", 33), ("4", 17), ("2.1", 9), ("0.5", 9), (4, 17)]
)
def test_an_alias_takes_the_longest_length_up_to_the_one_asked(seconds: Any, frames: int) -> None:
    made = asked(seconds=seconds, model="sora-2")
    assert made.num_frames == frames
    assert bool(made.warnings) == (seconds != "4.125")
    assert all(str(seconds) in w and made.seconds in w for w in made.warnings)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("size", "1280x720", "64x64, 96x48, 512x512, 768x384"),
        ("seconds", "4", "1.125, 2.125, 4.125"),
        ("num_frames", 16, "9, 17, 33"),
    ],
)
def test_by_its_own_name_a_model_refuses_with_the_allowed_values(
    field: str, value: Any, allowed: str
) -> None:
    with pytest.raises(ApiError) as refusal:
        asked(model="toy", **{field: value})
    assert (refusal.value.param, refusal.value.status) == (field, 400)
    assert f"{field} must be one of {allowed} for toy, not {value}." == refusal.value.message


def test_a_model_of_any_multiple_takes_sizes_up_to_its_area() -> None:
    assert asked(WAN, model="wan", size="640x592").size == "640x592"
    for size in ("640x600", "1280x720"):
        with pytest.raises(ApiError, match="multiples of 16 with at most 399360 pixels"):
            asked(WAN, model="wan", size=size)
    assert asked(WAN, size="1280x720").size == "832x480"


def test_seconds_follow_the_frame_rate_that_is_asked() -> None:
    assert asked(fps=16, model="toy").seconds == "1.0625"
    assert asked(fps=16, seconds="1.0625", model="toy").num_frames == 17


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"size": "64x64", "width": 64, "height": 65}, "size"),
        ({"width": 64}, "height"),
        ({"seconds": "2.125", "num_frames": 9}, "seconds"),
        ({"guidance_scale_2": 2}, "guidance_scale_2"),
        ({"model": "nope"}, "model"),
    ],
)
def test_contradictions_and_what_the_model_lacks_are_refused_even_leniently(
    fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(ApiError) as refusal:
        asked(**fields)
    assert refusal.value.param == param


def test_a_model_that_needs_an_image_is_refused_by_name() -> None:
    with pytest.raises(ApiError, match="is missing; toy starts from an image") as refusal:
        asked({**TOY, "capabilities": ["first_frame"]})
    assert refusal.value.param == "input_reference"


def test_seeds_are_kept_and_otherwise_differ() -> None:
    assert asked(seed=7).seed == 7
    assert asked(seed=0).seed == 0
    # Two draws out of 2**31 are equal once in 2e9 runs.
    assert asked().seed != asked().seed


def test_durations_are_written_with_the_fewest_digits() -> None:
    assert [shortest_decimal(f / r) for f, r in [(17, 8), (32, 8), (81, 16), (1, 3)]] == [
        *("2.125", "4", "5.0625", "0.3333333333333333"),
    ]


def test_unknown_words_are_named_once_in_order_whatever_their_case_and_marks() -> None:
    words = TOY["words"]
    assert words
    assert unknown_words("A Dragon, a RED dragon: bounces on Éclairs!", words) == [
        *("dragon", "on", "éclairs"),
    ]
    assert unknown_words("a red ball", words) == []


def test_the_nearest_prompt_shares_words_first_and_letters_second() -> None:
    known = ["a cat walks left", "a red ball is dropped and bounces", "a blue cat walks right"]
    assert nearest_prompt("a red dragon bounces", known) == known[1]
    # By letters alone the first would be nearer.
    known_apart = ["the bed hall", "red ball on a wide green background"]
    assert nearest_prompt("the red ball", known_apart) == known_apart[1]
    assert nearest_prompt("blu kat waks rite", known) == known[2]


def test_a_word_level_model_says_which_words_it_lacks_and_where_it_stops_reading() -> None:
    (lacks,) = prompt_warnings("a red dragon bounces", TOY)
    assert '"dragon"' in lacks and '"a red ball bounces"' in lacks
    # Eight tokens, one of them the end's: seven words fit, the eighth does not.
    assert prompt_warnings("a cat walks, a cat walks a", TOY) == []
    (cut,) = prompt_warnings("a cat walks, a cat walks a cat", TOY)
    assert "8" in cut and "7" in cut
    assert prompt_warnings("any words at all, as many as one likes", WAN) == []
