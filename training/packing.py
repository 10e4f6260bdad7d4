"""Packing clips of native sizes into fixed token budgets, and dealing the packs to the ranks.

Every process packs the same stream of clips, so that packs and their order depend on the data
alone: how many processes there are only decides who computes which of a step's packs.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from training.noise import generator


@dataclass(frozen=True)
class Pack:
    """Clips that are computed as one sequence: ids, and the tokens of each."""

    ids: tuple[int, ...]
    lengths: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """How many tokens there are; the rest of the budget is padding."""
        return sum(self.lengths)

    def cost(self, width: int) -> int:
        """FLOP of a block's forward pass over `Σl` tokens of `width` d: 24 d² Σl + 4 d Σl².

        Two for every multiply-accumulate of the four projections, the feed-forward of width 4 d
        and the two products of attention, which stays inside each clip.
        """
        squares = sum(length * length for length in self.lengths)
        return 24 * width**2 * self.tokens + 4 * width * squares


class Packer:
    """Best fit over a bounded number of open packs.

    A clip goes into the open pack that it leaves fullest (Johnson et al., 1974, best fit); if it
    fits into none, the fullest is closed to make room for a new one.
    """

    def __init__(self, budget: int, smallest: int, open_packs: int = 64, segments: int = 512):
        """Take a `budget` of tokens a pack.

        Args:
            budget: tokens of a pack, padding included.
            smallest: fewest tokens of any clip; a pack with less room than that is full.
            open_packs: how many packs may wait for clips that fit.
            segments: most clips of a pack, so that one compiled graph serves them all.
        """
        self.budget = budget
        self.smallest = smallest
        self.open_packs = open_packs
        self.segments = segments
        self._opened = 0
        # (room, number, ids, lengths), sorted; numbers are unique, so ids are never compared.
        self._open: list[tuple[int, int, list[int], list[int]]] = []

    def add(self, clip: int, length: int) -> list[Pack]:
        """Place a clip of `length` tokens; gives the packs that this closed.

        Raises:
            ValueError: for a clip that no pack can hold.
        """
        if not self.smallest <= length <= self.budget:
            raise ValueError(
                f"clip {clip} has {length} tokens; a pack takes {self.smallest} to {self.budget}"
            )
        closed = []
        place = bisect_left(self._open, (length, -1))
        if place < len(self._open):
            room, number, ids, lengths = self._open.pop(place)
        else:
            if len(self._open) == self.open_packs:
                closed.append(self._close(0))
            room, number, ids, lengths = self.budget, self._opened, [], []
            self._opened += 1
        ids.append(clip)
        lengths.append(length)
        room -= length
        if room < self.smallest or len(ids) == self.segments:
            closed.append(Pack(tuple(ids), tuple(lengths)))
        else:
            insort(self._open, (room, number, ids, lengths))
        return closed

    def flush(self) -> list[Pack]:
        """Close all that is open: there are no more clips."""
        return [self._close(0) for _ in range(len(self._open))]

    def _close(self, place: int) -> Pack:
        _, _, ids, lengths = self._open.pop(place)
        return Pack(tuple(ids), tuple(lengths))

    @property
    def limits(self) -> list[int]:
        """What a pack and the open ones may hold; others pack the same clips otherwise."""
        return [self.budget, self.smallest, self.open_packs, self.segments]

    def state_dict(self) -> dict[str, Any]:
        """What it holds: the clips of every open pack."""
        packs = [[number, list(ids), list(lengths)] for _, number, ids, lengths in self._open]
        return {"opened": self._opened, "open": packs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold what `state_dict` told."""
        self._opened = state["opened"]
        self._open = sorted(
            (self.budget - sum(lengths), number, list(ids), list(lengths))
            for number, ids, lengths in state["open"]
        )


def deal(packs: Iterable[Pack], ranks: int, width: int) -> list[list[Pack]]:
    """Group the packs of a window into rounds of `ranks`, one pack a rank, of nearly equal cost.

    A round is as slow as its slowest rank; neighbours in the order of cost share one. What does
    not fill a round is left out: the caller keeps it for the next window.

    Args:
        packs: of the window.
        ranks: packs that are computed at the same time.
        width: d of the network, on which the cost depends.

    Returns:
        Rounds, cheapest first; the caller shuffles them.
    """
    ordered = sorted(packs, key=lambda pack: pack.cost(width))
    full = len(ordered) - len(ordered) % ranks
    return [ordered[start : start + ranks] for start in range(0, full, ranks)]


