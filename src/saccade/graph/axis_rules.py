"""What operations do to axes: which axes of their results are which axes of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from saccade.graph.graph import Node, Value
from saccade.graph.slots import Axis, Slots


class Axes(dict[Value, list[Axis]]):
    """The axes of each value; of one that was not met before, new ones.

    reduced: operations that run over an axis and drop it, with the axis. constants: the values that nothing made, met so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots()
        self.reduced: list[tuple[Node, Axis]] = []
        self.constants: list[Value] = []

    def __missing__(self, value: Value) -> list[Axis]:
        self[value] = axes = [self.slots.fresh(size) for size in value.shape]
        if value.constant:
            self.constants.append(value)
        return axes

    def keep(self, node: Node, value: Value, axes: Sequence[Axis]) -> None:
        """Say what the axes of a result are."""
        assert len(axes) == len(value.shape), f"{node}: {len(axes)} axes for {value.shape}"
        if value in self:  # handed through
            for old, new in zip(self[value], axes, strict=True):
                self.slots.tie(old, new, str(node))
        else:
            self[value] = list(axes)

    def fix_all(self, node: Node, reason: str) -> None:
        """Nothing is known: every axis of what goes in and of what comes out keeps its length."""
        for value in (*node.inputs, *node.outputs):
            for axis in self[value]:
                self.slots.fix(axis, reason)


AxisRule = Callable[[Axes, Node], None]
AXIS_RULES: dict[str, AxisRule] = {}


def _rule(*names: str) -> Callable[[AxisRule], AxisRule]:
    def register(rule: AxisRule) -> AxisRule:
        AXIS_RULES.update(dict.fromkeys(names, rule))
        return rule

    return register


def apply_rule(axes: Axes, node: Node) -> None:
    """Tie the axes of an operation's inputs and outputs; of an operation that is not known, fix all of them."""
    rule = AXIS_RULES.get(node.op)
    if rule is None:
        axes.fix_all(node, f"what {node} does to its axes is not known")
    else:
        rule(axes, node)


def _dim(node: Node, position: int, rank: int, name: str = "dim", default: int = 0) -> int:
    return int(node.argument(position, name, default)) % max(rank, 1)


def _dims(node: Node, position: int, rank: int) -> set[int]:
    """Axes that a reduction runs over: all, if none are named."""
    dims = node.argument(position, "dim")
    if dims is None or dims == []:
        return set(range(rank))
    return {dim % max(rank, 1) for dim in ([dims] if isinstance(dims, int) else dims)}


@_rule(
    *"add sub rsub mul div neg relu clamp clamp_min clamp_max hardtanh maximum minimum heaviside _prelu_kernel lerp".split(),
    *"logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor bitwise_not".split(),
    *"ge gt le lt eq ne isnan isfinite isinf where masked_fill addcmul addcdiv copy fill zero".split(),
    *"sigmoid tanh exp expm1 log log1p sqrt rsqrt reciprocal pow sin cos erf abs sign round floor ceil trunc".split(),
    *"gelu silu elu softplus leaky_relu hardsigmoid hardswish mish remainder fmod floor_divide square atan2".split(),
    *"_softmax _safe_softmax _log_softmax native_dropout bernoulli rand_like randn_like zeros_like ones_like".split(),
    *"full_like empty_like clone detach alias lift_fresh _to_copy saccade::lif".split(),
)
def elementwise(axes: Axes, node: Node) -> None:
    """Axes of broadcast operands are one, from the last backwards; so are those that a softmax runs along."""
    for output in node.outputs:
        result: list[Axis] = []
        for i, size in enumerate(output.shape):
            back = i - len(output.shape)
            same = [axes[v][back] for v in node.inputs if len(v.shape) >= -back and v.shape[back] == size]
            for other in same[1:]:
                axes.slots.tie(same[0], other, str(node))
            result.append(same[0] if same and size != 1 else axes.slots.fresh(size))
        axes.keep(node, output, result)


@_rule("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze")
def view(axes: Axes, node: Node) -> None:
    axes.keep(node, node.output, axes.slots.regroup(axes[node.inputs[0]], node.output.shape, str(node)))


