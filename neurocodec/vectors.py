"""Loops over vectors of float32, for compiled functions: what numba's compiler does not find.
All arrays are contiguous, and what runs along them is a multiple of ``LANES``.

``product(a, panels(b), out)`` writes (M, K) times (K, N) to (M, N), without the copies that a
library makes of both, which take a third of the time where one has few columns. A number is the sum
over k = 0, 1, ... in this order, each product rounded alone or not at all, as the processor does it
best, but in the same way whatever M and N are.

``combined(matrix)`` and ``falling(both)`` make functions of runs of numbers, see there.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from .compiled import compiled

LANES = 8  # of a vector; where processors have shorter ones, it is two of them
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_WORDS = ir.VectorType(ir.IntType(32), LANES)
_ZEROS = ir.Constant(_VECTOR, [0.0] * LANES)
_PLACE = ir.IntType(64)
_FREE = ("contract", "nsz")  # of a product and a sum: they may be one operation


def panels(b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(..., K, N), each rearranged: of 16 columns after the other, of what is left 8, each (K, 16)
    or (K, 8), so that a product reads them one after the other. Of the same shape."""
    inner, width = b.shape[-2:]
    whole = width - width % (2 * LANES)
    out = np.empty((*b.shape[:-2], inner * width), np.float32)
    first = b[..., :whole].reshape(*b.shape[:-1], whole // (2 * LANES), 2 * LANES)
    to = out[..., : inner * whole].reshape(*first.swapaxes(-2, -3).shape)
    to[:] = first.swapaxes(-2, -3)
    out[..., inner * whole :] = b[..., whole:].reshape(*b.shape[:-2], inner * (width - whole))
    return out.reshape(b.shape)


def combined(matrix: tuple[tuple[float, ...], ...]) -> Callable[..., None]:
    """f(of, at, stride, to, first, step, n): from runs of n numbers of a flat array, the k-th from
    ``at + k stride`` on, as many runs of another as the matrix has rows, the j-th from ``first + j
    step`` on: the sum of matrix[j][k] times the k-th. They do not overlap."""

    @intrinsic
    def combine(
        _: Any, of: Any, at: Any, stride: Any, to: Any, first: Any, step: Any, n: Any
    ) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            source, target = (
                cgutils.create_struct_proxy(signature.args[i])(context, builder, given[i]).data
                for i in (0, 3)
            )
            _generated_sums(builder, matrix, source, given[1:3], target, given[4:6], given[6])

        return types.void(of, at, stride, to, first, step, n), generate

    return combine


# 2^x for x from -0.5 to 0.5, to 3e-6 of it, by powers of x
_POWERS = (0.99999919, 0.69312197, 0.24024981, 0.05591704, 0.00956051)
_LEAST = -24.0  # exponent of weights
# A number of 2^22 or so that is added rounds another one, and has it in its lowest bits
_ROUNDING, _MANTISSA = 1.5 * 2.0**23, 23


def falling(both: bool) -> Callable[..., None]:
    """f(of, here, there, alike, far, sums, to, other, second, n): of n numbers of a flat array from
    ``here`` on and as many from ``there`` on, weights exp(-alike (p - q)^2 - far), 6e-8 where they
    would be less. They are added to ``sums`` from ``to`` on, and times q from ``second + to`` on;
    and if both, also from ``other`` on, and times p from ``second + other`` on. For functions that
    are compiled exactly: numbers are rounded by adding a large one."""

    @intrinsic
    def fall(
        _: Any, of: Any, here: Any, there: Any, alike: Any, far: Any, sums: Any, to: Any,
        other: Any, second: Any, n: Any,
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            source, target = (
                cgutils.create_struct_proxy(signature.args[i])(context, builder, given[i]).data
                for i in (0, 5)
            )
            _generated_weights(builder, both, source, given[1:5], target, given[6:9], given[9])

        return types.void(of, here, there, alike, far, sums, to, other, second, n), generate

    return fall


def _generated_weights(
    builder: Any, both: bool, source: Any, of: Any, target: Any, to: Any, n: Any
) -> None:
    """LLVM's code of ``falling``: a loop over vectors."""
    here, there, alike, far = of
    first, other, second = to

    def place(base: Any, *terms: Any) -> Any:
        at = functools.reduce(builder.add, terms)
        return builder.bitcast(builder.gep(base, [at]), _VECTOR.as_pointer())

    def add(at: Any, value: Any, *terms: Any) -> None:
        to = place(target, at, *terms)
        builder.store(builder.fadd(builder.load(to, align=4), value, flags=_FREE), to, align=4)

    def times(x: Any, y: Any, more: Any) -> Any:
        return builder.fadd(builder.fmul(x, y, flags=_FREE), more, flags=_FREE)

    octaves = ir.Constant(ir.FloatType(), -math.log2(math.e))
    alike, far = (_broadcast(builder, builder.fmul(x, octaves)) for x in (alike, far))
    least, rounding, *powers = (
        ir.Constant(_VECTOR, [x] * LANES) for x in (_LEAST, _ROUNDING, *_POWERS)
    )
    words = ir.Constant(_WORDS, [_MANTISSA] * LANES)
    with cgutils.for_range_slice(builder, _PLACE(0), n, _PLACE(LANES), _PLACE) as (i, _):
        p, q = (builder.load(place(source, x, i), align=4) for x in (here, there))
        difference = builder.fsub(q, p)
        exponent = times(builder.fmul(difference, difference), alike, far)
        more = builder.fcmp_ordered(">", exponent, least)
        exponent = builder.select(more, exponent, least)
        whole = builder.fadd(exponent, rounding)
        x = builder.fsub(exponent, builder.fsub(whole, rounding))
        square = builder.fmul(x, x)
        upper = times(powers[4], square, times(powers[3], x, powers[2]))
        power = builder.bitcast(times(upper, square, times(powers[1], x, powers[0])), _WORDS)
        octave = builder.shl(builder.bitcast(whole, _WORDS), words)
        weight = builder.bitcast(builder.add(power, octave), _VECTOR)
        add(first, weight, i)
        add(second, builder.fmul(weight, q, flags=_FREE), first, i)
        if both:
            add(other, weight, i)
            add(second, builder.fmul(weight, p, flags=_FREE), other, i)


def _broadcast(builder: Any, number: Any) -> Any:
    """A vector of it."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.IntType(32)(0))
    order = ir.Constant(_WORDS, [0] * LANES)
    return builder.shuffle_vector(first, undefined, order)


def _generated_sums(
    builder: Any, matrix: tuple[tuple[float, ...], ...], source: Any, of: Any, target: Any, to: Any,
    n: Any,
) -> None:  # fmt: skip
    """LLVM's code of ``combined``: a loop over vectors."""

    def place(base: Any, runs: Any, number: int, i: Any) -> Any:
        first, step = runs
        begin = builder.add(first, builder.mul(step, _PLACE(number)))
        return builder.bitcast(builder.gep(base, [builder.add(begin, i)]), _VECTOR.as_pointer())

    with cgutils.for_range_slice(builder, _PLACE(0), n, _PLACE(LANES), _PLACE) as (i, _):
        count = len(matrix[0])
        given = [builder.load(place(source, of, k, i), align=4) for k in range(count)]
        for j, row in enumerate(matrix):
            total = _ZEROS
            for factor, vector in zip(row, given, strict=True):
                if factor:
                    times = ir.Constant(_VECTOR, [factor] * LANES)
                    term = builder.fmul(times, vector, flags=_FREE) if factor != 1 else vector
                    total = term if total is _ZEROS else builder.fadd(total, term, flags=_FREE)
            builder.store(total, place(target, to, j, i), align=4)


def _block(rows: int, vectors: int) -> Callable[..., None]:
    """What computes so many rows and vectors of columns, which stay in registers."""

    @intrinsic
    def block(_: Any, a: Any, row: Any, b: Any, column: Any, out: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            arrays = [
                cgutils.create_struct_proxy(signature.args[i])(context, builder, given[i])
                for i in (0, 2, 4)
            ]
            inner, width = (builder.extract_value(x.shape, 1) for x in arrays[:2])
            return _generated(builder, rows, vectors, given[1], given[3], inner, width, *arrays)

        return types.void(a, row, b, column, out), generate

    return block


def _generated(
    builder: Any, rows: int, vectors: int, row: Any, column: Any, inner: Any, width: Any, a: Any,
    b: Any, out: Any,
) -> Any:  # fmt: skip
    """LLVM's code of a block at (row, column): a loop over k, and sums in registers."""

    def at(base: Any, place: Any) -> Any:
        return builder.gep(base, [place])

    def vector(place: Any) -> Any:
        return builder.bitcast(place, _VECTOR.as_pointer())

    numbers = [builder.add(row, _PLACE(i)) for i in range(rows)]
    of_a = [at(a.data, builder.mul(number, inner)) for number in numbers]
    to = [at(out.data, builder.add(builder.mul(number, width), column)) for number in numbers]
    panel = at(b.data, builder.mul(column, inner))
    before = builder.block
    loop, after = builder.append_basic_block("k"), builder.append_basic_block("sums")
    some = builder.icmp_signed(">", inner, _PLACE(0))
    builder.cbranch(some, loop, after)

    builder.position_at_end(loop)
    k = builder.phi(_PLACE)
    sums = [[builder.phi(_VECTOR) for _ in range(vectors)] for _ in range(rows)]
    of_b = at(panel, builder.mul(k, _PLACE(LANES * vectors)))
    columns = [builder.load(vector(at(of_b, _PLACE(LANES * v))), align=4) for v in range(vectors)]
    new = []
    for i in range(rows):
        number = builder.load(at(of_a[i], k), align=4)
        all_of_it = _broadcast(builder, number)
        products = [builder.fmul(all_of_it, x, flags=_FREE) for x in columns]
        pairs = zip(sums[i], products, strict=True)
        new.append([builder.fadd(total, x, flags=_FREE) for total, x in pairs])
    following = builder.add(k, _PLACE(1))
    builder.cbranch(builder.icmp_signed("<", following, inner), loop, after)

    k.add_incoming(_PLACE(0), before)
    k.add_incoming(following, loop)
    builder.position_at_end(after)
    results = [[builder.phi(_VECTOR) for _ in range(vectors)] for _ in range(rows)]
    for i in range(rows):
        for v in range(vectors):
            for total in (sums[i][v], results[i][v]):
                total.add_incoming(_ZEROS, before)
                total.add_incoming(new[i][v], loop)
            builder.store(results[i][v], vector(at(to[i], _PLACE(LANES * v))), align=4)


_six_by_two, _two_by_two, _one_by_two = (_block(rows, 2) for rows in (6, 2, 1))
_six_by_one, _one_by_one = (_block(rows, 1) for rows in (6, 1))


@compiled
def product(a: Any, b: Any, out: Any) -> None:
    rows, columns = out.shape
    for column in range(0, columns - LANES, 2 * LANES):
        row = 0
        while row + 6 <= rows:
            _six_by_two(a, row, b, column, out)
            row += 6
        while row + 2 <= rows:
            _two_by_two(a, row, b, column, out)
            row += 2
        if row < rows:
            _one_by_two(a, row, b, column, out)
    if columns % (2 * LANES):
        column, row = columns - LANES, 0
        while row + 6 <= rows:
            _six_by_one(a, row, b, column, out)
            row += 6
        while row < rows:
            _one_by_one(a, row, b, column, out)
            row += 1
