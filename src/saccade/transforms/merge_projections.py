"""Re-parametrised convolutions merged into the dense ones that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from saccade.layers import weighted_layers
from saccade.layers.repconv import RepConv
from saccade.transforms.base import TRANSFORMS, Change, Transform, matching, replace_module
from saccade.transforms.fold_norms import refuse_folded


@dataclass(frozen=True)
class MergeProjectionsConfig(Transform):
    """Make each ``RepConv`` the one 3x3 convolution that it is in eval mode, borders included, which reads spikes alone.

    4.5 times the weights for as many outputs as inputs. The convolution goes on learning, as one. merge: paths or patterns.
    One-way. Source: Yao et al. (2024), Spike-driven Transformer V2.
    """

    merge: tuple[str, ...] = ("*",)

    def apply(self, model: nn.Module) -> Change:
        """Raises ValueError, with the model untouched, for a path that is no ``RepConv``, folded norms, or factors with a
        weight form, whose levels what they merge into would leave.
        """
        refuse_folded(model, "merging")
        found = {path: module for path, module in model.named_modules() if isinstance(module, RepConv)}
        if not found:
            raise ValueError(f"{type(model).__name__} has no re-parametrised convolutions to merge")
        paths = matching(found, self.merge, "merge: among the re-parametrised convolutions")
        for path in paths:
            for name, layer in weighted_layers(found[path]).items():
                if layer.form is not None:
                    raise ValueError(
                        f"{path}.{name} has a weight form ({type(layer.form).__name__}), whose levels merged weights would "
                        "leave: merge first, then quantize"
                    )
        for path in paths:
            replace_module(model, path, found[path].merged().train(found[path].training))
        return Change(MergeProjectionsConfig(paths), paths, tuple(path for path in found if path not in paths))


TRANSFORMS.register("merge_projections", MergeProjectionsConfig())