@_rule("expand", "repeat")
def expand(axes: Axes, node: Node) -> None:
    """Axes that are repeated are new."""
    x, y = node.inputs[0], node.output
    result = []
    for i, size in enumerate(y.shape):
        back = i - len(y.shape)
        kept = len(x.shape) >= -back and x.shape[back] == size
        if not kept and len(x.shape) >= -back:
            axes.slots.fix(axes[x][back], f"repeated by {node}")
        result.append(axes[x][back] if kept else axes.slots.fresh(size))
    if x.live and len(result) > 1 and y.shape[0] != x.shape[0]:
        axes.slots.fix(result[0], f"repeated by {node}")  # steps or samples; other axes may grow to what they meet
    axes.keep(node, y, result)


@_rule("permute")
def permute(axes: Axes, node: Node) -> None:
    x = axes[node.inputs[0]]
    axes.keep(node, node.output, [x[dim] for dim in node.argument(1, "dims")])


@_rule("transpose", "t")
def transpose(axes: Axes, node: Node) -> None:
    x = list(axes[node.inputs[0]])
    if len(x) >= 2:
        a, b = (0, 1) if node.op == "t" else (int(node.argument(1, "dim0")), int(node.argument(2, "dim1")))
        x[a], x[b] = x[b], x[a]
    axes.keep(node, node.output, x)


@_rule(*"sum mean amax amin max min argmax argmin prod any all var std var_mean logsumexp linalg_vector_norm".split())
def reduction(axes: Axes, node: Node) -> None:
    x = node.inputs[0]
    if len(node.inputs) > 1:
        return elementwise(axes, node)  # the maximum of two tensors
    dims = _dims(node, 2 if node.op == "linalg_vector_norm" else 1, len(x.shape))
    for output in node.outputs:
        keepdim = len(output.shape) == len(x.shape)
        result: list[Axis] = []
        for i, axis in enumerate(axes[x]):
            if i not in dims:
                result.append(axis)
            elif keepdim:
                result.append(())
        axes.keep(node, output, result)
    axes.reduced += [(node, axes[x][i]) for i in sorted(dims) if i < len(x.shape)]
    return None


def _along(axes: Axes, node: Node, x: Value, dim: int, what: str) -> None:
    """One axis is changed, and keeps its length; the others are as they were."""
    reason = f"{what} {node}"
    axes.slots.fix(axes[x][dim], reason)
    for output in node.outputs:
        result = list(axes[x])
        if len(output.shape) < len(result):
            del result[dim]
        else:
            result[dim] = axes.slots.fresh(output.shape[dim])
            axes.slots.fix(result[dim], reason)
        axes.keep(node, output, result)


@_rule("slice")
def slice_(axes: Axes, node: Node) -> None:
    x, dim = node.inputs[0], _dim(node, 1, len(node.output.shape))
    if x.shape == node.output.shape and node.argument(4, "step", 1) == 1:
        axes.keep(node, node.output, axes[x])
    else:
        _along(axes, node, x, dim, "cut by")


SPLITS = ("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes")


@_rule(*"select unbind index_select cumsum cumprod gather index_copy index_fill".split(), *SPLITS)
def along(axes: Axes, node: Node) -> None:
    """Operations on one axis, the first argument after the tensor, or (splits) the one after that."""
    x = node.inputs[0]
    position = 2 if node.op in SPLITS else 1
    dim = _dim(node, position, len(x.shape))
    kept = [s for i, s in enumerate(node.output.shape) if i != dim] == [s for i, s in enumerate(x.shape) if i != dim]
    if node.op == "gather" and not kept:
        axes.fix_all(node, f"read in places by {node}")
    else:
        _along(axes, node, x, dim, "read in places by" if "cum" not in node.op else "summed up along by")


@_rule("sort", "topk")
def ordered(axes: Axes, node: Node) -> None:
    position = 1 if node.op == "sort" else 2
    x = node.inputs[0]
    _along(axes, node, x, _dim(node, position, len(x.shape), default=-1), "ordered by")


