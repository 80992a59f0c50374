"""The compiled kernels (see native/). Tensors come as addresses; 0 is a tensor that is not there."""

from collections.abc import Sequence

class Neuron:
    def __init__(
        self,
        decay: float,
        gain: float,
        v_th: float,
        v_rest: float,
        v_reset: float,
        reset: int,
        detach_reset: bool,
        surrogate: int,
        width: float,
        /,
    ) -> None: ...
    def with_values(self, which: int, values: int, size: int, inner: int, /) -> Neuron: ...

def lif_forward(
    neuron: Neuron,
    x: int,
    v0: int,
    spikes: int,
    v_last: int,
    potentials: int,
    T: int,
    M: int,
    once: bool,
    type: int,
    threads: int,
    /,
) -> None: ...
def lif_backward(
    neuron: Neuron,
    x: int,
    v0: int,
    grad_spikes: int,
    grad_v_last: int,
    grad_potentials: int,
    grad_x: int,
    grad_v0: int,
    grad_decay: int,
    grad_gain: int,
    grad_v_th: int,
    T: int,
    M: int,
    once: bool,
    type: int,
    threads: int,
    /,
) -> None: ...
def sum_to_constant(gradients: int, M: int, sums: int, size: int, inner: int, /) -> None: ...
def pack(
    x: int, type: int, unit: float, low: int, planes: int, bits: int, plane_bytes: int, n: int, threads: int, /
) -> bool: ...
def unpack(
    bits: int, plane_bytes: int, unit: float, low: int, planes: int, x: int, type: int, n: int, threads: int, /
) -> None: ...
def pool(source: int, target: int, rows: int, W: int, C: int, k: int, back: bool, threads: int, /) -> None: ...
def integer_forward(
    decay: float,
    gain: float,
    limit: float,
    divisor: float,
    stateful: bool,
    x: int,
    v0: int,
    y: int,
    v_last: int,
    T: int,
    M: int,
    threads: int,
    /,
) -> None: ...
def integer_backward(
    decay: float,
    gain: float,
    limit: float,
    divisor: float,
    stateful: bool,
    x: int,
    v0: int,
    grad_y: int,
    grad_v_last: int,
    grad_x: int,
    grad_v0: int,
    T: int,
    M: int,
    threads: int,
    /,
) -> None: ...
def dendritic_forward(
    parameters: int, pairs: int, x: int, state: int, y: int, last: int, B: int, L: int, D: int, threads: int, /
) -> None: ...
def dendritic_backward(
    parameters: int,
    pairs: int,
    x: int,
    state: int,
    grad_y: int,
    grad_last: int,
    grad_x: int,
    grad_state: int,
    grad_parameters: int,
    B: int,
    L: int,
    D: int,
    threads: int,
    /,
) -> None: ...
def events_decode(
    layout: int,
    data: int,
    begin: int,
    end: int,
    t: int,
    x: int,
    y: int,
    p: int,
    room: int,
    state: int,
    width: int,
    height: int,
    lenient: bool,
    report: int,
    /,
) -> int: ...
def events_count(layout: int, data: int, begin: int, end: int, /) -> int: ...
def events_check(
    t: int, x: int, y: int, p: int, n: int, last: int, width: int, height: int, /
) -> tuple[int, int] | None: ...

class Dehazing:
    def __init__(self, H: int, W: int, threads: int, /) -> None: ...
    @property
    def bytes(self) -> int: ...
    def load(self, image: int, window: int, fraction: float, /) -> list[float]: ...
    def order(self, A: Sequence[float], window: int, /) -> tuple[float, float]: ...
    def theta(self, farthest: float, nearest: float, eps: float, low: float, high: float, /) -> tuple[float, float]: ...
    def render(
        self,
        out: int,
        farthest: float,
        nearest: float,
        theta: float,
        radius: int,
        eps: float,
        least: float,
        by: int,
        keep: bool,
        /,
    ) -> float: ...
    def copy_plane(self, to: int, /) -> None: ...

def clahe(image: int, H: int, W: int, clip: float, threads: int, /) -> None: ...

class Recording:
    def __init__(
        self, t: int, x: int, y: int, p: int, spans: int, out: int, scratch: int, T: int, H: int, W: int, /
    ) -> None: ...

def count_frames(recording: Recording, once: bool, /) -> int: ...
def last_polarity_frames(recording: Recording, /) -> int: ...
def voxel_frames(recording: Recording, bins: int, split: bool, /) -> int: ...
def count_and_time_frames(recording: Recording, /) -> int: ...
def time_surface_frames(recording: Recording, last: int, tau: float, /) -> int: ...
def trajectory_frames(
    recording: Recording, alpha: float, beta: float, trajectory: int, before: int, counts: int, /
) -> int: ...
def keep_memory() -> bool: ...
def instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def use_instruction_set(name: str, /) -> None: ...
