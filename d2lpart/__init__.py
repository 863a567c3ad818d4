"""d2lpart: split a transformer decoder layer-wise over devices, and time who stands idle."""

from typing import Any

from d2lpart.common.display import set_painter
from d2lpart.costs.forecasting import ForecastError, forecast, forecast_error
from d2lpart.costs.layer_cost import LayerCost, at_rate
from d2lpart.costs.memory_forecast import predict_memory
from d2lpart.costs.profiler import profile
from d2lpart.machine.hardware import devices
from d2lpart.memory.failures import OutOfMemoryError, PipelineError
from d2lpart.memory.formulas import DecoderShape, decoder_ledger
from d2lpart.memory.ledger import Ledger, Ledgers
from d2lpart.models.decoder import Decoder
from d2lpart.models.generation import generate
from d2lpart.models.layers import layers_of
from d2lpart.models.text import Corpus, corpus
from d2lpart.partitions.partitioning import Partition, PartitionError, partition
from d2lpart.partitions.placement import Verdict, check_placement
from d2lpart.pipeline.pipeline import Pipeline
from d2lpart.pipeline.step_result import StepResult
from d2lpart.schedules.orders import SCHEDULES, build_schedule
from d2lpart.schedules.recognition import recognize
from d2lpart.schedules.schedule import Action, Schedule, ScheduleError, dependencies
from d2lpart.schedules.validation import validate
from d2lpart.splits.comparison import three_ways
from d2lpart.splits.data_parallel import DataParallel
from d2lpart.splits.tensor_parallel import TensorParallel
from d2lpart.timelines.bubble_table import bubbles
from d2lpart.timelines.ranking_table import ranking
from d2lpart.timelines.simulator import simulate
from d2lpart.timelines.spans import Link, Span, Transfer
from d2lpart.timelines.timeline import Timeline

__all__ = [
    "SCHEDULES",
    "Action",
    "Corpus",
    "DataParallel",
    "Decoder",
    "DecoderShape",
    "ForecastError",
    "LayerCost",
    "Ledger",
    "Ledgers",
    "Link",
    "OutOfMemoryError",
    "Partition",
    "PartitionError",
    "Pipeline",
    "PipelineError",
    "Schedule",
    "ScheduleError",
    "Span",
    "StepResult",
    "TensorParallel",
    "Timeline",
    "Transfer",
    "Verdict",
    "at_rate",
    "bubbles",
    "build_schedule",
    "check_placement",
    "corpus",
    "decoder_ledger",
    "dependencies",
    "devices",
    "forecast",
    "forecast_error",
    "generate",
    "layers_of",
    "partition",
    "predict_memory",
    "profile",
    "ranking",
    "recognize",
    "simulate",
    "three_ways",
    "validate",
]


def _paint(value: Any, **options: Any) -> Any:
    """Draw a value; matplotlib is loaded when the first figure is asked for, not before."""
    from d2lpart.figures import plotting as draw

    return draw.plot(value, **options)


set_painter(_paint)
