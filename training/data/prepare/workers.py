"""Work on many items by several processes, in order, one of which may crash and be done without."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import Any, TypeVar

T = TypeVar("T")


def each(work: Callable[[T], Any], items: Sequence[T], workers: int) -> Iterator[tuple[T, Any]]:
    """Yield each item with what `work` makes of it, in order; None where it kills its process.

    With one worker it is done in this process. After a crash, what was under way is tried again one
    by one, each in a process of its own, to tell who did it.
    """
    if workers == 1:
        yield from ((item, work(item)) for item in items)
        return
    done = 0
    while done < len(items):
        with _pool(workers) as pool:
            try:
                for item, result in zip(items[done:], pool.map(work, items[done:]), strict=True):
                    yield item, result
                    done += 1
            except BrokenProcessPool:
                pass
        for item in items[done : done + 2 * workers]:  # a pool hands out one more than it works on
            yield item, _alone(work, item)
            done += 1


def _alone(work: Callable[[T], Any], item: T) -> Any:
    with _pool(1) as pool:
        try:
            return pool.submit(work, item).result()
        except BrokenProcessPool:
            return None


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
