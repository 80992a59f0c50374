"""Convolutions and matrix products: a number that is not 0 adds a row of weights to a row of sums."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from saccade.deploy.c.layout import Strides, View, at, bytes_of, narrow, nest, wide_type
from saccade.deploy.c.writer import Writer, cast, writes_c
from saccade.deploy.operations.product import MatMul
from saccade.deploy.operations.synapse import Synapse
from saccade.deploy.values import Integers

PACKED_BITS = (1, 2, 4)


@dataclass(frozen=True)
class Rows:
    """Weights ``[rows, outputs]``: as they are, or codes of 1, 2 or 4 bits, the first in the lowest bits of a byte, a row in
    whole bytes, where a weight is ``first + step * code``."""

    name: str
    kind: str
    length: int  # of a row, in elements of the table
    bits: int = 0
    first: int = 0
    step: int = 1

    def added(self, count: int, value: str, sums: str, wide: str) -> list[str]:
        """Lines that add the row at ``weights`` times ``value`` (which may depend on the output ``o``; "": 1) to ``at``, whose
        numbers are of type ``sums`` and are computed in ``wide``."""
        if not self.bits:
            number = "weights[o]" if wide == "int32_t" else f"({wide})weights[o]"
            total = f"at[o] + {number} * {value}" if value else f"at[o] + {number}"
            return [f"for (int o = 0; o < {count}; o++) {{", f"    at[o] = {cast(sums, total, wide)};", "}"]
        per, mask = 8 // self.bits, (1 << self.bits) - 1

        def number_at(place: int, o: str) -> str:
            times = re.sub(r"\bo\b", o, value)
            sign, first = "-" if self.first < 0 else "+", [str(abs(self.first)), times]
            before = f"at[{o}] {sign} {_product(*first)}" if self.first else f"at[{o}]"
            code = f"((codes >> {self.bits * place}) & {mask})" if place else f"(codes & {mask})"
            return f"at[{o}] = {cast(sums, f'{before} + {_product(str(self.step), times, code)}', wide)};"

        whole, rest = count - count % per, range(count % per)
        found = []
        if whole:
            lines = [f"    {number_at(place, f'o + {place}' if place else 'o')}" for place in range(per)]
            head = [f"for (int o = 0; o < {whole}; o += {per}) {{", f"    const int codes = weights[o / {per}];"]
            found = [*head, *lines, "}"]
        if rest:
            found.append(f"const int codes = weights[{whole // per}];")
            found += [number_at(place, str(whole + place)) for place in rest]
        return found


def _product(*factors: str) -> str:
    return " * ".join(factor for factor in factors if factor not in ("", "1")) or "1"


def rows(w: Writer, weight: Integers) -> Rows:
    """A table of ``weight [..., rows, outputs]`` in as few bits as hold it."""
    values = np.unique(weight)
    first = int(values[0])
    step = int(np.gcd.reduce(values - first)) or 1
    codes = (weight - first) // step
    bits = next((bits for bits in PACKED_BITS if codes.max() < 1 << bits), 0)
    outputs = weight.shape[-1]
    if not bits or outputs * bits < 8:
        name = w.table("weights", weight, "weights")
        return Rows(name, narrow(weight), outputs)
    per = 8 // bits
    length = -(-outputs // per)
    padded = np.zeros((*weight.shape[:-1], length * per), np.int64)
    padded[..., :outputs] = codes
    shifts = bits * np.arange(per)
    packed = (padded.reshape(*weight.shape[:-1], length, per) << shifts).sum(-1)
    name = w.table("weights", packed, f"weights {first} + {step} * code, codes of {bits} bits", "uint8_t")
    return Rows(name, "uint8_t", length, bits, first, step)


def _reading(x: View, stride: int, ends: tuple[int, int], wide: str, count: int) -> tuple[list[str], str, list[str]]:
    """The loop over inputs ``c``, up to where one that is not 0 is at hand: head, its name ("": it is 1), lines behind."""
    index = "c" if stride == 1 else f"{stride} * c"
    kind = wide if bytes_of(x.kind) < 8 else "int64_t"
    four = stride == 1 and x.kind == "uint8_t" and count % 4 == 0
    if four:
        lines = [
            f"for (int four = 0; four < {count}; four += 4) {{",
            "    if (!any_of_four(from + four)) {",
            "        continue;",
            "    }",
            "    for (int c = four; c < four + 4; c++) {",
        ]
        inner, closing = "        ", ["    }", "}"]
    else:
        lines, inner, closing = [f"for (int c = 0; c < {count}; c++) {{"], "    ", ["}"]
    if ends == (0, 1):
        return [*lines, f"{inner}if (!from[{index}]) {{", f"{inner}    continue;", f"{inner}}}"], "", closing
    return (
        [
            *lines,
            f"{inner}const {kind} value = from[{index}];",
            f"{inner}if (value == 0) {{",
            f"{inner}    continue;",
            f"{inner}}}",
        ],
        "value",
        closing,
    )


def _group(
    x: View, stride: int, ends: tuple[int, int], table: Rows, y: View, wide: str, sizes: tuple[int, int]
) -> list[str]:
    """Lines that add to ``at [outputs]`` what the inputs ``from`` of a group give."""
    inputs, outputs = sizes
    head, value, closing = _reading(x, stride, ends, wide, inputs)
    depth = "    " * len(closing)
    row = f"const {table.kind} *weights = rows + {table.length} * c;"
    added = table.added(outputs, value, y.kind, wide)
    return [*head, depth + row, *(depth + line for line in added), *closing]


def _wide(w: Writer, op: Synapse) -> str:
    low, high = w.ends(op)
    most = int(np.abs(op.weight).max(initial=0)) * max(abs(low), abs(high))
    return wide_type(w.wire.low - most, w.wire.high + most, low, high)


@writes_c(Synapse)
def synapse(w: Writer, op: Synapse) -> View:
    return _linear(w, op) if op.weight.ndim == 2 else _convolution(w, op)


def _linear(w: Writer, op: Synapse) -> View:
    (x,), shape = w.reads(op), w.wire.shape
    outputs, inputs = op.weight.shape
    y = w.result(range(len(shape)))
    table = rows(w, op.weight.T)
    wide, lead = _wide(w, op), {"y": y.strides[:-1], "x": x.strides[:-1]}
    loops = nest(shape[:-1], lead, range(len(shape) - 1))
    body = [
        f"const {x.kind} *from = x + {at(x.offset, loops.indices['x'])};",
        f"const {table.kind} *rows = {table.name};",
        f"{y.kind} *at = y + {loops.indices['y']};",
        f"memset(at, 0, {outputs} * sizeof at[0]);",
        *_group(x, x.strides[-1], w.ends(op), table, y, wide, (inputs, outputs)),
    ]
    w.function(loops.around(body), {"x": x}, f"{inputs} inputs to {outputs}")
    return y


def _convolution(w: Writer, op: Synapse) -> View:
    (x,), (outputs, height, width) = w.reads(op), w.wire.shape
    (_, rows_in, columns_in), (_, per_group, kh, kw) = x.shape, op.weight.shape
    y = w.result()
    (sy, sx), (py, px), (dy, dx), groups = op.stride, op.padding, op.dilation, op.groups
    wide, each = _wide(w, op), outputs // groups
    depthwise = per_group == each == 1
    # [kh, kw, group, input, output], of a depthwise one [kh, kw, 1, 1, channel]
    weight = op.weight.reshape(groups, each, per_group, kh, kw).transpose(3, 4, 0, 2, 1)
    if depthwise:
        weight = weight.reshape(kh, kw, 1, 1, groups)
    table = rows(w, weight)
    if depthwise:
        index = "o" if x.strides[0] == 1 else f"{x.strides[0]} * (o)"
        factor = f"({wide})from[{index}]" if wide == "int64_t" else f"from[{index}]"
        inside = [
            f"const {table.kind} *weights = {table.name} + {table.length} * ({kw} * i + j);",
            *table.added(outputs, factor, y.kind, wide),
        ]
    else:
        inside = [
            f"const {table.kind} *rows = {table.name} + {table.length * per_group * groups} * ({kw} * i + j);",
            *_group(x, x.strides[0], w.ends(op), table, y, wide, (per_group, each)),
        ]
        if groups > 1:
            inside = [
                inside[0],
                f"for (int group = 0; group < {groups}; group++) {{",
                *("    " + line for line in inside[1:]),
                f"    from += {x.strides[0] * per_group};",
                f"    rows += {table.length * per_group};",
                f"    at += {each};",
                "}",
                f"at -= {outputs};",
            ]
    places = zip(x.strides[1:], ("above", "beside"), strict=True)
    scaled = " + ".join(line if step == 1 else f"{step} * {line}" for step, line in places)
    down = _taps("i", kh, "above = " + _where("row", sy, "i", dy, py), rows_in if py else 0)
    across = _taps("j", kw, "beside = " + _where("column", sx, "j", dx, px), columns_in if px else 0)
    body = [
        f"for (int row = 0; row < {height}; row++) {{",
        f"    for (int column = 0; column < {width}; column++) {{",
        f"        {y.kind} *at = y + {outputs} * ({width} * row + column);",
        f"        memset(at, 0, {outputs} * sizeof at[0]);",
        *("        " + text for text in down),
        *("            " + text for text in across),
        f"                const {x.kind} *from = x + {at(x.offset, scaled)};",
        *("                " + text for text in inside),
        "            }",
        "        }",
        "    }",
        "}",
    ]
    says = f"{kh}x{kw}, stride {sy}x{sx}, {x.shape[0]} channels to {outputs}" + (
        f", {groups} groups" if groups > 1 else ""
    )
    w.function(body, {"x": x}, says)
    return y


def _where(place: str, step: int, tap: str, dilation: int, padding: int) -> str:
    """Which line of the input a tap reads."""
    line = place if step == 1 else f"{step} * {place}"
    line += f" + {tap}" if dilation == 1 else f" + {dilation} * {tap}"
    return f"{line} - {padding}" if padding else line


def _taps(variable: str, count: int, line: str, limit: int) -> list[str]:
    """The head of a loop over taps, which leaves out those on the border; limit: lines of the input, 0 without a border."""
    found = [f"for (int {variable} = 0; {variable} < {count}; {variable}++) {{", f"    const int {line};"]
    name = line.split()[0]
    return found + ([f"    if ({name} < 0 || {name} >= {limit}) {{", "        continue;", "    }"] if limit else [])


@writes_c(MatMul)
def matmul(w: Writer, op: MatMul) -> View:
    a, b = w.reads(op)
    shape = w.wire.shape
    inner, columns = a.shape[-1], shape[-1]
    y = w.result(range(len(shape)))
    low, high = (max(abs(end) for end in w.ends(op, i)) for i in (0, 1))
    wide = wide_type(w.wire.low, w.wire.high, -low * high, low * high)

    def leading(view: View) -> Strides:
        """Of the axes in front of the matrices, which are repeated where one operand has them of size 1."""
        return View(0, "", view.shape[:-2], view.strides[:-2]).spread(shape[:-2]).strides

    operands = {"a": (*leading(a), a.strides[-2]), "b": (*leading(b), 0), "y": y.strides[:-1]}
    loops = nest(shape[:-1], operands, range(len(shape) - 1))
    kind = wide if bytes_of(a.kind) < 8 else "int64_t"
    column = "o" if b.strides[-1] == 1 else f"{b.strides[-1]} * o"
    row = "k" if a.strides[-1] == 1 else f"{a.strides[-1]} * k"
    body = [
        f"const {a.kind} *left = a + {at(a.offset, loops.indices['a'])};",
        f"const {b.kind} *right = b + {at(b.offset, loops.indices['b'])};",
        f"{y.kind} *at = y + {loops.indices['y']};",
        f"memset(at, 0, {columns} * sizeof at[0]);",
        f"for (int k = 0; k < {inner}; k++, right += {b.strides[-2]}) {{",
        f"    const {kind} value = left[{row}];",
        "    if (value == 0) {",
        "        continue;",
        "    }",
        f"    for (int o = 0; o < {columns}; o++) {{",
        f"        at[o] = {cast(y.kind, f'at[o] + value * right[{column}]', wide)};",
        "    }",
        "}",
    ]
    w.function(loops.around(body), {"a": a, "b": b}, f"{inner} terms a sum")
    return y
