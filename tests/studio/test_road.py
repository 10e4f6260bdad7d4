"""The whole road on the embedded model: type, watch, cancel, reload, remix and delete."""

import re
from typing import Any

from playwright.sync_api import Page, expect

from tests.serving.conftest import Served
from tests.studio.browser import enter
from tests.studio.test_page import ask, card, expect_gone, video

Model = dict[str, Any]

FEW = "3"
"""Steps, where the picture does not matter: noise for the most part, but of every stage."""


def start(blank: Page, embedded: Served) -> Model:
    """Open the studio of the embedded model; gives what it says of itself."""
    enter(blank, embedded.url)
    (model,) = embedded.api.get("/v1/models").json()["data"]
    known: Model = model
    return known


def request(blank: Page, model: Model, prompt: str, steps: str) -> None:
    """Ask for the shortest and smallest video that the model makes."""
    seconds = min(model["num_frames"]) / model["fps"]
    ask(blank, prompt, seconds=f"{seconds:g}", steps=steps, size=model["sizes"][0])


def test_its_words_are_known_and_its_grammar_goes_on(blank: Page, embedded: Served) -> None:
    model = start(blank, embedded)
    assert model["id"] in blank.locator("#model").inner_text()
    example = model["examples"][0]
    expect(blank.locator("#chips .chip").first).to_have_text(example)
    blank.fill("#prompt", "")
    built = ""
    for word in example.split():  # the whole of an example can be put together by chips
        chip = blank.locator("#chips .chip").get_by_text(word, exact=True)
        if built:
            chip.first.click()
            built = blank.input_value("#prompt")
        else:
            blank.fill("#prompt", f"{word} ")
            built = f"{word} "
    assert built.split() == example.split()
    expect(blank.locator("#known")).to_contain_text("A sentence that")
    expect(blank.locator("#echo mark")).to_have_count(0)
    blank.fill("#prompt", f"{example} with a zeppelin")
    expect(blank.locator("#echo mark")).to_have_text(["zeppelin"])


def test_a_job_is_watched_and_cancelled_over_a_reload(blank: Page, embedded: Served) -> None:
    model = start(blank, embedded)
    prompt = model["examples"][1]
    # How long one takes is known from those that are done.
    seconds = f"{min(model['num_frames']) / model['fps']:g}"
    shape = {"size": model["sizes"][0], "seconds": seconds, "num_inference_steps": int(FEW)}
    embedded.finish(embedded.create("a cat", **shape)["id"])
    request(blank, model, prompt, "1000")
    request(blank, model, f"{prompt} and left", "1000")
    running = card(blank, prompt, "in_progress")
    running.locator("img[src^='data:image/webp']").wait_for()
    expect(card(blank, f"{prompt} and left", "queued")).to_contain_text("Next in line")
    expect(running).to_contain_text(re.compile(r"\d+ % · about \d+"))
    blank.reload()
    expect(blank.locator("#prompt")).to_have_value(f"{prompt} and left")
    expect(blank.locator("#num_inference_steps")).to_have_value("1000")
    waiting = card(blank, f"{prompt} and left", "queued")
    waiting.locator(".act").click()
    expect(card(blank, f"{prompt} and left", "failed")).to_contain_text("Cancelled")
    running = card(blank, prompt, "in_progress")
    running.locator("img[src^='data:image/webp']").wait_for()
    running.locator(".act").click()
    expect(blank.locator(".card[data-status=failed]")).to_have_count(2)


def test_a_video_is_made_believed_remixed_and_deleted(blank: Page, embedded: Served) -> None:
    model = start(blank, embedded)
    prompt, other = model["examples"][2], model["examples"][3]
    request(blank, model, prompt, FEW)
    made = card(blank, prompt)
    blank.reload()  # the wall is the service's, not the page's
    made = card(blank, prompt)
    made.locator(".open").hover()
    expect(made.locator(".sheet")).to_be_visible()
    made.locator(".open").click()
    expect(blank.locator("#frame")).to_contain_text(f"/ {min(model['num_frames'])}")
    blank.click("#provenance")
    expect(blank.locator("#verdict")).to_contain_text("Unchanged since it was made here.")
    blank.click("#remix")
    blank.fill("#prompt", other)
    blank.click("#go")
    remix = card(blank, other)
    source, told = video(embedded, prompt), video(embedded, other)
    assert told["remixed_from_video_id"] == source["id"] and told["status"] == "completed"
    remix.locator(".open").click()
    expect(blank.locator("#lineage")).to_contain_text("A remix of")
    blank.click("#delete")
    expect(blank.locator(".card", has_text=other)).to_have_count(0)
    blank.get_by_role("button", name="Undo").click()
    remix = card(blank, other)
    remix.hover()
    remix.locator(".act").click()
    blank.mouse.move(1, 1)  # a note that is pointed at stays
    expect_gone(embedded, str(told["id"]))
    assert embedded.api.get(f"/v1/videos/{source['id']}").json()["status"] == "completed"
