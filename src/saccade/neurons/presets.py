"""The neurons by name: those of the papers, which differ only in their constants, and the other recurrences as they start."""

from __future__ import annotations

import math

import numpy as np

from saccade.neurons.lif import LIFConfig
from saccade.neurons.mixing import LeakMixingConfig, MaskedMixingConfig, SlidingMixingConfig
from saccade.neurons.quantized_membrane import QuantizedMembraneConfig
from saccade.neurons.spiking import NEURONS, NeuronConfig
from saccade.neurons.surrogate import ATan, Rectangle, Sigmoid, Triangle


def strict(v_th: float) -> float:
    """The threshold for papers that fire at ``u > v_th``: the next float32 above it."""
    return float(np.nextafter(np.float32(v_th), np.float32(math.inf)))


_NAMED: dict[str, NeuronConfig] = {
    # Shan et al. (2023), SynA-ResNet, and (2024), SMA: every neuron of their code; SpikingJelly's LIFNode of those years.
    "lif": LIFConfig(tau=2.0, decay_input=True, surrogate=ATan(2.0)),
    # Zhou et al. (2023), Spikformer; Yao et al. (2023), Spike-driven Transformer; Zhou et al. (2024), QKFormer.
    "spikformer": LIFConfig(tau=2.0, decay_input=True, surrogate=Sigmoid(4.0)),
    # Fang et al. (2021), PLIF: the same with a learnable time constant, tau starting at 2.
    "plif": LIFConfig(tau=2.0, decay_input=True, learn_tau=True, surrogate=ATan(2.0)),
    # Fang et al. (2021), SEW-ResNet on ImageNet: integrate-and-fire, no leak.
    "if": LIFConfig(tau=math.inf, decay_input=False, surrogate=ATan(2.0)),
    # Hu et al. (2021), MS-ResNet; the same constants in SMA-ResNet and in QP-SNN's detection add-on.
    "ms": LIFConfig(tau=4 / 3, decay_input=False, v_th=strict(0.5), surrogate=Rectangle(0.5)),
    # Wu et al. (2018), STBP, as released with tdBN: V_th 0.2, leak 0.25.
    "stbp": LIFConfig(tau=4 / 3, decay_input=False, v_th=strict(0.2), surrogate=Rectangle(0.5)),
    # Yao et al. (2021, 2023), MA-SNN: after a spike the released cell goes to 0.3 * V_th, i.e. is reset to V_th and leaks.
    "ma": LIFConfig(
        tau=1 / 0.7, decay_input=False, v_th=0.3, v_reset=0.3, detach_reset=False, surrogate=Rectangle(0.25)
    ),
    # Deng et al. (2022), TET.
    "tet": LIFConfig(tau=2.0, decay_input=False, v_th=strict(1.0), detach_reset=False, surrogate=Triangle(1.0)),
    # Ding et al. (2022), SNN-RAT, as released, and the papers on attacks since: no leak, reset not detached.
    "rat": LIFConfig(tau=math.inf, decay_input=False, detach_reset=False, surrogate=Triangle(1.0)),
    # Wei et al. (2025), QP-SNN and S2NN, and (2024), Q-SNN without membrane quantization: strict threshold, reset not detached.
    "qp": LIFConfig(tau=2.0, decay_input=False, v_th=strict(1.0), detach_reset=False, surrogate=Triangle(1.0)),
    # The same without its reset: how much of what MFP-QSNN gains comes from dropping it.
    "qp_no_reset": LIFConfig(
        tau=2.0, decay_input=False, v_th=strict(1.0), reset="none", detach_reset=False, surrogate=Triangle(1.0)
    ),
    # MFP-QSNN (2025) in its "leak" form: no reset, the leak learnable from 1/2.
    "memory_free_leak": LIFConfig(tau=2.0, decay_input=False, learn_tau=True, reset="none", surrogate=ATan(2.0)),
    # MFP-QSNN (2025): mixings instead of membranes.
    "leak_mixing": LeakMixingConfig(),
    "masked_mixing": MaskedMixingConfig(),
    "sliding_mixing": SlidingMixingConfig(),
    # Wei et al. (2024), Q-SNN: a potential of a few bits.
    "quantized_membrane": QuantizedMembraneConfig(),
}
for _name, _config in _NAMED.items():
    NEURONS.register(_name, _config)
