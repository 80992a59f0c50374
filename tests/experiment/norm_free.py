"""A spiking model without batch statistics, for the runs of several processes. Importing this registers it."""

from torch import Tensor

from saccade.layers import Linear
from saccade.models import SpikingModel
from saccade.models.base import Normalise
from saccade.models.registry import ModelCard, register
from saccade.neurons import neuron


class NormFree(SpikingModel):
    """Two linear layers around neurons: what two processes compute, one must too."""

    def __init__(self, T: int = 3, num_classes: int = 10) -> None:
        super().__init__(T, num_classes, Normalise(1))
        self.first, self.neuron, self.second = Linear(64, 20), neuron("tet"), Linear(20, num_classes)

    def step_logits(self, x: Tensor) -> Tensor:
        return self.second(self.neuron(self.first(self.in_time(x).flatten(2) * 3)))


register(ModelCard("norm_free", "for tests", "test", (1, 8, 8), NormFree))
