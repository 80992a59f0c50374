"""What moves numbers: another view of the same memory, or a copy where no strides say it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from saccade.deploy.c.layout import View, packed_strides
from saccade.deploy.c.writer import Writer, writes_c
from saccade.deploy.operations.concat import Concat
from saccade.deploy.operations.gates import Collect, Deal
from saccade.deploy.operations.mark import Mark
from saccade.deploy.operations.movement import Expand, Pad, Part, Reshape, Transpose
from saccade.deploy.operations.rows import Rows
from saccade.deploy.program import Operation


@writes_c(Transpose, Expand, Part)
def seen_otherwise(w: Writer, op: Operation) -> View:
    found = w.moved(op)
    assert found is not None
    return found


@writes_c(Reshape)
def reshape(w: Writer, op: Reshape) -> View:
    found = w.moved(op)
    if found is not None:
        return found
    (x,) = w.reads(op)
    y = w.result(range(len(op.shape)))
    as_before = View(y.buffer, y.kind, x.shape, packed_strides(x.shape))  # y in the shape of x
    body = w.over(as_before, {"x": x}, [], lambda index: [f"y[{index['y']}] = x[{index['x']}];"], x.order)
    w.function(body, {"x": x}, "row by row in another shape")
    return y


@writes_c(Pad)
def pad(w: Writer, op: Pad) -> View:
    (x,), p = w.reads(op), op.places
    y = w.result(x.order)
    lead = (slice(None),) * (len(y.shape) - 2)
    middle = y.places()[(*lead, slice(p, -p), slice(p, -p))] if p else y.places()
    inner = View(y.buffer, y.kind, x.shape, y.strides, int(np.ravel(middle)[0]))
    offset = f"{inner.offset} + " if inner.offset else ""
    body = [
        f"memset(y, 0, {int(np.prod(y.shape))} * sizeof y[0]);",
        *w.over(inner, {"x": x}, [], lambda index: [f"y[{offset}{index['y']}] = x[{index['x']}];"], x.order),
    ]
    w.function(body, {"x": x}, f"a border of {p} zeros")
    return y


@writes_c(Concat)
def concat(w: Writer, op: Concat) -> View:
    given = w.reads(op)
    y = w.result()
    body = [f"memset(y, 0, {int(np.prod(y.shape))} * sizeof y[0]);"] if op.before or op.after else []
    begin = op.before
    for i, x in enumerate(given):
        inner = View(y.buffer, y.kind, x.shape, y.strides)
        shift = f"{begin * y.strides[op.axis]} + " if begin else ""
        name = f"x{i}"

        def line(index: dict[str, str], shift: str = shift, name: str = name) -> list[str]:
            return [f"y[{shift}{index['y']}] = {name}[{index[name]}];"]

        body += w.over(inner, {name: x}, [], line, y.order)
        begin += x.shape[op.axis]
    w.function(body, {f"x{i}": x for i, x in enumerate(given)}, "one behind the other")
    return y


@writes_c(Mark)
def mark(w: Writer, op: Mark) -> View:
    (x,), y = w.reads(op), w.result()
    channels, *_ = x.shape
    inner = View(y.buffer, y.kind, x.shape, y.strides)
    plane = View(y.buffer, y.kind, x.shape[1:], y.strides[1:])
    last = channels * y.strides[0]
    body = [
        *w.over(inner, {"x": x}, [], lambda index: [f"y[{index['y']}] = x[{index['x']}];"], y.order),
        *w.over(plane, {}, [], lambda index: [f"y[{index['y']} + {last}] = {op.number};"]),
    ]
    w.function(body, {"x": x}, f"a channel of {op.number}s behind the others")
    return y


@writes_c(Collect)
def collect(w: Writer, op: Collect) -> View:
    """All steps, which have been kept."""
    (x,) = w.reads(op)
    return replace(x, shape=(op.steps, *x.shape), strides=(x.by_step, *x.strides), by_step=0)


@writes_c(Deal)
def deal(w: Writer, op: Deal) -> View:
    (x,) = w.reads(op)
    return replace(x, shape=x.shape[1:], strides=x.strides[1:], by_step=x.by_step + x.strides[0])


@writes_c(Rows)
def rows(w: Writer, op: Rows) -> View:
    (x,) = w.reads(op)
    channels, height, width = x.shape
    y = w.result()
    row = View(y.buffer, y.kind, (channels, width), packed_strides((channels, width)))
    line = View(x.buffer, x.kind, (channels, width), (x.strides[0], x.strides[2]), x.offset)
    body = w.over(row, {"x": line}, [], lambda index: [f"y[{index['y']}] = x[{x.strides[1]} * row + {index['x']}];"])
    w.function([f"const int row = step % {height};", *body], {"x": x}, "the row of the step", step=True)
    return y
