"""What a service refuses to draw: a hook that is asked about prompts and uploaded images.

A YAML file says who is asked, in this order: a list of phrases, a moderation endpoint that speaks
OpenAI's protocol, a function of Python. Without a file nothing is refused.
"""

import base64
import importlib
import logging
import os
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.errors import ApiError

log = logging.getLogger("kinetograph.policy")

Judge = Callable[[str, bytes | None], str | None]
"""Given a prompt and the PNG that came with it, why both are refused, in a few words; or None."""


class BadPolicy(Exception):
    """A policy file that cannot be used; a sentence says why."""


class Endpoint(BaseModel):
    """A moderation endpoint: `url` is what comes before /moderations."""

    model_config = ConfigDict(extra="forbid")
    url: str = Field(pattern=r"^https?://")
    model: str
    api_key_env: str | None = None
    timeout: float = Field(5.0, gt=0, le=60)

    def __call__(self, prompt: str, image: bytes | None) -> str | None:
        """Ask it. Raises httpx.HTTPError, ValueError, LookupError or TypeError for no answer."""
        parts: list[dict[str, Any]] = [{"type": "text", "text": prompt}]
        if image is not None:
            url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        key = os.environ[self.api_key_env] if self.api_key_env else None
        answer = httpx.post(
            f"{self.url.rstrip('/')}/moderations",
            json={"model": self.model, "input": parts},
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self.timeout,
        ).raise_for_status()
        flagged = [result for result in answer.json()["results"] if result["flagged"]]
        found = {name for result in flagged for name, yes in result["categories"].items() if yes}
        return (", ".join(sorted(found)) or "flagged") if flagged else None


class PolicyFile(BaseModel):
    """The keys of a policy file. blocklist: a phrase a line. function: MODULE:NAME of a `Judge`."""

    model_config = ConfigDict(extra="forbid")
    blocklist: Path | None = None
    endpoint: Endpoint | None = None
    function: str | None = Field(None, pattern=r"^[\w.]+:\w+$")
    fail_closed: bool = False


class Policy:
    """All the judges of a service; the first who refuses is heard.

    fail_closed: whether a request is refused where a judge cannot be heard.
    """

    def __init__(self, judges: list[Judge] | None = None, fail_closed: bool = False) -> None:
        self._judges, self._fail_closed = judges or [], fail_closed

    def check(self, prompt: str, image: Callable[[], bytes] | None) -> None:
        """Raise ApiError 400 `content_policy_violation` for what is refused."""
        picture = image() if image and self._judges else None
        for judge in self._judges:
            try:
                reason = judge(prompt, picture)
            except Exception as error:  # whatever a function or an endpoint does
                self._unheard(error)
            else:
                if reason:
                    message = "The prompt, or the image with it, is refused by this service's "
                    message += f"content policy ({reason})."
                    headers = {"x-should-retry": "false"}
                    code = "content_policy_violation"
                    raise ApiError(message, param="prompt", code=code, headers=headers)

    def _unheard(self, error: Exception) -> None:
        # Only its kind: what it says may quote the prompt.
        log.warning("the content policy could not be asked: %s", type(error).__name__)
        if self._fail_closed:
            message = "The content policy cannot be asked just now; try again."
            headers = {"retry-after": "5"}
            raise ApiError(message, code="policy_unavailable", status=503, headers=headers)


def load(path: Path | None) -> Policy:
    """The policy of a file.

    Raises:
        BadPolicy: if the file, or what it names, is not there or not as it must be.
    """
    if path is None:
        return Policy()
    try:
        told = PolicyFile.model_validate(yaml.safe_load(path.read_text("utf-8")) or {})
        judges: list[Judge] = []
        if told.blocklist is not None:
            judges.append(blocklist((path.parent / told.blocklist).read_text("utf-8")))
        if told.endpoint is not None:
            judges.append(told.endpoint)
        if told.function is not None:
            module, _, name = told.function.partition(":")
            judges.append(getattr(importlib.import_module(module), name))
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(map(str, problem["loc"]))
        raise BadPolicy(f"{path}: {name}: {problem['msg']}.") from None
    except (OSError, yaml.YAMLError, ImportError, AttributeError) as error:
        raise BadPolicy(f"{path} cannot be used: {error}.") from None
    return Policy(judges, told.fail_closed)


def blocklist(text: str) -> Judge:
    """A judge that refuses the phrases of `text`, one a line, `#` begins a comment.

    Whole words, however they are capitalised, spaced or spelled in Unicode (NFKC).
    """
    lines = (line.partition("#")[0] for line in text.splitlines())
    phrases = [phrase for line in lines if (phrase := _plain(line))]
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, phrases))})\b") if phrases else None

    def judge(prompt: str, _image: bytes | None) -> str | None:
        return "a blocked phrase" if pattern and pattern.search(_plain(prompt)) else None

    return judge


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold()
    # Cf: what is not seen, such as a zero-width space within a word.
    seen = "".join(c for c in text if unicodedata.category(c) != "Cf")
    return " ".join(seen.split())
