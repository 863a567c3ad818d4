"""What a cut costs: loads, memory, crossings, the step, and the best partition there is.

It is what the partition editor shows, for those without widgets.
"""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from d2lpart.common.quantities import bytes_text, count
from d2lpart.partitions.partitioning import Partition, PartitionError, partition
from d2lpart.schedules.orders import build_schedule
from d2lpart.schedules.schedule import Schedule
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.svg import lanes_svg
from d2lpart.timelines.timeline import Timeline


@dataclass(frozen=True)
class PartitionReport:
    """A partition with its costs.

    loads: of each stage, in seconds of forward (a backward takes twice that). memory: of each
    stage, in the unit given; empty where none was. capacity: of a stage, or None. crossing_bytes:
    over all cuts, forward and backward, for one micro-batch. best: the partition with the smallest
    bottleneck within the capacity, None where no partition fits. schedule: of the predicted step.
    """

    partition: Partition
    loads: tuple[float, ...]
    memory: tuple[float, ...]
    capacity: float | None
    crossing_bytes: int
    best: Partition | None
    best_bottleneck: float
    schedule: Schedule

    @cached_property
    def timeline(self) -> Timeline:
        """The predicted step, messages free."""
        return simulate(self.schedule, [dict.fromkeys("FIW", load) for load in self.loads])

    @property
    def too_full(self) -> list[int]:
        """The stages whose memory is above the capacity."""
        if self.capacity is None:
            return []
        return [stage for stage, used in enumerate(self.memory) if used > self.capacity]

    def facts(self) -> list[tuple[str, str]]:
        """Return the figures, as pairs of words."""
        best = (
            "no partition fits"
            if self.best is None
            else f"{self.best_bottleneck:.4g} s with {' + '.join(map(str, self.best.sizes))}"
        )
        rows = [
            ("sizes", " + ".join(map(str, self.partition.sizes))),
            ("loads", ", ".join(f"{load:.4g}" for load in self.loads) + " s"),
            ("bottleneck", f"{max(self.loads):.4g} s; the best is {best}"),
        ]
        if self.memory:
            limit = "" if self.capacity is None else f" of {self.capacity:g}"
            full = "".join(f"; stage {stage} is too full" for stage in self.too_full)
            rows.append(("memory", ", ".join(f"{m:.4g}" for m in self.memory) + limit + full))
        crossings = f"{self.partition.crossings}"
        if self.crossing_bytes:
            crossings += f", {bytes_text(self.crossing_bytes)} a micro-batch, there and back"
        rows.append(("crossings", crossings))
        rows.append(
            (
                f"{self.schedule.name}, {count(self.schedule.num_microbatches, 'micro-batch')}",
                f"{self.timeline.makespan:.4g} s, idle {self.timeline.idle_fraction():.1%}",
            )
        )
        return rows

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {text}" for name, text in self.facts())

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th scope="row" style="text-align:left">{name}</th>'
            f'<td style="text-align:left">{html.escape(text)}</td></tr>'
            for name, text in self.facts()
        )
        return f'<div role="status"><table>{rows}</table>{lanes_svg(self.timeline)}</div>'


def partition_report(
    costs: Sequence[float],
    sizes: Sequence[int],
    *,
    memory: Sequence[float] | None = None,
    capacity: float | None = None,
    boundary_bytes: int = 0,
    schedule: str = "1f1b",
    num_microbatches: int = 8,
) -> PartitionReport:
    """Return what the partition `sizes` costs.

    Args:
        costs: seconds of forward of each layer.
        sizes: layers of each stage.
        memory, capacity: of each layer and of a stage, in one unit.
        boundary_bytes: of the activation that crosses a cut.
        schedule, num_microbatches: of the predicted step; a name of `SCHEDULES` that has one stage
            a rank.

    Raises:
        PartitionError: sizes that do not add up to the layers, costs of another length, or a
            schedule with more than one stage a rank.
        ValueError: no schedule of that name or size.

    >>> partition_report([4, 4, 4, 4] + [1] * 8, [4, 4, 4], boundary_bytes=1000)
    sizes: 4 + 4 + 4
    loads: 16, 4, 4 s
    bottleneck: 16 s; the best is 8 s with 2 + 2 + 8
    crossings: 2, 4 kB a micro-batch, there and back
    1f1b, 8 micro-batches: 384 s, idle 50.0%
    """
    cut = Partition(sizes)
    loads = cut.loads(costs)
    used = cut.loads(memory) if memory is not None else ()
    limit = capacity if memory is not None else None
    try:
        best = partition(costs, cut.num_stages, memory=memory, capacity=limit)
    except PartitionError:
        best = None
    return PartitionReport(
        cut,
        loads,
        used,
        limit,
        2 * cut.crossings * boundary_bytes,
        best,
        best.bottleneck(costs) if best else 0.0,
        _one_stage_a_rank(schedule, cut.num_stages, num_microbatches),
    )


def _one_stage_a_rank(name: str, num_stages: int, num_microbatches: int) -> Schedule:
    schedule = build_schedule(name, num_stages, num_microbatches)
    if schedule.num_stages != num_stages:
        raise PartitionError(
            f"{name!r} runs {schedule.num_stages} stages on {num_stages} ranks, and the partition "
            f"has {num_stages}: choose an order with one stage a rank, such as '1f1b'"
        )
    return schedule
