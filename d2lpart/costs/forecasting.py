"""`forecast`: a profile, a partition and a schedule give the timeline of a step yet to be run."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from d2lpart.common.arguments import check_kind
from d2lpart.common.quantities import count, seconds_text
from d2lpart.costs.layer_cost import SPLIT_F, LayerCost
from d2lpart.partitions.partitioning import Partition
from d2lpart.schedules.schedule import Action, Schedule, check_schedule
from d2lpart.timelines.simulator import FREE, Links, simulate
from d2lpart.timelines.timeline import Timeline


def forecast(
    costs: Sequence[LayerCost],
    partition: Partition | Sequence[int],
    schedule: Schedule,
    link: Links = FREE,
    *,
    recompute: bool = False,
) -> Timeline:
    """Predict a step of a pipeline from what its layers cost.

    Each action of a stage takes the sum of what it takes in the stage's layers: F, B, and I and W
    where the schedule splits the backward, each as it was measured. The messages are the outputs
    in front of the cuts, and gradients of the same size on the way back; no gradient goes to
    stages of which nothing learns. Three things have to be as in the step to be predicted, and are
    the profile's business: the size of a micro-batch, the threads of a rank
    (`profile(..., ranks=...)`), and the loss (`profile(..., targets=...)`). Left out is what a
    step does between its actions, some microseconds each.

    Args:
        costs: `profile(layers, microbatch, …)`, or those with seconds from `at_rate`.
        partition: layers a stage.
        schedule: any valid schedule, with as many stages.
        link: as `simulate` takes it.
        recompute: as `Pipeline` takes it: B, or I, takes a forward longer.

    Returns:
        A timeline on the predicted clock; its note says where the seconds come from.

    Raises:
        ValueError: costs, partition and schedule are not for equally many layers and stages, or
            a layer was not timed.

    >>> from d2lpart.schedules.orders import build_schedule
    >>> costs = [LayerCost("Linear", 8, 32, 0, 16, 400, 1.0, 2.0)] * 4
    >>> print(forecast(costs, [2, 2], build_schedule("1f1b", 2, 2)))
    1f1b, 2 ranks, 2 micro-batches, predicted clock: step 18 s, idle 33.3% (idle/total)
    rank 0 |F0F1    B0--  B1--| idle 33.3%
    rank 1 |  F0B0--F1B1--    | idle 33.3%
    durations: sums over the layers of each stage, given
    """
    cut = matching(costs, partition, schedule)
    own = [[costs[layer] for layer in stage] for stage in cut.stages]
    outputs = [cs[-1].boundary_bytes for cs in own]
    learns = [any(cost.trainable for cost in costs[: stage.start]) for stage in cut.stages]

    @cache
    def seconds(stage: int, kind: str) -> float:
        return sum(cost.seconds_of(kind) for cost in own[stage])

    def duration(action: Action) -> float:
        stage, kind, microbatch = action
        split = schedule.backward_of(stage, microbatch).kind == "I"
        forward = SPLIT_F if split else "F"  # with a graph, that is
        if kind == "F":
            return seconds(stage, "F" if recompute else forward)
        again = seconds(stage, forward) if recompute and kind in "BI" else 0.0
        return again + seconds(stage, kind)

    def message(action: Action) -> int:
        if action.kind == "F":
            return outputs[action.stage]
        return outputs[action.stage - 1] if learns[action.stage] else 0

    sources = dict.fromkeys(cost.timing or "given" for cost in costs)
    note = f"durations: sums over the layers of each stage, {'; '.join(sources)}"
    return simulate(schedule, duration, link, boundary_bytes=message, note=note)


def matching(
    costs: Sequence[LayerCost], partition: Partition | Sequence[int], schedule: Schedule
) -> Partition:
    """Return the partition, once it is sure that the three are for the same layers and stages.

    Raises:
        ValueError: they are not, or one of them is something else.
    """
    check_kind(costs, Sequence, "give the costs of a profile, one a layer")
    for cost in costs:
        check_kind(cost, LayerCost, "give the costs of a profile, one a layer")
    check_schedule(schedule)
    cut = partition if isinstance(partition, Partition) else Partition(partition)
    if cut.num_layers != len(costs) or cut.num_stages != schedule.num_stages:
        raise ValueError(
            f"{count(len(costs), 'cost')}, a partition of {count(cut.num_layers, 'layer')} into "
            f"{count(cut.num_stages, 'stage')}, and a schedule of "
            f"{count(schedule.num_stages, 'stage')}: give one cost a layer, and a schedule with "
            f"as many stages as the partition"
        )
    return cut


@dataclass(frozen=True)
class ForecastError:
    """How far a prediction is from what was measured.

    Attributes:
        predicted: the length of the step that was predicted, in seconds.
        measured: of the step that was measured; the median of several.
        steps: how many were measured.
        clock: on which clock.
    """

    predicted: float
    measured: float
    steps: int
    clock: str

    @property
    def relative(self) -> float:
        """The error over the measured step: below 0, the step took longer than predicted."""
        return self.predicted / self.measured - 1

    def __str__(self) -> str:
        steps = f", median of {self.steps} steps" if self.steps > 1 else ""
        return (
            f"predicted {seconds_text(self.predicted)}, measured {seconds_text(self.measured)} "
            f"({self.clock} clock{steps}): error {self.relative:+.1%}"
        )


def forecast_error(predicted: Timeline, *measured: Timeline) -> ForecastError:
    """Hold a prediction against one measured step, or against the median of several.

    Raises:
        ValueError: nothing was measured, on no clock or on several, or it took no time.

    >>> from d2lpart.schedules.orders import build_schedule
    >>> schedule = build_schedule("naive", 2, 1)
    >>> durations = {"F": 1.0, "B": 1.5}, {"F": 1.0, "B": 2.0}
    >>> predicted, slower = (simulate(schedule, own) for own in durations)
    >>> print(forecast_error(predicted, slower))
    predicted 5 s, measured 6 s (predicted clock): error -16.7%
    """
    for timeline in (predicted, *measured):
        check_kind(timeline, Timeline, "give a forecast, then the timelines of steps")
    clocks = sorted({timeline.clock for timeline in measured})
    lengths = [timeline.makespan for timeline in measured]
    if len(clocks) != 1 or not statistics.median(lengths) > 0:
        raise ValueError(
            f"{count(len(measured), 'measured timeline')}, on the clocks "
            f"{', '.join(clocks) or 'of none'}: give at least one, all on the same clock, and "
            f"longer than 0 s"
        )
    return ForecastError(predicted.makespan, statistics.median(lengths), len(measured), clocks[0])