def balance(rounds: Iterable[list[Pack]], width: int) -> float:
    """Share of the ranks' time that is not spent waiting for the slowest of each round."""
    spent = waited = 0
    for packs in rounds:
        costs = [pack.cost(width) for pack in packs]
        spent += sum(costs)
        waited += max(costs) * len(costs)
    return spent / waited


class PackStream:
    """An endless stream of rounds of packs, every one the same whatever the number of processes.

    It reads samples in the order of their positions, packs them, collects a window of packs, deals
    that into rounds, and gives the rounds of the window in a shuffled order, since the dealing
    sorted them by cost.
    """

    def __init__(
        self,
        length: Callable[[int], int],
        packer: Packer,
        ranks: int,
        window: int,
        width: int,
        seed: int,
    ) -> None:
        """Start at position 0.

        Args:
            length: tokens of the sample at a position.
            packer: an empty one.
            ranks: packs of a round, all of which one optimizer step takes.
            window: rounds of a window.
            width: d of the network, on which the cost of a pack depends.
            seed: of the order of the rounds.
        """
        self.packer = packer
        self.cursor = 0
        self._length = length
        self._ranks = ranks
        self._window = window
        self._width = width
        self._seed = seed
        self._windows = 0
        self._waiting: list[Pack] = []
        self._rounds: list[list[Pack]] = []

    def __iter__(self) -> Iterator[list[Pack]]:
        return self

    def __next__(self) -> list[Pack]:
        """Give the packs of the next optimizer step."""
        while not self._rounds:
            self._fill()
        return self._rounds.pop(0)

    def _fill(self) -> None:
        size = self._ranks * self._window
        while len(self._waiting) < size:
            self._waiting += self.packer.add(self.cursor, self._length(self.cursor))
            self.cursor += 1
        window, self._waiting = self._waiting[:size], self._waiting[size:]
        rounds = deal(window, self._ranks, self._width)
        order = torch.randperm(
            len(rounds), generator=generator(self._seed, "rounds", self._windows)
        )
        self._rounds = [rounds[i] for i in order.tolist()]
        self._windows += 1

    @property
    def _form(self) -> list[int]:
        """All numbers that packs and rounds depend on, besides the samples' lengths."""
        return [*self.packer.limits, self._ranks, self._window]

    def state_dict(self) -> dict[str, Any]:
        """Where it is, and the samples that it holds."""
        return {
            "form": self._form,
            "cursor": self.cursor,
            "windows": self._windows,
            "packer": self.packer.state_dict(),
            "waiting": [_listed(pack) for pack in self._waiting],
            "rounds": [[_listed(pack) for pack in dealt] for dealt in self._rounds],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken, with the very packs that were held there.

        Where packs have another form now, or samples other lengths, those that were held are packed
        anew, in their order: none is lost, and none comes twice.
        """
        self.cursor, self._windows = state["cursor"], state["windows"]
        self._waiting = [_pack(saved) for saved in state["waiting"]]
        self._rounds = [[_pack(saved) for saved in dealt] for dealt in state["rounds"]]
        opened = [Pack(tuple(ids), tuple(lengths)) for _, ids, lengths in state["packer"]["open"]]
        held = [pack for dealt in [opened, self._waiting, *self._rounds] for pack in dealt]
        known = {
            n: length for pack in held for n, length in zip(pack.ids, pack.lengths, strict=True)
        }
        if state.get("form") == self._form and all(self._length(n) == known[n] for n in known):
            self.packer.load_state_dict(state["packer"])
            return
        self._waiting, self._rounds = [], []
        for position in sorted(known):
            self._waiting += self.packer.add(position, self._length(position))


def _listed(pack: Pack) -> list[list[int]]:
    return [list(pack.ids), list(pack.lengths)]


def _pack(saved: list[list[int]]) -> Pack:
    ids, lengths = saved
    return Pack(tuple(ids), tuple(lengths))
