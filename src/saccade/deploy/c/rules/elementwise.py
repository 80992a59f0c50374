"""Sums and products place by place, and what stands still."""

from __future__ import annotations

import math

import numpy as np

from saccade.deploy.c.layout import View, wide_type
from saccade.deploy.c.writer import Writer, cast, literal, writes_c
from saccade.deploy.operations.combine import Combine
from saccade.deploy.operations.gates import END, ENTRIES, POINT, SIGMOID_BITS, Relu, Sigmoid, sigmoid_table
from saccade.deploy.operations.hold import Hold
from saccade.deploy.operations.product import Multiply


@writes_c(Combine)
def combine(w: Writer, op: Combine) -> View:
    given = w.reads(op)
    y = w.result_like(given)
    names = [f"x{i}" for i in range(len(given))]
    factors = [w.parameter(f"factor{i}", factor, y.shape, f"of input {i}") for i, factor in enumerate(op.factors)]
    offset = w.parameter("offset", op.offset, y.shape, "added")
    half = (1 << op.after) >> 1
    sizes = [int(np.abs(op.offset).max()) + half]
    for i, (factor, before) in enumerate(zip(op.factors, op.before, strict=True)):
        most = max(abs(end) for end in w.ends(op, i)) + ((1 << before) >> 1)
        sizes += [int(np.abs(factor).max()) * ((most >> before) + 1), most]
    wide = wide_type(-sum(sizes), min(sum(sizes), 2**63 - 1)) if sum(sizes) < 2**31 else "int64_t"
    wider = f"({wide})" if wide == "int64_t" else ""

    def body(index: dict[str, str]) -> list[str]:
        parts = []
        for name, factor, before in zip(names, factors, op.before, strict=True):
            number = f"{wider}{name}[{index[name]}]"
            if before:
                number = f"(({number} + {literal((1 << before) >> 1)}) >> {before})"
            parts.append(number if factor.text == "1" else f"{number} * {factor.at(index)}")
        if offset.text != "0":
            parts.append(offset.at(index))
        total = " + ".join(parts)
        if op.after:
            total = f"({total} + {literal(half)}) >> {op.after}"
        return [f"y[{index['y']}] = {cast(y.kind, total, wide)};"]

    reads = dict(zip(names, given, strict=True))
    w.function(w.over(y, reads, [*factors, offset], body), reads, f"sums of {len(given)} with factors")
    return y


@writes_c(Multiply)
def multiply(w: Writer, op: Multiply) -> View:
    a, b = w.reads(op)
    y = w.result_like([a, b])
    most = [max(abs(end) for end in w.ends(op, i)) for i in (0, 1)]
    wide = wide_type(-most[0] * most[1], most[0] * most[1])
    wider = "(int64_t)" if wide == "int64_t" else ""

    def body(index: dict[str, str]) -> list[str]:
        product = f"{wider}a[{index['a']}] * b[{index['b']}]"
        return [f"y[{index['y']}] = {cast(y.kind, product, wide)};"]

    w.function(w.over(y, {"a": a, "b": b}, [], body), {"a": a, "b": b}, "products")
    return y


@writes_c(Relu)
def relu(w: Writer, op: Relu) -> View:
    (x,) = w.reads(op)
    y = w.result_like([x])

    def body(index: dict[str, str]) -> list[str]:
        value = f"x[{index['x']}]"
        return [f"y[{index['y']}] = {cast(y.kind, f'{value} > 0 ? {value} : 0')};"]

    w.function(w.over(y, {"x": x}, [], body), {"x": x}, "what is above 0")
    return y


@writes_c(Sigmoid)
def sigmoid(w: Writer, op: Sigmoid) -> View:
    (x,), (low, high) = w.reads(op), w.ends(op)
    y, wide = w.result_like([x]), wide_type(-max(-low, high), max(-low, high))
    entries = sigmoid_table()
    table = w.shared("sigmoid", entries, f"2^{SIGMOID_BITS} / (1 + exp(-x)) at {ENTRIES} steps of x from 0 to {END}")
    piece = POINT - int(math.log2(ENTRIES // END))
    steepest = int(np.abs(np.diff(entries)).max()) << piece
    assert steepest < 1 << 31, "a line between two entries is computed in 32 bits"

    def body(index: dict[str, str]) -> list[str]:
        return [
            f"const {wide} value = x[{index['x']}];",
            f"const {wide} wide_size = value < 0 ? -value : value;",
            f"const int32_t size = wide_size < {END << POINT} ? (int32_t)wide_size : {(END << POINT) - 1};",
            f"const int32_t left = {table}[size >> {piece}];",
            f"const int32_t rise = {table}[(size >> {piece}) + 1] - left;",
            f"const int32_t found = left + ((rise * (size & {(1 << piece) - 1}) + {1 << (piece - 1)}) >> {piece});",
            f"y[{index['y']}] = value < 0 ? {1 << SIGMOID_BITS} - found : found;",
        ]

    w.function(w.over(y, {"x": x}, [], body), {"x": x}, "sigmoids by lines between entries of a table")
    return y


@writes_c(Hold)
def hold(w: Writer, op: Hold) -> View:
    """What stands still is read again in every step."""
    (x,) = w.reads(op)
    return x