@_rule("flip", "roll", "_fft_r2c", "_fft_c2r", "_fft_c2c")
def reordered(axes: Axes, node: Node) -> None:
    """Axes whose places are exchanged or mixed."""
    x = node.inputs[0]
    dims = _dims(node, 2 if node.op == "roll" else 1, len(x.shape))
    result = list(axes[x])
    for dim in dims:
        axes.slots.fix(result[dim], f"reordered by {node}")
        if node.output.shape[dim] != x.shape[dim]:
            result[dim] = axes.slots.fresh(node.output.shape[dim])
            axes.slots.fix(result[dim], f"reordered by {node}")
    axes.keep(node, node.output, result)


@_rule("cat", "stack")
def cat(axes: Axes, node: Node) -> None:
    y, rank = node.output, len(node.output.shape)
    dim = _dim(node, 1, rank)
    reason = f"{node.op} over it in {node.path or 'the model'}"
    result: list[Axis | None] = [None] * rank
    for x in (v for v in node.inputs if len(v.shape) == rank - (node.op == "stack")):
        own: list[Axis | None] = list(axes[x])
        if node.op == "stack":
            own.insert(dim, None)
        elif axes[x]:
            axes.slots.fix(axes[x][dim], reason)
        for i, axis in enumerate(own):
            if i == dim or axis is None:
                continue
            known = result[i]
            if known is not None:
                axes.slots.tie(known, axis, str(node))
            result[i] = axis
    made = axes.slots.fresh(y.shape[dim])
    axes.slots.fix(made, reason)
    result[dim] = made
    axes.keep(node, y, [axes.slots.fresh(size) if a is None else a for a, size in zip(result, y.shape, strict=True)])


@_rule("constant_pad_nd", "reflection_pad2d", "replication_pad2d", "reflection_pad1d", "replication_pad1d", "im2col")
def changed(axes: Axes, node: Node) -> None:
    """Axes that are longer or shorter afterwards keep their length; the others are as they were."""
    x, y = node.inputs[0], node.output
    if len(x.shape) != len(y.shape) or node.op == "im2col":
        return axes.fix_all(node, f"rearranged by {node}")
    result = []
    for axis, before, after in zip(axes[x], x.shape, y.shape, strict=True):
        if before != after:
            axes.slots.fix(axis, f"padded by {node}")
            axis = axes.slots.fresh(after)
            axes.slots.fix(axis, f"padded by {node}")
        result.append(axis)
    axes.keep(node, y, result)
    return None


def _spatial(count: int) -> AxisRule:
    def rule(axes: Axes, node: Node) -> None:
        """Samples and channels pass; the last axes are new."""
        x = axes[node.inputs[0]]
        lead = len(x) - count
        for output in node.outputs:
            axes.keep(node, output, [*x[:lead], *(axes.slots.fresh(size) for size in output.shape[lead:])])

    return rule


for _count, _names in {
    1: "avg_pool1d upsample_nearest1d upsample_linear1d",
    2: "max_pool2d_with_indices avg_pool2d adaptive_max_pool2d _adaptive_avg_pool2d upsample_nearest2d "
    "upsample_bilinear2d upsample_bicubic2d grid_sampler_2d",
    3: "max_pool3d_with_indices avg_pool3d adaptive_max_pool3d _adaptive_avg_pool3d upsample_nearest3d",
}.items():
    _rule(*_names.split())(_spatial(_count))


@_rule("mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot")
def matmul(axes: Axes, node: Node) -> None:
    """Batch axes and the axis that is summed over are one."""
    *bias, a, b = node.inputs[-2:] if node.op in ("mm", "bmm", "mv", "dot") else node.inputs[:3]
    left, right = axes[a], axes[b]
    axes.slots.tie(left[-1], right[-2] if len(right) > 1 else right[0], str(node))
    axes.reduced.append((node, left[-1]))
    for i in range(len(left) - 2 if len(right) == 3 else 0):
        axes.slots.tie(left[i], right[i], str(node))
    result = [*left[:-1], *(right[-1:] if len(right) > 1 else [])]
    for x in bias:
        for i in range(1, len(x.shape) + 1):
            if i <= len(result) and x.shape[-i] == node.output.shape[-i]:
                axes.slots.tie(result[-i], axes[x][-i], str(node))
    axes.keep(node, node.output, result)


