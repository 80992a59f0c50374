"""Trained spiking networks as integer programs: the same spikes in whole numbers."""

from saccade.deploy.chain import Chain, IntegerLayer, chain_of
from saccade.deploy.compare import Comparison, compare
from saccade.deploy.files import ProgramSize, load_program, program_bytes, program_size, save_program
from saccade.deploy.lowering import Lowering, lower, lowers
from saccade.deploy.program import OPERATIONS, Operation, Program, Stateless, Stream, Wire
from saccade.deploy.schedules import events_of, run_async, run_layer_serial, run_parallel, run_shift_register
from saccade.deploy.state import StateBytes, state_bytes

__all__ = [
    "OPERATIONS",
    "Chain",
    "Comparison",
    "IntegerLayer",
    "Lowering",
    "Operation",
    "Program",
    "ProgramSize",
    "StateBytes",
    "Stateless",
    "Stream",
    "Wire",
    "chain_of",
    "compare",
    "events_of",
    "load_program",
    "lower",
    "lowers",
    "program_bytes",
    "program_size",
    "run_async",
    "run_layer_serial",
    "run_parallel",
    "run_shift_register",
    "save_program",
    "state_bytes",
]
