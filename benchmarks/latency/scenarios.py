"""When requests are sent: after one another, by the clock, or all at once."""

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx

from benchmarks.latency.client import Order, Sample, ask

Fields = dict[str, Any]
SUBJECTS = ("a cat", "a red ball", "a paper boat", "an old lamp", "a dog", "a green kite", "a tree")
ACTIONS = (
    "on a table",
    "in the rain",
    "by the sea",
    "at night",
    "in a field",
    "on a wall",
    "alone",
)
VIEWS = ("seen from afar", "seen from above", "close by", "in slow motion", "in bright light")


def prompts(given: Sequence[str], count: int, seed: int, first: int = 0) -> Iterator[str]:
    """`count` prompts in an order drawn from `seed`, no two alike, so that no cache answers.

    `given` ones are told apart by a number that follows them; without any, sentences are made.
    """
    made = [f"{s} {a}, {v}" for s in SUBJECTS for a in ACTIONS for v in VIEWS]
    pool = list(given) or made
    order = [f"{pool[n % len(pool)]}, take {first + n + 1}" for n in range(count)]
    random.Random(seed).shuffle(order)
    yield from order


def orders(
    texts: Sequence[str], arrivals: Sequence[float], variants: Sequence[tuple[Fields, float]],
    seed: int,
) -> list[Order]:  # fmt: skip
    """A request for each text and arrival, of a variant drawn by weight, with a seed of its own."""
    draw = random.Random(seed)
    bodies, weights = zip(*variants, strict=True)
    drawn = draw.choices(bodies, weights, k=len(texts))
    return [
        Order(at, {"prompt": text, **body, "seed": seed * 1_000_003 + n})
        for n, (text, at, body) in enumerate(zip(texts, arrivals, drawn, strict=True))
    ]


def poisson(rate: float, count: int, seed: int) -> list[float]:
    """Arrivals of a Poisson process, `rate` a second."""
    draw, now, times = random.Random(seed), 0.0, []
    for _ in range(count):
        now += draw.expovariate(rate)
        times.append(now)
    return times


def bursts(size: int, apart: float, count: int) -> list[float]:
    """Arrivals of `size` at once, every `apart` seconds."""
    return [n // size * apart for n in range(count)]


async def by_clock(
    http: httpx.AsyncClient, asked: Sequence[Order], timeout: float, begin: float | None = None
) -> list[Sample]:
    """Send every order at its time, whatever became of those before it."""
    begin = asyncio.get_running_loop().time() if begin is None else begin
    return list(await asyncio.gather(*(ask(http, order, begin, timeout) for order in asked)))


async def closed(
    http: httpx.AsyncClient, asked: Sequence[Order], timeout: float, concurrency: int
) -> list[Sample]:
    """Keep `concurrency` requests in flight: the next is sent when one is done."""
    now = asyncio.get_running_loop().time
    begin, waiting, done = now(), iter(asked), []

    async def one_by_one() -> None:
        for order in waiting:
            ready = Order(now() - begin, order.fields)
            done.append(await ask(http, ready, begin, timeout))

    await asyncio.gather(*(one_by_one() for _ in range(concurrency)))
    return done


async def highest_rate(
    meets: Callable[[float], Any], low: float, high: float, halvings: int
) -> float:
    """The largest rate that `meets` (a coroutine function) says yes to, by bisection.

    Args:
        low: is taken to do, without a try.
        high: is tried first.
    """
    if await meets(high):
        return high
    for _ in range(halvings):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if await meets(middle) else (low, middle)
    return low
