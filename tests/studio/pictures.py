"""Pictures of the studio, taken by Chromium of a real service: `make pictures`.

Everything goes to out/pictures/, to be looked at; what the documentation shows, to docs/ as well.
The videos on them are made once for each checkpoint, by the prompts that it knows.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, sync_playwright

from tests.studio.browser import ARGUMENTS, CHROMIUM, enter

ROOT = Path(__file__).parents[2]
OUT = ROOT / "out" / "pictures"
SCREENS = {"desktop": (1280, 800), "phone": (390, 844)}
PATIENCE = 1800.0
"""Seconds that a video may take."""
SHOWN = {
    "desktop-light-en-wall": "studio-light.png",
    "desktop-dark-en-video": "studio-dark.png",
    "phone-light-en-wall": "studio-phone.png",
}
"""Which of the pictures docs/ has, under which name."""


def checkpoint_hash(model: Path) -> str:
    """Twelve characters that stand for what is in a checkpoint."""
    told = hashlib.sha256()
    for file in sorted(model.rglob("*")):
        if file.suffix in (".safetensors", ".json"):
            told.update(file.read_bytes())
    return told.hexdigest()[:12]


@contextmanager
def service(model: Path) -> Iterator[httpx.Client]:
    """A service with one worker, whose videos stay for the next time."""
    data = OUT / checkpoint_hash(model)
    command = [sys.executable, "-m", "serving.cli", "serve", "--port", "0"]
    command += ["--model", str(model), "--data", str(data)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            found = re.search(r"http://\S+", process.stdout.readline())
            assert found, "the service does not start"
            with httpx.Client(base_url=found[0], trust_env=False, timeout=60) as api:
                yield api
        finally:
            process.terminate()


def until_done(api: httpx.Client, video_id: str, percent: int = 100) -> dict[str, Any]:
    """Wait until a job has come so far."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        video: dict[str, Any] = api.get(f"/v1/videos/{video_id}").json()
        assert video["status"] != "failed", video["error"]
        if video["progress"] >= percent:
            return video
        time.sleep(0.2)
    raise TimeoutError(f"{video_id} was not made in {PATIENCE:.0f} s")


def make(api: httpx.Client, path: str, **fields: Any) -> str:
    """A finished video of that prompt, made now if there is none yet."""
    found = api.get("/v1/videos", params={"text": fields["prompt"], "status": "completed"}).json()
    same = [video["id"] for video in found["data"] if video["prompt"] == fields["prompt"]]
    if same:
        return str(same[0])
    response = api.post(path, json=fields)
    assert response.is_success, response.text
    return str(until_done(api, response.json()["id"])["id"])


def fill(api: httpx.Client) -> tuple[str, str]:
    """Make what the wall shows, and nothing else; gives the prompt of the video that was remixed,
    and the id of one to compare it with.
    """
    (model,) = api.get("/v1/models").json()["data"]
    examples = model["examples"]
    shown = [
        make(api, "/v1/videos", prompt=prompt, seed=seed) for seed, prompt in enumerate(examples)
    ]
    if "remix" in model["capabilities"]:
        prompt = examples[4].rsplit(" on ", 1)[0]
        shown.append(make(api, f"/v1/videos/{shown[3]}/remix", prompt=prompt, seed=5))
    for video in api.get("/v1/videos", params={"limit": 100}).json()["data"]:
        if video["id"] not in shown:  # left by a time that was stopped
            api.delete(f"/v1/videos/{video['id']}")
    return str(examples[3]), shown[-1]


@contextmanager
def busy(api: httpx.Client) -> Iterator[None]:
    """Have one job be half made and another one wait."""
    (model,) = api.get("/v1/models").json()["data"]
    one, two = model["examples"][6], model["examples"][9]
    jobs = [
        api.post("/v1/videos", json={"prompt": prompt, "seed": 11, "num_inference_steps": 150})
        for prompt in (one, two)
    ]
    ids = [job.json()["id"] for job in jobs]
    until_done(api, ids[0], 30)
    yield
    for video_id in ids:
        api.delete(f"/v1/videos/{video_id}")


