"""What is logged, and how: plain lines, or JSON with the id of the request that it belongs to.

Prompts are logged by the API, and only where `configure` was told so. In JSON, what is bound by
`about` stands beside every line, in the API as in the worker that runs the job of a request.
"""

import logging
import sys
from typing import Literal

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars

Form = Literal["text", "json"]

about = bound_contextvars
"""Bind names to values for the lines that are logged within a context."""


_prompts = logging.getLogger("kinetograph.prompts")
_NEVER = logging.CRITICAL + 1
_ESCAPES = str.maketrans({mark: repr(mark)[1:-1] for mark in "\\\t\n\r\u2028\u2029"})
"""Every line break that a prompt may have, and what would make an escape ambiguous."""
_prompts.setLevel(_NEVER)


def configure(form: Form, level: int, prompts: bool = False) -> None:
    """Have everything from `level` on logged to standard error in that form.

    prompts: whether what `note_prompt` is given is logged, too, whatever the level.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JSON if form == "json" else _TEXT)
    logging.basicConfig(handlers=[handler], level=level)
    # The first tells every address that is asked, the second every statement of the queue.
    for name, least in (("httpx", logging.WARNING), ("dbos", logging.ERROR)):
        logging.getLogger(name).setLevel(least)
    _prompts.setLevel(logging.INFO if prompts else _NEVER)


def note_prompt(prompt: str) -> None:
    """Log what somebody asks to see, if prompts are logged at all."""
    # No line break in it begins a line; else it is as it was sent, in whatever language.
    _prompts.info("asked for '%s'", prompt.translate(_ESCAPES))


_TEXT = logging.Formatter("%(asctime)s %(name)s %(message)s")
_JSON = structlog.stdlib.ProcessorFormatter(
    foreign_pre_chain=[
        merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper("iso", utc=True),
        structlog.processors.format_exc_info,
    ],
    processors=[
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.JSONRenderer(ensure_ascii=False),
    ],
)
