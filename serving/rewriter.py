"""Prompts rewritten by a language model, for checkpoints that were trained on long captions.

A worker calls `rewrite` before the text is encoded, so that no request waits for it. Any endpoint
that speaks OpenAI's chat protocol will do; without one, which is the default, prompts stay.
"""

import os
import unicodedata

import httpx

from serving.catalog import Rewriter

INSTRUCTIONS = (
    "Rewrite the user's idea as the caption of a short video clip: one paragraph of at most 120 "
    "words, in the language of the idea. Keep every subject, number, colour and action. Add what "
    "the eye would see: appearance, motion, setting, light and camera. Answer with the caption "
    "alone."
)
LONGEST = 32_000


class RewriteFailed(Exception):
    """The endpoint gave no caption; the message says why, without the prompt."""


def rewrite(prompt: str, rewriter: Rewriter) -> str:
    """Ask the endpoint for a caption.

    Raises:
        RewriteFailed: for any failure of it; the caller goes on with the prompt.
    """
    key = os.environ.get(rewriter.api_key_env, "") if rewriter.api_key_env else ""
    if rewriter.api_key_env and not key:
        raise RewriteFailed(f"{rewriter.api_key_env} is not set")
    messages = [
        {"role": "system", "content": rewriter.instructions or INSTRUCTIONS},
        {"role": "user", "content": prompt},
    ]
    try:
        answer = httpx.post(
            f"{rewriter.url.rstrip('/')}/chat/completions",
            json={"model": rewriter.model, "messages": messages},
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=rewriter.timeout,
        )
        answer.raise_for_status()
        text = answer.json()["choices"][0]["message"]["content"]
    except httpx.HTTPStatusError as error:
        raise RewriteFailed(f"the endpoint answered {error.response.status_code}") from error
    except httpx.TimeoutException as error:
        raise RewriteFailed(f"no answer within {rewriter.timeout:g} s") from error
    except httpx.HTTPError as error:
        raise RewriteFailed(f"the endpoint cannot be reached ({type(error).__name__})") from error
    except (ValueError, LookupError, TypeError) as error:
        raise RewriteFailed("the answer is no chat completion") from error
    if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
        raise RewriteFailed("the answer holds no caption")
    return unicodedata.normalize("NFC", text.strip())