@_rule("convolution")
def convolution(axes: Axes, node: Node) -> None:
    """Of a weight that no layer owns."""
    x, weight = axes[node.inputs[0]], axes[node.inputs[1]]
    kernel = len(weight) - 2
    transposed, groups = node.argument(6, "transposed"), node.argument(8, "groups")
    if groups != 1 or len(x) != kernel + 2:
        return axes.fix_all(node, f"read in groups by {node}")
    source, made = (weight[0], weight[1]) if transposed else (weight[1], weight[0])
    axes.slots.tie(x[1], source, str(node))
    if len(node.inputs) > 2:
        axes.slots.tie(made, axes[node.inputs[2]][0], str(node))
    axes.keep(node, node.output, [x[0], made, *(axes.slots.fresh(size) for size in node.output.shape[2:])])
    return None


@_rule(*"native_batch_norm cudnn_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training".split())
def batch_norm(axes: Axes, node: Node) -> None:
    x = axes[node.inputs[0]]
    for other in node.inputs[1:]:
        axes.slots.tie(x[1], axes[other][0], str(node))
    axes.keep(node, node.output, x)


@_rule("native_layer_norm", "native_group_norm")
def layer_norm(axes: Axes, node: Node) -> None:
    x = axes[node.inputs[0]]
    count = len(node.argument(1, "normalized_shape")) if node.op == "native_layer_norm" else len(x) - 1
    for axis in x[-count:]:
        axes.slots.fix(axis, f"normalised together by {node}")
    axes.keep(node, node.output, x)


@_rule(
    "_scaled_dot_product_flash_attention_for_cpu",
    "_scaled_dot_product_flash_attention",
    "_scaled_dot_product_efficient_attention",
    "_scaled_dot_product_cudnn_attention",
    "_scaled_dot_product_fused_attention_overrideable",
)
def attention(axes: Axes, node: Node) -> None:
    q, k, v = (axes[x] for x in node.inputs[:3])
    axes.slots.tie(q[-1], k[-1], str(node))
    axes.slots.tie(k[-2], v[-2], str(node))
    for a, b, c in zip(q[:-2], k[:-2], v[:-2], strict=True):
        axes.slots.tie(a, b, str(node))
        axes.slots.tie(a, c, str(node))
    axes.keep(node, node.output, [*q[:-1], v[-1]])


@_rule("index", "index_put", "_unsafe_index", "_unsafe_index_put")
def index(axes: Axes, node: Node) -> None:
    """One axis read or written in places; the others are as they were. More than one at once: all are fixed."""
    x = node.args[0]
    where: list[Any] = [i for i, one in enumerate(node.argument(1, "indices")) if one is not None]
    if len(where) != 1:
        return axes.fix_all(node, f"read in places by {node}")
    (dim,), indices = where, node.argument(1, "indices")
    if indices[dim].dtype == torch.bool:
        return axes.fix_all(node, f"read in places by {node}")
    rank = len(indices[dim].shape)
    axes.slots.fix(axes[x][dim], f"read in places by {node}")
    before, after = axes[x][:dim], axes[x][dim + 1 :]
    if "put" in node.op:
        values = axes[node.args[2]]
        for i in range(1, min(len(after), len(values)) + 1):
            if values[-i]:
                axes.slots.tie(after[-i], values[-i], str(node))
        axes.keep(node, node.output, axes[x])
    else:
        made = [axes.slots.fresh(size) for size in node.output.shape[dim : dim + rank]]
        for axis in made:
            axes.slots.fix(axis, f"read in places by {node}")
        axes.keep(node, node.output, [*before, *made, *after])
    return None


@_rule("embedding")
def embedding(axes: Axes, node: Node) -> None:
    table, places = node.inputs[0], node.inputs[1]
    axes.slots.fix(axes[table][0], f"read in places by {node}")
    axes.keep(node, node.output, [*axes[places], axes[table][1]])


@_rule("written")
def written(axes: Axes, node: Node) -> None:
    """The tensor after a part of it was written: the part was tied to it when it was taken."""
    axes.keep(node, node.output, axes[node.inputs[0]])


@_rule(
    *"zeros ones full empty empty_strided scalar_tensor new_zeros new_ones new_full new_empty arange rand randn".split()
)
def made(axes: Axes, node: Node) -> None:
    """New axes, as long as what they meet."""


@_rule("_local_scalar_dense", "equal")
def nothing(axes: Axes, node: Node) -> None:
    """No tensor comes out."""
