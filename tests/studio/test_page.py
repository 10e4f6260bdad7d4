"""A person with a browser can type, watch, cancel, look closely, remix, compare and delete, and
loses nothing on the way.
"""

import io
import re
import time
from pathlib import Path

import httpx
import imageio.v3 as iio
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from serving.policy import Policy, blocklist
from tests.serving.conftest import EXAMPLES, Served
from tests.serving.hostile import clip
from tests.serving.idle import idle_service, served
from tests.studio.browser import enter

SMALL = "64x64"


def ask(
    page: Page, prompt: str, seconds: str = "1.125", steps: str = "", size: str = SMALL
) -> None:
    """Type a prompt and send it, in a small size."""
    page.fill("#prompt", prompt)
    page.select_option("#size", size)
    page.select_option("#seconds", seconds)
    page.locator("#finer").evaluate("node => (node.open = true)")
    page.fill("#num_inference_steps", steps)
    page.click("#go")


def card(page: Page, prompt: str, status: str = "completed"):  # type: ignore[no-untyped-def]
    """The newest card of a prompt once its job is in that state."""
    found = page.locator(f".card[data-status={status}]", has_text=prompt).first
    found.wait_for()
    return found


def video(studio: Served, prompt: str) -> dict[str, object]:
    """The newest video of a prompt, as the API has it."""
    page = studio.api.get("/v1/videos", params={"text": prompt, "limit": 1}).json()
    found: dict[str, object] = page["data"][0]
    return found


def test_words_are_marked_and_chips_go_on_and_a_reload_keeps_them(page: Page) -> None:
    page.fill("#prompt", "a red zebra")
    expect(page.locator("#echo mark")).to_have_text(["zebra"])
    expect(page.locator("#known")).to_contain_text("never learned “zebra”")
    page.fill("#prompt", "a b")
    expect(page.locator("#chips .chip")).to_have_text(EXAMPLES)  # the grammar's slot is {c} here
    page.get_by_role("button", name=EXAMPLES[1]).click()
    expect(page.locator("#prompt")).to_have_value(EXAMPLES[1])
    expect(page.locator("#echo mark")).to_have_count(0)
    page.fill("#seed", "41")
    page.get_by_role("radio", name="Storyboard").check()
    page.reload()
    page.locator("#size option").first.wait_for(state="attached")
    expect(page.locator("#prompt")).to_have_value(EXAMPLES[1])
    expect(page.locator("#seed")).to_have_value("41")
    expect(page.locator("#shots li")).to_have_count(1)


def test_a_video_is_made_and_looked_at_frame_by_frame(page: Page, studio: Served) -> None:
    ask(page, EXAMPLES[0])
    made = card(page, EXAMPLES[0])
    made.locator(".open").hover()
    expect(made.locator(".sheet")).to_be_visible()
    made.locator(".open").click()
    page.click("#play")
    page.locator("#scrub").fill("6")
    expect(page.locator("#frame")).to_have_text("7 / 9")
    page.click("#forward")
    expect(page.locator("#frame")).to_have_text("8 / 9")
    moment = page.evaluate("document.querySelector('#screens video').currentTime")
    assert moment == pytest.approx(7.5 / 8, abs=0.01)  # the middle of the eighth frame
    page.keyboard.press("Home")
    expect(page.locator("#frame")).to_have_text("1 / 9")
    with page.expect_download() as download:
        page.click("#download")
    told = video(studio, EXAMPLES[0])
    content = studio.api.get(f"/v1/videos/{told['id']}/content").content
    assert Path(download.value.path()).read_bytes() == content
    expect(page.locator("#facts")).to_contain_text(str(told["seed"]))
    page.locator("summary", has_text="The call that makes it").click()
    body = re.search(r"-d '(.*)'", page.locator("#call").inner_text(), re.S)
    assert body
    headers = {"content-type": "application/json"}
    again = studio.api.post("/v1/videos", content=body[1], headers=headers).json()
    studio.finish(again["id"])
    assert studio.api.get(f"/v1/videos/{again['id']}/content").content[:64] == content[:64]
    assert (again["seed"], again["prompt"]) == (told["seed"], EXAMPLES[0])


def test_a_running_job_shows_itself_and_is_cancelled(page: Page, studio: Served) -> None:
    prompt = "a red cat"
    ask(page, prompt, steps="1000")
    running = card(page, prompt, "in_progress")
    preview = running.locator("img[src^='data:image/webp']")
    preview.wait_for()
    running.locator(".open").click()
    expect(page.locator("#so-far")).to_have_attribute("src", re.compile("^data:image/webp"))
    page.click("#close")
    running.locator(".act").click()
    expect(card(page, prompt, "failed")).to_contain_text("Cancelled")
    assert video(studio, prompt)["error"]["code"] == "cancelled"  # type: ignore[index]


