"""What a model of few words is told of a prompt that it was not trained for."""

import difflib
import re
from collections.abc import Sequence


def unknown_words(prompt: str, words: Sequence[str]) -> list[str]:
    """The words of `prompt` that are not among `words`, each once, in order.

    Split as the word-level tokenizer splits: lower case, runs of letters and digits. Punctuation
    that no prompt was trained with is not worth a warning.
    """
    known = set(words)
    return list(dict.fromkeys(w for w in re.findall(r"\w+", prompt.lower()) if w not in known))


def nearest_prompt(prompt: str, examples: Sequence[str]) -> str:
    """The one of `examples` that shares most words with `prompt`, in most nearly its order.

    Letters break ties, so that a misspelt word still pulls its prompt near.
    """

    def likeness(example: str) -> tuple[float, float]:
        by_word = difflib.SequenceMatcher(None, prompt.lower().split(), example.lower().split())
        by_letter = difflib.SequenceMatcher(None, prompt.lower(), example.lower())
        return by_word.ratio(), by_letter.ratio()

    return max(examples, key=likeness)
