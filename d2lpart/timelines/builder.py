"""Building: a schedule made by hand, one action after another, each placed as early as it can run.

It is what the schedule builder shows, for those without widgets.
"""

import html
from collections.abc import Mapping

from d2lpart.common.arguments import check_number
from d2lpart.schedules.orders import build_schedule
from d2lpart.schedules.recognition import recognize
from d2lpart.schedules.schedule import Action, Schedule, dependencies
from d2lpart.timelines.ranking_table import named
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Span
from d2lpart.timelines.svg import lanes_svg
from d2lpart.timelines.timeline import Timeline

SECONDS = {"F": 1.0, "B": 2.0, "I": 1.0, "W": 1.0}


class Move(ValueError):
    """An action cannot be placed now; says what has to come first."""


class Building:
    """A schedule under construction, one stage a rank.

    Args:
        num_ranks, num_microbatches: p and m.
        split: whether backwards are done in halves, I and W, or whole, as B.
        most_held: the most micro-batches that a rank may hold at once; None for any number.
        seconds: of each kind; B defaults to I + W.

    >>> building = Building(2, 1)
    >>> [str(action) for action in building.ready()]
    ['0F0']
    >>> building.place("1F0")
    Traceback (most recent call last):
    d2lpart.timelines.builder.Move: 1F0 cannot run yet: it needs 0F0 on rank 0, which is not placed
    >>> building.place("0F0").place("1F0").place("1B0").place("0B0").timeline().makespan
    6.0
    """

    def __init__(
        self,
        num_ranks: int,
        num_microbatches: int,
        *,
        split: bool = False,
        most_held: int | None = None,
        seconds: Mapping[str, float] = SECONDS,
    ) -> None:
        self._whole = build_schedule("zb-h1" if split else "gpipe", num_ranks, num_microbatches)
        if most_held is not None:
            check_number("most_held", most_held)
        simulate(self._whole, seconds)  # says which seconds are missing, or no seconds
        both = {"B": seconds["I"] + seconds["W"]} if {"I", "W"} <= seconds.keys() else {}
        self.split, self.most_held, self.seconds = split, most_held, both | dict(seconds)
        self.placed: list[Action] = []
        self._spans: dict[Action, Span] = {}

    @property
    def num_ranks(self) -> int:
        """How many ranks there are."""
        return self._whole.num_ranks

    @property
    def done(self) -> bool:
        """Whether every action is placed."""
        return len(self.placed) == len(self._whole.position)

    def ready(self) -> list[Action]:
        """Return the actions that may be placed next, rank by rank."""
        return [action for action in sorted(self._whole.position) if not self._trouble(action)]

    def place(self, action: Action | str) -> "Building":
        """Place an action behind those of its rank, as early as it can run; return the building.

        Raises `Move` for one that cannot be placed now, `ValueError` for what is no action.
        """
        action = Action.parse(action) if isinstance(action, str) else action
        if trouble := self._trouble(action):
            raise Move(trouble)
        rank = action.stage
        free = max((span.end for span in self._spans.values() if span.rank == rank), default=0.0)
        needs = [self._spans[need].end for need in dependencies(action, self._whole)]
        start = max([free, *needs])
        self._spans[action] = Span(rank, action, start, start + self.seconds[action.kind])
        self.placed.append(action)
        return self

    def undo(self) -> "Building":
        """Take the last action back, if there is one."""
        if self.placed:
            del self._spans[self.placed.pop()]
        return self

    def _trouble(self, action: Action) -> str:
        """Say why an action cannot be placed now; "" where it can."""
        if action not in self._whole.position:
            kinds = "F, I and W" if self.split else "F and B"
            return (
                f"{action} is no action of this step: it has {kinds} of stages 0 to "
                f"{self.num_ranks - 1} and micro-batches 0 to {self._whole.num_microbatches - 1}"
            )
        if action in self._spans:
            return f"{action} is placed already"
        for need in dependencies(action, self._whole):
            if need not in self._spans:
                return (
                    f"{action} cannot run yet: it needs {need} on rank {need.stage}, which is not "
                    f"placed"
                )
        held = self.held(action.stage)
        if action.kind == "F" and self.most_held is not None and held >= self.most_held:
            return (
                f"{action} cannot be placed: rank {action.stage} may hold {self.most_held} at "
                f"once, and holds {held}; end one of them first"
            )
        return ""

    def held(self, rank: int) -> int:
        """Return how many micro-batches a rank holds after what is placed."""
        last = "W" if self.split else "B"
        kinds = [action.kind for action in self.placed if action.stage == rank]
        return kinds.count("F") - kinds.count(last)

    def schedule(self) -> Schedule:
        """Return the schedule as it stands; it is legal once all is placed."""
        orders = [[a for a in self.placed if a.stage == rank] for rank in range(self.num_ranks)]
        return Schedule(orders, range(self.num_ranks), "mine")

    def timeline(self) -> Timeline:
        """Return the finished step; raises `Move` while actions are missing."""
        if not self.done:
            left = len(self._whole.position) - len(self.placed)
            raise Move(
                f"{left} actions are not placed yet: {', '.join(map(str, self.ready()))} can"
            )
        return simulate(self.schedule(), self.seconds)

    def so_far(self) -> Timeline:
        """Return the step as far as it is placed; it sends no messages yet.

        Raises:
            Move: nothing is placed yet.
        """
        if not self.placed:
            raise Move(f"nothing is placed yet: {', '.join(map(str, self.ready()))} can")
        return Timeline(self._spans.values(), (), "predicted", self.schedule(), "not finished")

    def par(self) -> tuple[float, str]:
        """Return the shortest step of a named schedule that keeps to the memory, and its name."""
        seconds = {k: s for k, s in self.seconds.items() if self.split or k in "FB"}
        cap = float("inf") if self.most_held is None else self.most_held
        entries = named(self.num_ranks, self._whole.num_microbatches, seconds, chunks=1)
        within = [entry for entry in entries if entry.held <= cap]
        return (within[0].seconds, within[0].name) if within else (float("inf"), "")

    def words(self) -> str:
        """Say how far it is, or how it compares with par."""
        seconds, name = self.par()
        par = f"par is {seconds:g} s ({name})" if name else "no named schedule keeps to this memory"
        if not self.done:
            ready = ", ".join(map(str, self.ready())) or "nothing: take one back"
            return f"{len(self.placed)} of {len(self._whole.position)} placed; next: {ready}; {par}"
        step = self.timeline()
        known = recognize(self.schedule())
        named = f" You have made {known}." if known else ""
        return f"step {step.makespan:g} s, idle {step.idle_fraction():.1%}; {par}.{named}"

    def __repr__(self) -> str:
        return "\n".join([*([str(self._shown())] if self.placed else []), self.words()])

    def _repr_html_(self) -> str:
        par = self.par()[0] if self.par()[1] else 0.0
        lanes = lanes_svg(self._shown(), length=par) if self.placed else ""
        return f'<div>{lanes}<p role="status">{html.escape(self.words())}</p></div>'

    def _shown(self) -> Timeline:
        return self.timeline() if self.done else self.so_far()