def test_a_remix_tells_its_lineage_and_two_are_compared_in_step(page: Page, studio: Served) -> None:
    ask(page, "a blue ball")
    card(page, "a blue ball").locator(".open").click()
    page.click("#remix")
    expect(page.locator("[data-zone=remix]")).to_contain_text("a blue ball")
    page.fill("#prompt", "a red ball walks left")
    page.click("#go")
    card(page, "a red ball walks left").locator(".open").click()
    remix, source = video(studio, "a red ball walks left"), video(studio, "a blue ball")
    assert remix["remixed_from_video_id"] == source["id"]
    expect(page.locator("#lineage")).to_contain_text("A remix of")
    page.select_option("#compare", str(source["id"]))
    expect(page.locator("#screens video")).to_have_count(2)
    page.click("#play")
    page.locator("#scrub").fill("5")
    both = "[...document.querySelectorAll('#screens video')].map(screen => screen.currentTime)"
    one, other = page.evaluate(both)
    assert one == pytest.approx(5.5 / 8, abs=0.01) and one == pytest.approx(other, abs=0.001)
    page.get_by_role("button", name="Open: a blue ball").last.click()
    expect(page.locator("#lineage")).to_contain_text("Remixed as")


def test_one_may_be_compared_with_what_the_wall_does_not_show(page: Page, studio: Served) -> None:
    prompts = "a ball and a cat", "a cat and a ball" + 9 * " and a red ball"
    _, other = (studio.create(prompt, size=SMALL, seconds="1.125")["id"] for prompt in prompts)
    studio.finish(other)
    page.fill("#filter-text", "a ball and a cat")
    expect(page.locator(".card")).to_have_count(1)
    card(page, "a ball and a cat").locator(".open").click()
    page.select_option("#compare", other)
    expect(page.locator("#screens video")).to_have_count(2)
    expect(page.locator("#compare")).to_have_value(other)
    expect(page.locator("#screens figcaption").nth(1)).to_contain_text("a cat and a ball")
    tops = (
        "[...document.querySelectorAll('#screens video')].map(s => s.getBoundingClientRect().top)"
    )
    one, two = page.evaluate(tops)
    assert one == two, "they stand side by side, however long their captions are"


def test_deleting_can_be_undone_and_else_leaves_nothing(page: Page, studio: Served) -> None:
    prompt = "a cat walks"
    ask(page, prompt)
    made = card(page, prompt)
    made.hover()
    made.locator(".act").click()
    expect(page.locator(".card", has_text=prompt)).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    made = card(page, prompt)
    assert video(studio, prompt)["status"] == "completed"
    told = str(video(studio, prompt)["id"])
    made.hover()
    made.locator(".act").click()
    page.goto("about:blank")  # who leaves meant it
    expect_gone(studio, told)


def expect_gone(studio: Served, video_id: str) -> None:
    """Wait until the API does not know a video."""
    with httpx.Client(base_url=studio.url, trust_env=False) as api:
        for _ in range(100):
            if api.get(f"/v1/videos/{video_id}").status_code == 404:
                return
            time.sleep(0.1)
    raise AssertionError(f"{video_id} is still there")


def test_pictures_are_dropped_and_what_is_none_is_refused(page: Page, studio: Served) -> None:
    page.locator("#sources").evaluate("node => (node.open = true)")
    zones = page.locator(".zone")
    names = ["first_frame", "last_frame", "extend", "join", "remix"]
    assert [zones.nth(i).get_attribute("data-zone") for i in range(5)] == names
    text = {"name": "<b>notes</b>.txt", "mimeType": "text/plain", "buffer": b"no picture"}
    page.locator("[data-zone=first_frame] input").set_input_files([text])
    expect(page.locator("#zone-wrong")).to_contain_text("<b>notes</b>.txt cannot be used here")
    drop(page, "first_frame", "red", (255, 0, 0))
    drop(page, "last_frame", "blue", (0, 0, 255))
    prompt = "a ball beside a ball"  # no other card has it
    ask(page, prompt)
    card(page, prompt)
    frames = iio.imread(content(studio, prompt), extension=".mp4", plugin="pyav")
    # Given frames pass through an autoencoder of random weights: their place is what is tested.
    row = studio.data / "videos" / str(video(studio, prompt)["id"]) / "inputs"
    assert len(frames) == 9
    assert {path.name for path in row.iterdir()} == {"first_frame.png", "last_frame.png"}
    assert iio.imread(row / "last_frame.png")[0, 0].tolist() == [0, 0, 255]