class Visit:
    """One browser's view of the studio, and the pictures that are taken of it."""

    def __init__(self, browser: Browser, url: str, screen: str, scheme: str, locale: str) -> None:
        self.name = f"{screen}-{scheme}-{locale[:2]}"
        width, height = SCREENS[screen]
        context = browser.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            locale=locale,
            has_touch=screen == "phone",
            device_scale_factor=2 if screen == "phone" else 1,
        )
        self.page: Page = context.new_page()
        self.page.set_default_timeout(120_000)
        enter(self.page, url)

    def take(self, scene: str) -> None:
        """One picture."""
        self.page.wait_for_timeout(700)  # until what moves by itself has come to rest
        path = OUT / f"{self.name}-{scene}.png"
        self.page.screenshot(path=path)
        print(path.relative_to(ROOT), flush=True)
        if shown := SHOWN.get(path.stem):
            shutil.copy(path, ROOT / "docs" / shown)

    def close(self) -> None:
        self.page.context.close()


def photograph(visit: Visit, source: str, rival: str, examples: list[str]) -> None:
    """All the scenes, as one visitor sees them."""
    page = visit.page
    page.fill("#prompt", examples[0].replace(" monster ", " dragon ")[:34])
    page.locator(".card[data-status=in_progress] img[src^='data:']").first.wait_for()
    visit.take("compose")
    page.locator(".filters").evaluate("node => node.scrollIntoView({ block: 'start' })")
    visit.take("wall")
    page.locator(".card[data-status=in_progress] .open").first.click()
    page.locator("#so-far[src^='data:']").wait_for()
    visit.take("running")
    page.click("#close")
    page.fill("#filter-text", source)
    page.locator(".card[data-status=completed]", has_text=source).first.locator(".open").click()
    page.locator("#screens video").wait_for()
    page.locator("#lineage").wait_for(state="visible")
    page.click("#play")
    page.locator("#scrub").fill("8")
    visit.take("video")
    page.select_option("#compare", rival)
    page.locator("#screens video").nth(1).wait_for()
    visit.take("compare")
    page.locator(".about details").evaluate("node => (node.open = true)")
    page.locator(".about details").scroll_into_view_if_needed()
    visit.take("call")
    page.click("#close")
    page.fill("#filter-text", "")
    page.locator("input[value=story]").check()
    for number, prompt in enumerate(examples[1:4], 1):
        if number > 1:
            page.click("#add-shot")
        page.locator("#shots textarea").nth(number - 1).fill(prompt)
    page.evaluate("scrollTo(0, 0)")
    page.locator(".body").evaluate("node => (node.scrollTop = 0)")
    visit.take("story")
    page.locator("input[value=one]").check()
    for details in page.locator("#compose details").all():
        details.evaluate("node => (node.open = true)")
    page.locator("#sources").scroll_into_view_if_needed()
    visit.take("finer")
    page.fill("#filter-text", "dragons")
    page.locator("#wall-empty").wait_for()
    page.locator(".filters").evaluate("node => node.scrollIntoView({ block: 'start' })")
    visit.take("empty")
    page.click("#key-button")
    visit.take("key")


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=ROOT / "model" / "pretrained")
    parser.add_argument("--only", default="", help="names that begin so, such as phone-dark")
    options = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    examples = json.loads((options.model / "examples.json").read_text())["examples"]
    with service(options.model.resolve()) as api, sync_playwright() as playwright:
        source, rival = fill(api)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for screen in SCREENS:
            for scheme in ("light", "dark"):
                for locale in ("en-US", "zh-CN"):
                    if not f"{screen}-{scheme}-{locale[:2]}".startswith(options.only):
                        continue
                    with busy(api):
                        visit = Visit(browser, str(api.base_url), screen, scheme, locale)
                        photograph(visit, source, rival, examples)
                        visit.close()
        browser.close()


if __name__ == "__main__":
    main()
