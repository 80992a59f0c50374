"""Memory-free networks in integers: lowering, schedules that agree spike for spike, the state they need."""

from saccade.deploy.lowering import lower
from saccade.deploy.operations import OPERATIONS, Operation, lowers
from saccade.deploy.program import IntegerLayer, Program, interpret, load_program, save_program
from saccade.deploy.schedules import events_of, run_async, run_layer_serial, run_parallel, run_shift_register
from saccade.deploy.state import StateBytes, state_bytes

__all__ = [
    "OPERATIONS",
    "IntegerLayer",
    "Operation",
    "Program",
    "StateBytes",
    "events_of",
    "interpret",
    "load_program",
    "lower",
    "lowers",
    "run_async",
    "run_layer_serial",
    "run_parallel",
    "run_shift_register",
    "save_program",
    "state_bytes",
]
