"""Memory-free networks in integers: lowering, schedules that agree spike for spike, the state they need."""

from saccade.deploy.lowering import lower
from saccade.deploy.program import IntegerLayer, Program
from saccade.deploy.schedules import events_of, run_async, run_layer_serial, run_parallel, run_shift_register
from saccade.deploy.state import StateBytes, state_bytes

__all__ = [
    "IntegerLayer",
    "Program",
    "StateBytes",
    "events_of",
    "lower",
    "run_async",
    "run_layer_serial",
    "run_parallel",
    "run_shift_register",
    "state_bytes",
]