def test_what_was_dropped_outlives_a_reload_and_is_sent_after_it(
    page: Page, studio: Served
) -> None:
    page.locator("#sources").evaluate("node => (node.open = true)")
    drop(page, "first_frame", "<i>red</i>", (255, 0, 0))
    page.check("#loop")
    drop(page, "join", "a clip", None)
    page.fill("#prompt", "a red ball is dropped")
    page.wait_for_timeout(200)  # what is written behind the page's back
    page.goto("about:blank")
    enter(page, studio.url)
    expect(page.locator("[data-zone=first_frame]")).to_contain_text("<i>red</i>.png")
    expect(page.locator("[data-zone=first_frame] img")).to_have_attribute(
        "src", re.compile("blob:")
    )
    expect(page.locator("[data-zone=join]")).to_contain_text("a clip.mp4")
    expect(page.locator("#loop")).to_be_checked()
    page.get_by_role("button", name="Remove: Clip to lead into").click()
    page.uncheck("#loop")
    page.reload()
    expect(page.locator("[data-zone=first_frame]")).to_contain_text("<i>red</i>.png")
    expect(page.locator("[data-zone=join] img, [data-zone=join] video")).to_have_count(0)
    expect(page.locator("#loop")).not_to_be_checked()
    ask(page, "a red ball is dropped")
    card(page, "a red ball is dropped")
    expect(page.locator("[data-zone=first_frame] img")).to_have_count(0)  # taken, for that one
    inputs = studio.data / "videos" / str(video(studio, "a red ball is dropped")["id"]) / "inputs"
    assert iio.imread(inputs / "first_frame.png")[0, 0].tolist() == [255, 0, 0]
    page.reload()
    expect(page.locator("[data-zone=first_frame]")).to_contain_text("Drop a picture")


def content(studio: Served, prompt: str) -> bytes:
    """The MP4 of the newest video of a prompt."""
    return studio.api.get(f"/v1/videos/{video(studio, prompt)['id']}/content").content


def drop(page: Page, zone: str, name: str, colour: tuple[int, int, int] | None) -> None:
    """Drop a picture of that colour, or a clip, on a zone, as a hand does."""
    file = io.BytesIO()
    if colour:
        Image.new("RGB", (64, 64), colour).save(file, "PNG")
    data, kind = (file.getvalue(), "image/png") if colour else (clip(), "video/mp4")
    full = f"{name}.{kind.split('/')[1]}"
    transfer = page.evaluate_handle(
        """([bytes, name, type]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name, { type }));
            return data;
        }""",
        [list(data), full, kind],
    )
    page.locator(f"[data-zone={zone}]").dispatch_event("drop", {"dataTransfer": transfer})
    expect(page.locator(f"[data-zone={zone}]")).to_contain_text(full)


def test_shots_are_ordered_by_dragging_them(page: Page) -> None:
    page.get_by_role("radio", name="Storyboard").check()
    for number, prompt in enumerate(("one", "two", "three"), 1):
        if number > 1:
            page.click("#add-shot")
        page.get_by_label(f"What shot {number} shows").fill(prompt)
    page.locator(".grip").nth(2).drag_to(page.locator(".shot").nth(0))
    order = "[...document.querySelectorAll('#shots textarea')].map(shot => shot.value)"
    assert page.evaluate(order) == ["three", "one", "two"]
    page.reload()
    expect(page.locator("#shots textarea")).to_have_count(3)
    assert page.evaluate(order) == ["three", "one", "two"]


def reach(page: Page, selector: str) -> None:
    """Press Tab until what is wanted has the focus."""
    for _ in range(120):
        page.keyboard.press("Tab")
        if page.evaluate("wanted => document.activeElement.matches(wanted)", selector):
            return
    raise AssertionError(f"Tab does not reach {selector}")


def test_a_keyboard_is_enough(page: Page, studio: Served) -> None:
    """To write, send, open, step, close, delete and take that back."""
    prompt = "a cat is red"
    reach(page, "#prompt")
    page.keyboard.type(prompt)
    reach(page, "#size")
    page.keyboard.press("ArrowDown")
    assert page.input_value("#size") == SMALL
    page.keyboard.press("Control+Enter")
    card(page, prompt)
    reach(page, "#wall .open")
    first = page.locator(".card[aria-posinset='1'] .open")
    expect(first).to_be_focused()  # elements follow one another as they are seen
    assert prompt in str(first.get_attribute("aria-label"))
    page.keyboard.press("Enter")
    expect(page.locator("#view")).to_be_visible()
    page.keyboard.press("End")
    expect(page.locator("#frame")).to_have_text("17 / 17")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#frame")).to_have_text("16 / 17")
    page.keyboard.press("Escape")
    expect(first).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the card's own button deletes
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.wait_for_timeout(8000)  # a note that has the focus waits, however long
    assert video(studio, prompt)["status"] == "completed"
    page.keyboard.press("Enter")
    expect(page.locator(".card .open").first).to_be_focused()
    expect(page.locator(".card[aria-posinset='1']")).to_contain_text(prompt)


