"""Files of strangers: fetched, opened and measured where they can do no harm."""


class Unfit(Exception):
    """A file that is not what it must be: a code, and words that complete "... must be"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
