"""Sums over places and windows, and maxima of windows."""

from __future__ import annotations

from saccade.deploy.c.layout import View, at, nest, wide_type
from saccade.deploy.c.writer import Writer, cast, literal, writes_c
from saccade.deploy.operations.gates import Peak
from saccade.deploy.operations.pooling import Sum, Window


@writes_c(Sum, Peak)
def over_axes(w: Writer, op: Sum | Peak) -> View:
    (x,), y = w.reads(op), w.result_like([])
    low, high = w.ends(op)
    wide = wide_type(w.wire.low, w.wire.high, low, high)
    outer = tuple(0 if axis in op.axes else stride for axis, stride in enumerate(x.strides))
    inner = nest(
        tuple(x.shape[axis] for axis in op.axes),
        {"x": tuple(x.strides[axis] for axis in op.axes)},
        sorted(range(len(op.axes)), key=lambda i: -abs(x.strides[op.axes[i]])),
        {i: f"at{i}" for i in range(len(op.axes))},
    )
    loops = nest(y.shape, {"y": y.strides, "x": outer}, y.order)
    index = at(x.offset, " + ".join(part for part in (loops.indices["x"], inner.indices["x"]) if part != "0") or "0")
    body = [
        f"{wide} found = {0 if isinstance(op, Sum) else literal(low)};",
        *inner.around(_take("sum" if isinstance(op, Sum) else "max", f"x[{index}]")),
        f"y[{loops.indices['y']}] = {cast(y.kind, 'found', wide)};",
    ]
    what = "sums" if isinstance(op, Sum) else "maxima"
    w.function(loops.around(body), {"x": x}, f"{what} over axes " + ", ".join(map(str, op.axes)))
    return y


def _take(kind: str, value: str) -> list[str]:
    """Lines that take another value into ``found``."""
    return [f"found += {value};"] if kind == "sum" else [f"if ({value} > found) {{", f"    found = {value};", "}"]


@writes_c(Window)
def window(w: Writer, op: Window) -> View:
    (x,) = w.reads(op)
    y = w.result(x.order)
    last = len(y.shape) - 2
    (kh, kw), (sy, sx), (py, px) = op.kernel, op.stride, op.padding
    low, high = w.ends(op)
    wide = wide_type(w.wire.low, w.wire.high, low, high, op.fill)
    outer = (*x.strides[:-2], 0, 0)
    loops = nest(y.shape, {"y": y.strides, "x": outer}, y.order, {last: "row", last + 1: "column"})

    def edge(place: str, step: int, offset: str, padding: int) -> str:
        return (place if step == 1 else f"{step} * {place}") + f" + {offset}" + (f" - {padding}" if padding else "")

    index = at(x.offset, f"{x.strides[-2]} * above + {x.strides[-1]} * beside")
    if loops.indices["x"] != "0":
        index += f" + {loops.indices['x']}"
    number = f"x[{index}]"
    if py or px:
        inside = f"above >= 0 && above < {x.shape[-2]} && beside >= 0 && beside < {x.shape[-1]}"
        number = f"({inside}) ? {number} : {literal(op.fill)}"
    first = "0" if op.kind == "sum" else literal(min(low, op.fill))
    body = [
        f"{wide} found = {first};",
        f"for (int di = 0; di < {kh}; di++) {{",
        f"    for (int dj = 0; dj < {kw}; dj++) {{",
        f"        const int above = {edge('row', sy, 'di', py)};",
        f"        const int beside = {edge('column', sx, 'dj', px)};",
        f"        const {wide} value = {number};",
        *("        " + line for line in _take(op.kind, "value")),
        "    }",
        "}",
        f"y[{loops.indices['y']}] = {cast(y.kind, 'found', wide)};",
    ]
    what = "sums" if op.kind == "sum" else "maxima"
    w.function(loops.around(body), {"x": x}, f"{what} of windows {kh}x{kw}, stride {sy}x{sx}")
    return y
