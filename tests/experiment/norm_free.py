"""A spiking model without batch statistics, for the runs of several processes. Importing this registers it."""

from dataclasses import dataclass

from torch import Tensor

from saccade.layers import Linear
from saccade.models import ClassifierConfig, ModelCard, Normalise, SpikingModel, register
from saccade.neurons import NEURONS


@dataclass(frozen=True)
class NormFreeConfig(ClassifierConfig):
    T: int = 3

    def build(self):
        return NormFree(self)


class NormFree(SpikingModel):
    """Two linear layers around neurons: what two processes compute, one must too."""

    def __init__(self, config: NormFreeConfig) -> None:
        super().__init__(config, Normalise(1), (8, 8))
        self.first, self.neuron, self.second = Linear(64, 20), NEURONS["tet"].build(), Linear(20, config.num_classes)

    def step_outputs(self, x: Tensor, T: int) -> Tensor:
        return self.second(self.neuron(self.first(self.in_time(x, T).flatten(2) * 3)))


register(ModelCard("norm_free", "for tests", "test", (1, 8, 8), NormFreeConfig()))
