"""AutoAugment and RandAugment of kornia, with a draw for each sample.

Called on a batch, kornia draws one sub-policy for all of it (only magnitudes and odds differ between samples). Here
every sub-policy is a kornia policy of its own, and the samples that drew it go through it together.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def auto_augment() -> Callable[[Tensor], Tensor]:
    """AutoAugment (Cubuk et al. 2019), CIFAR-10 policy: each sample goes through one of its 25 sub-policies.

    Takes and returns float [n, 3, H, W] in [0, 1].
    """
    from kornia.augmentation.auto import AutoAugment
    from kornia.augmentation.auto.autoaugment.autoaugment import cifar10_policy

    policies = [AutoAugment([sub_policy]) for sub_policy in cifar10_policy]

    def augment(x: Tensor) -> Tensor:
        return _apply_each(policies, torch.randint(0, len(policies), (len(x),)), x)

    return augment


def rand_augment(operations: int = 2, magnitude: int = 10) -> Callable[[Tensor], Tensor]:
    """RandAugment (Cubuk et al. 2020): each sample goes through `operations` distinct ones, at `magnitude` of 30.

    Takes and returns float [n, 3, H, W] in [0, 1].
    """
    from kornia.augmentation.auto import RandAugment
    from kornia.augmentation.auto.rand_augment.rand_augment import default_policy

    policies = [RandAugment(1, magnitude, [operation]) for operation in default_policy]

    def augment(x: Tensor) -> Tensor:
        drawn = torch.rand(len(x), len(policies)).argsort(1)[:, :operations]  # without replacement
        for choice in drawn.unbind(1):
            x = _apply_each(policies, choice, x)
        return x

    return augment


def _apply_each(policies: list, choice: Tensor, x: Tensor) -> Tensor:
    """Sample i of x through policies[choice[i]], choice int64 [n] on the CPU."""
    result = torch.empty_like(x)
    for number, policy in enumerate(policies):
        chosen = (choice == number).nonzero().flatten().to(x.device)
        if len(chosen):
            result[chosen] = policy(x[chosen]).to(x.dtype)
    return result.clamp_(0, 1)
