"""d2lpart: split a transformer decoder layer-wise over devices, and time who stands idle.

Every public name is here, and is loaded when it is first asked for: what computes orders and times
needs no torch, and `import d2lpart` loads none. Each room beside this file is one concept; its own
`__init__.py` says what lives there, and which file to read first.
"""

import importlib
from typing import TYPE_CHECKING, Any

from d2lpart.common.display import set_painter

if TYPE_CHECKING:
    from d2lpart.costs.forecasting import (
        ForecastError as ForecastError,
        forecast as forecast,
        forecast_error as forecast_error,
    )
    from d2lpart.costs.layer_cost import LayerCost as LayerCost, at_rate as at_rate
    from d2lpart.costs.memory_forecast import predict_memory as predict_memory
    from d2lpart.costs.profiler import profile as profile
    from d2lpart.machine.hardware import devices as devices
    from d2lpart.memory.failures import (
        OutOfMemoryError as OutOfMemoryError,
        PipelineError as PipelineError,
    )
    from d2lpart.memory.formulas import (
        DecoderShape as DecoderShape,
        decoder_ledger as decoder_ledger,
    )
    from d2lpart.memory.ledger import Ledger as Ledger, Ledgers as Ledgers
    from d2lpart.models.decoder import Decoder as Decoder
    from d2lpart.models.generation import generate as generate
    from d2lpart.models.layers import layers_of as layers_of
    from d2lpart.models.text import Corpus as Corpus, corpus as corpus
    from d2lpart.partitions.partitioning import (
        Partition as Partition,
        PartitionError as PartitionError,
        partition as partition,
    )
    from d2lpart.partitions.placement import Verdict as Verdict, check_placement as check_placement
    from d2lpart.pipeline.pipeline import Pipeline as Pipeline
    from d2lpart.pipeline.step_result import StepResult as StepResult
    from d2lpart.schedules.orders import SCHEDULES as SCHEDULES, build_schedule as build_schedule
    from d2lpart.schedules.recognition import recognize as recognize
    from d2lpart.schedules.schedule import (
        Action as Action,
        Schedule as Schedule,
        ScheduleError as ScheduleError,
        dependencies as dependencies,
    )
    from d2lpart.schedules.validation import validate as validate
    from d2lpart.splits.comparison import three_ways as three_ways
    from d2lpart.splits.data_parallel import DataParallel as DataParallel
    from d2lpart.splits.tensor_parallel import TensorParallel as TensorParallel
    from d2lpart.stages.microbatch import microbatch_share as microbatch_share
    from d2lpart.timelines.bubble_table import bubbles as bubbles
    from d2lpart.timelines.ranking_table import ranking as ranking
    from d2lpart.timelines.simulator import simulate as simulate
    from d2lpart.timelines.spans import Link as Link, Span as Span, Transfer as Transfer
    from d2lpart.timelines.timeline import Timeline as Timeline

_ROOMS = {
    "schedules.orders": "SCHEDULES build_schedule",
    "schedules.recognition": "recognize",
    "schedules.schedule": "Action Schedule ScheduleError dependencies",
    "schedules.validation": "validate",
    "timelines.bubble_table": "bubbles",
    "timelines.ranking_table": "ranking",
    "timelines.simulator": "simulate",
    "timelines.spans": "Link Span Transfer",
    "timelines.timeline": "Timeline",
    "partitions.partitioning": "Partition PartitionError partition",
    "partitions.placement": "Verdict check_placement",
    "memory.failures": "OutOfMemoryError PipelineError",
    "memory.formulas": "DecoderShape decoder_ledger",
    "memory.ledger": "Ledger Ledgers",
    "models.decoder": "Decoder",
    "models.generation": "generate",
    "models.layers": "layers_of",
    "models.text": "Corpus corpus",
    "machine.hardware": "devices",
    "stages.microbatch": "microbatch_share",
    "costs.forecasting": "ForecastError forecast forecast_error",
    "costs.layer_cost": "LayerCost at_rate",
    "costs.memory_forecast": "predict_memory",
    "costs.profiler": "profile",
    "pipeline.pipeline": "Pipeline",
    "pipeline.step_result": "StepResult",
    "splits.comparison": "three_ways",
    "splits.data_parallel": "DataParallel",
    "splits.tensor_parallel": "TensorParallel",
}
_HOMES = {name: module for module, names in _ROOMS.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name from its room, and keep it."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _paint(value: Any, **options: Any) -> Any:
    """Draw a value; matplotlib is loaded when the first figure is asked for, not before."""
    from d2lpart import figures

    return figures.plot(value, **options)


set_painter(_paint)
