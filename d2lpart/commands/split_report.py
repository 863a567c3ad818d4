"""SplitReport: what becomes of a model that is split, as a page of text and as plain values."""

import math
from dataclasses import dataclass
from typing import Any

from d2lpart.common.quantities import bytes_text, count, seconds_text
from d2lpart.costs.layer_cost import LayerCost
from d2lpart.memory.ledger import Ledgers
from d2lpart.partitions.partitioning import Partition
from d2lpart.schedules.schedule import Schedule
from d2lpart.timelines.spans import Link
from d2lpart.timelines.timeline import Timeline


@dataclass(frozen=True)
class MicroBatch:
    """The size of a micro-batch: samples, and positions in each."""

    samples: int
    positions: int

    @property
    def tokens(self) -> int:
        """Samples times positions."""
        return self.samples * self.positions


@dataclass(frozen=True)
class SplitReport:
    """What becomes of a model that is split; printed, it is a page of text.

    Attributes:
        model: its name.
        costs: of each layer, for one micro-batch.
        partition: the best there is for these costs.
        schedule: of the step.
        memory: the computed ledger of each rank.
        timeline: the predicted step.
        link: between the ranks.
        microbatch: its size.
        precision: "fp32", or "mixed": weights and activations of 16 bits.
        note: what else to know of the seconds.
        context: where the number of positions comes from, if nobody gave it.
    """

    model: str
    costs: tuple[LayerCost, ...]
    partition: Partition
    schedule: Schedule
    memory: Ledgers
    timeline: Timeline
    link: Link
    microbatch: MicroBatch
    precision: str
    note: str = ""
    context: str = ""

    @property
    def source(self) -> str:
        """Where the seconds come from."""
        return self.costs[0].timing + (f" ({self.note})" if self.note else "")

    @property
    def fits(self) -> bool:
        """Say whether every rank stays within its capacity."""
        return not self.memory.too_full

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(cost.parameters for cost in self.costs)

    @property
    def cut_bytes(self) -> list[int]:
        """The size of the activation of one micro-batch at each cut."""
        return [self.costs[bound - 1].boundary_bytes for bound in self.partition.bounds]

    @property
    def step_bytes(self) -> int:
        """All that crosses from rank to rank in a step, forward and backward."""
        return sum(transfer.nbytes for transfer in self.timeline.transfers)

    def __str__(self) -> str:
        m, ranks = self.schedule.num_microbatches, self.schedule.num_ranks
        cuts = sorted({bytes_text(size) for size in self.cut_bytes})
        each = f", {' or '.join(cuts)} a micro-batch each way" if cuts else ""
        idle, overhead = self.timeline.idle_fraction(), self.timeline.bubble_overhead()
        crossings = f"{self.partition.crossings}{each}"
        taken = f"context: {self.microbatch.positions:,} positions, {self.context}; "
        return "\n".join(
            [
                f"{self.model}: {count(len(self.costs), 'layer')}, "
                f"{self.parameters:,} parameters, {self.precision}",
                f"{self.schedule.name} on {count(ranks, 'rank')}, {count(m, 'micro-batch')} of "
                f"{self.microbatch.samples} x {self.microbatch.positions} tokens",
                *([f"{taken}--context takes fewer"] if self.context else []),
                f"seconds: {self.source}",
                "",
                str(self.partition),
                "loads are seconds of forward and backward, for one micro-batch",
                "",
                str(self.memory),
                "",
                f"crossings: {crossings}; {bytes_text(self.step_bytes)} a step",
                f"link: {self.link}",
                f"predicted step: {seconds_text(self.timeline.makespan)}, "
                f"{m * self.microbatch.tokens / self.timeline.makespan:,.0f} tokens a second",
                f"predicted bubble: {idle:.1%} (idle/total), {overhead:.1%} (idle/ideal)",
            ]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return all that is printed, and the ledgers in bytes, as plain values for JSON."""
        loads = self.partition.loads([cost.seconds for cost in self.costs])
        stages = [
            {
                "rank": self.schedule.stage_to_rank[stage],
                "layers": [layers.start, layers.stop - 1],
                "seconds": load,
                "parameters": sum(self.costs[layer].parameters for layer in layers),
            }
            for stage, (layers, load) in enumerate(zip(self.partition.stages, loads, strict=True))
        ]
        limits = self.memory.capacity or (math.inf,) * len(self.memory)
        return {
            "model": self.model,
            "layers": len(self.costs),
            "parameters": self.parameters,
            "precision": self.precision,
            "schedule": self.schedule.name,
            "ranks": self.schedule.num_ranks,
            "micro_batches": self.schedule.num_microbatches,
            "micro_batch": {
                "samples": self.microbatch.samples,
                "positions": self.microbatch.positions,
            },
            "context_from": self.context or "given",
            "seconds_from": self.source,
            "partition": list(self.partition.sizes),
            "stages": stages,
            "memory": [
                {"rank": rank, **dict(own.items()), "total": own.total, "capacity": _finite(limit)}
                for rank, (own, limit) in enumerate(zip(self.memory, limits, strict=True))
            ],
            "fits": self.fits,
            "crossings": self.partition.crossings,
            "cut_bytes": self.cut_bytes,
            "step_bytes": self.step_bytes,
            "link": {"latency": self.link.latency, "bandwidth": _finite(self.link.bandwidth)},
            "step_seconds": self.timeline.makespan,
            "idle_over_total": self.timeline.idle_fraction(),
            "idle_over_ideal": self.timeline.bubble_overhead(),
        }


def _finite(value: float) -> float | None:
    return value if value < math.inf else None