def test_a_full_queue_and_a_policy_are_told_with_a_way_out(blank: Page, tmp_path: Path) -> None:
    with idle_service(tmp_path, most_queued=1) as service, served(service) as api:
        service._policy = Policy([blocklist("gun")])
        enter(blank, str(api.base_url))
        blank.fill("#prompt", "a gun")
        blank.click("#go")
        expect(blank.locator("#refusal")).to_contain_text("refuses this prompt; change the words")
        expect(blank.locator("#prompt")).to_have_attribute("aria-invalid", "true")
        blank.fill("#prompt", "a flower")
        expect(blank.locator("#refusal")).to_be_empty()
        blank.click("#go")
        card(blank, "a flower", "queued")
        blank.fill("#prompt", "a tree")
        blank.click("#go")
        expect(blank.locator("#refusal")).to_contain_text("wait for a video to finish, or cancel")
        expect(blank.locator("#prompt")).to_have_value("a tree")
        card(blank, "a flower", "queued").locator(".act").click()
        card(blank, "a flower", "failed")
        blank.click("#go")
        card(blank, "a tree", "queued")


def test_three_shots_ordered_by_keyboard_become_one_video(page: Page, studio: Served) -> None:
    page.get_by_role("radio", name="Storyboard").check()
    page.select_option("#size", SMALL)
    for number, (prompt, seconds) in enumerate(
        [("a cat", "1.125"), ("a ball", "2.125"), ("a red ball", "1.125")], 1
    ):
        if number > 1:
            page.click("#add-shot")
        page.get_by_label(f"What shot {number} shows").fill(prompt)
        page.get_by_label(f"Shot {number}: Seconds").select_option(seconds)
    page.get_by_label("Shot 3 begins with").select_option("continue")
    page.get_by_label("Move shot 3 up").press("Enter")
    expect(page.locator("#total")).to_have_text("3 shots · 4.375 s · 35 frames")
    page.click("#go")
    card(page, "a cat / a red ball / a ball")
    told = video(studio, "a cat / a red ball / a ball")
    shots = [(shot["prompt"], shot["num_frames"], shot["join"]) for shot in told["shots"]]  # type: ignore[attr-defined]
    assert shots == [("a cat", 9, "cut"), ("a red ball", 9, "continue"), ("a ball", 17, "cut")]
    frames = iio.imread(content(studio, "a cat / a red"), extension=".mp4", plugin="pyav")
    assert len(frames) == 35


def test_no_prompt_is_markup_and_filters_find_it(page: Page, studio: Served) -> None:
    prompt = "<img src=x onerror=\"document.title='taken'\"><b>a ball</b>"
    ask(page, prompt)
    made = card(page, prompt)
    expect(made.locator(".prompt")).to_have_text(prompt)
    assert made.locator("b, img[src=x]").count() == 0
    page.fill("#filter-text", "ONERROR")
    expect(page.locator(".card")).to_have_count(1)
    page.select_option("#filter-status", "failed")
    expect(page.locator("#wall-empty")).to_contain_text("No video fits")
    page.click("#clear")
    made.locator(".open").click()
    expect(page.locator("#view-prompt")).to_have_text(prompt)
    assert page.title() == "Kinetograph"
    policy = studio.api.get("/").headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe" not in policy
    planted = page.context.new_page()  # its console may complain
    planted.goto(studio.url)
    refused = "(() => { try { document.body.innerHTML = '<b>x</b>' } catch { return true } })()"
    assert planted.evaluate(refused)


def test_a_refusal_is_a_sentence_at_its_field_and_keeps_what_was_typed(page: Page) -> None:
    ask(page, "a ball", steps="2000")
    expect(page.locator("#refusal")).to_contain_text("num_inference_steps must be")
    expect(page.locator("#num_inference_steps")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#prompt")).to_have_value("a ball")


def test_the_page_is_light_and_loads_nothing_from_elsewhere(page: Page, studio: Served) -> None:
    asked: list[str] = []
    sizes: list[int] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("response", lambda got: "/v1/" in got.url or sizes.append(len(got.body())))
    enter(page, studio.url)
    own = [url for url in asked if not url.startswith("data:")]
    assert all(url.startswith(studio.url) for url in own) and len(own) > 10
    assert sum(sizes) < 200_000
