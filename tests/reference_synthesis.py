"""Section 11 of ``bitstream_spec.md`` in NumPy: tokens of the motion family to pictures.

Written from the text alone, as ``reference_reader.py`` is; pictures may differ in their last bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]
Tensors = dict[str, Array]  # by name without ``tokenizer.``

LUMA = [
    [0, 0, 0, 64, 0, 0, 0, 0],
    [-1, 4, -10, 58, 17, -5, 1, 0],
    [-1, 4, -11, 40, 40, -11, 4, -1],
    [0, 1, -5, 17, 58, -10, 4, -1],
]
CHROMA = [[0, 64, 0, 0], [-4, 54, 16, -2], [-4, 36, 36, -4], [-2, 16, 54, -4]]


def silu(x: Array) -> Array:
    return x / (1 + np.exp(-x))


def shuffle(x: Array, r: int) -> Array:
    """7."""
    c, h, w = x.shape
    return x.reshape(c // r**2, r, r, h, w).transpose(0, 3, 1, 4, 2).reshape(-1, h * r, w * r)


def unshuffle(x: Array, r: int) -> Array:
    c, h, w = x.shape
    x = x.reshape(c, h // r, r, w // r, r).transpose(0, 2, 4, 1, 3)
    return x.reshape(c * r**2, h // r, w // r)


# 11.2


def sampled(plane: Array, y: int, x: int, mv: Ints, taps: list[list[int]]) -> float:
    """The sample at (y, x) moved by a vector, in quarters of a sample."""
    half = len(taps[0]) // 2
    rows, columns = plane.shape
    total = 0.0
    for i, down in enumerate(taps[int(mv[1]) % 4]):
        for j, right in enumerate(taps[int(mv[0]) % 4]):
            if down and right:
                at_y = min(max(y + int(mv[1]) // 4 + i - half + 1, 0), rows - 1)
                at_x = min(max(x + int(mv[0]) // 4 + j - half + 1, 0), columns - 1)
                total += down * right / 4096 * plane[at_y, at_x]
    return total


def blend(h: int, w: int, n: int, value: Any) -> Array:
    """value: of (cell's y, x, sample's y, x)."""
    g = np.sin(np.pi * (np.arange(2 * n) + 0.5) / (2 * n)) ** 2
    total, weight = np.zeros((2, n * h, n * w))
    for cy in range(h):
        for cx in range(w):
            for i in range(2 * n):
                for j in range(2 * n):
                    y, x = n * cy - n // 2 + i, n * cx - n // 2 + j
                    if 0 <= y < n * h and 0 <= x < n * w:
                        total[y, x] += g[i] * g[j] * value(cy, cx, y, x)
                        weight[y, x] += g[i] * g[j]
    return total / weight


def predictions(references: tuple[Array, Array], mode: Ints, mv: Ints) -> tuple[Array, Array]:
    out = []
    for own, alone in ((0, 1), (1, 0)):  # P, Q; the mode of cells without that reference
        used = np.where(mode == alone, 1 - own, own)
        out.append(compensated(references, used, mv))
    return out[0], out[1]


def compensated(references: tuple[Array, Array], used: Ints, mv: Ints) -> Array:
    """used: (h, w), the number of the reference that each cell's window is from."""
    h, w = used.shape
    luma = [shuffle(r[:4], 2)[0] for r in references]
    half = (mv.astype(np.int64) + 1) // 2

    def moved(cy: int, cx: int, y: int, x: int) -> float:
        r = used[cy, cx]
        return sampled(luma[r], y, x, mv[r, cy, cx], LUMA)

    def moved_chroma(cy: int, cx: int, y: int, x: int, p: int) -> float:
        r = used[cy, cx]
        return sampled(references[r][p], y, x, half[r, cy, cx], CHROMA)

    uv = [blend(h, w, 4, lambda *at, p=p: moved_chroma(*at, p)) for p in (4, 5)]
    return np.concatenate([unshuffle(blend(h, w, 8, moved)[None], 2), np.stack(uv)])


# 11.3


def enlarged(base: Array, h: int, w: int) -> Array:
    """To h x w cells."""
    y = cubic(cubic(shuffle(base[:4], 2)).transpose(0, 2, 1)).transpose(0, 2, 1)
    uv = cubic(cubic(base[4:]).transpose(0, 2, 1)).transpose(0, 2, 1)
    return np.concatenate([unshuffle(y[:, : 8 * h, : 8 * w], 2), uv[:, : 4 * h, : 4 * w]])


def cubic(rows: Array) -> Array:
    a, n = -0.75, rows.shape[2]
    out = np.zeros((*rows.shape[:2], 4 * n))
    for i in range(4 * n):
        x = (i + 0.5) / 4 - 0.5
        for j in range(int(np.floor(x)) - 1, int(np.floor(x)) + 3):
            d = abs(x - j)
            k = (a + 2) * d**3 - (a + 3) * d**2 + 1
            if d > 1:
                k = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            out[..., i] += k * rows[..., min(max(j, 0), n - 1)]
    return out


# 11.4


def convolve(x: Array, tensors: Tensors, name: str) -> Array:
    weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
    r = weight.shape[2] // 2
    h, w = x.shape[1:]
    padded = np.pad(x, ((0, 0), (r, r), (r, r)))
    out = np.zeros((len(weight), h, w)) + bias[:, None, None]
    for i in range(2 * r + 1):
        for j in range(2 * r + 1):
            out += np.einsum("oc,chw->ohw", weight[:, :, i, j], padded[:, i : i + h, j : j + w])
    return out


def blocks(x: Array, tensors: Tensors, name: str) -> Array:
    i = 0
    while f"{name}.{i}.conv1.weight" in tensors:
        y = silu(convolve(silu(x), tensors, f"{name}.{i}.conv1"))
        x = x + convolve(y, tensors, f"{name}.{i}.conv2")
        i += 1
    return x


def dct(n: int) -> Array:
    m = np.cos(np.pi * (np.arange(n) + 0.5) * np.arange(n)[:, None] / n) * np.sqrt(2 / n)
    m[0] = n**-0.5
    return m


def basis(d: int) -> Array:
    """6.1 for one frame: B (96, D)."""

    found = []
    for i in range(8):
        for j in range(8):
            planes = np.zeros((6, 4, 4))
            planes[:4] = unshuffle(np.outer(dct(8)[i], dct(8)[j])[None], 2)
            found.append((i + j, planes.ravel()))
    for p in (4, 5):
        for i in range(4):
            for j in range(4):
                planes = np.zeros((6, 4, 4))
                planes[p] = np.outer(dct(4)[i], dct(4)[j]) / np.sqrt(2)
                found.append((2 * (i + j) + 2, planes.ravel()))
    found.sort(key=lambda item: item[0])
    return np.stack([vector for _, vector in found[:d]], 1)


def from_transform(latent: Array, transform: Ints) -> Array:
    """11.4, 2: q' (D, h, w) of cells with transforms (h, w) -> q."""
    b = basis(96)
    luma = [c for c in range(96) if b[:64, c].any()]
    gains = np.where(b[:64].any(0), 1, 2)  # B has chroma over the root of 2, A times it
    out = latent.copy()
    for i, (rows, columns) in enumerate([(8, 4), (4, 8), (4, 4)]):
        found = []
        for a in range(rows):
            for c in range(columns):
                for top in range(0, 8, rows):
                    for left in range(0, 8, columns):
                        block = np.zeros((8, 8))
                        wave = np.outer(dct(rows)[a], dct(columns)[c])
                        block[top : top + rows, left : left + columns] = wave
                        planes = np.zeros((6, 4, 4))
                        planes[:4] = unshuffle(block[None], 2)
                        found.append(((8 * a / rows + 8 * c / columns, a, top, left), planes))
        found.sort(key=lambda item: item[0])
        own = b.copy()
        own[:, luma] = np.stack([planes.ravel() for _, planes in found], 1)
        at = transform == i + 1
        out[:, at] = gains[:, None] * (b.T @ own @ latent[:, at])
    return out


def steps(t: float, kind: int, predicted: tuple[Array, Array], masking: int) -> Array:
    """11.1: of each cell, (h, w)."""
    luma = shuffle((predicted[0][:4] + predicted[1][:4]) / 2, 2)[0]
    h, w = luma.shape[0] // 8, luma.shape[1] // 8
    if kind <= 1:
        return np.full((h, w), t)
    variance = luma.reshape(h, 8, w, 8).var((1, 3))
    out = np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            near = [
                variance[min(max(y + i, 0), h - 1), min(max(x + j, 0), w - 1)]
                for i in (-1, 0, 1)
                for j in (-1, 0, 1)
            ]
            factor = ((np.mean(near) + 58 / 255**2) / (400 / 255**2)) ** (masking / 128)
            out[y, x] = t * min(max(factor, 1 / 3), 3)
    return out


def picture(
    every: Tensors, kind: int, t: float, predicted: tuple[Array, Array], tokens: Ints,
    masking: int = 0, transform: Ints | None = None,
) -> Array:  # fmt: skip
    """tokens: (h, w, S, K), transform: (h, w) -> planes (6, 4 h, 4 w), multiples of 1 / 255."""
    own = "intra." if kind <= 2 else "inter."
    tensors = {k.removeprefix(own): v for k, v in every.items() if k.startswith(own)}
    h, w = tokens.shape[:2]
    p, q = predicted
    step = steps(t, kind, predicted, masking)
    wide = step.repeat(4, 0).repeat(4, 1)
    mean, half = (p + q) / 2, (p - q) / 2
    cells = np.zeros((6, h, w))
    cells[0], cells[1 + kind] = np.log(step) / 2 + 1, 1
    c = cells.repeat(2, 1).repeat(2, 2)

    x = np.concatenate([unshuffle(mean - 0.5, 2), unshuffle(4 * half, 2), c])
    context = blocks(convolve(x, tensors, "context.stem"), tensors, "context.blocks")
    better = mean + shuffle(convolve(silu(context), tensors, "context.out"), 2)

    n = tokens.reshape(h, w, -1).transpose(2, 0, 1).astype(float)
    shrink, gain = (every[f"lfq.{k}"][kind][:, None, None] for k in ("shrink", "log_gain"))
    latent = np.where(n == 0, 0, np.sign(n) * (np.abs(n) - shrink) * step * np.exp(gain))
    if transform is not None:
        latent = from_transform(latent, transform)
    matrix = basis(len(n)) + tensors["decoder.correction"]
    linear = shuffle(np.einsum("pd,dhw->phw", matrix, latent), 4)

    x = np.concatenate([np.arcsinh(latent / step), unshuffle(context, 2), cells])
    x = blocks(convolve(x, tensors, "decoder.stem"), tensors, "decoder.blocks")
    x = shuffle(convolve(silu(x), tensors, "decoder.up"), 2)
    planes = better + linear
    x = np.concatenate(
        [x, context, unshuffle(planes - 0.5, 2), unshuffle(np.arcsinh(linear / wide), 2), c]
    )
    x = silu(convolve(silu(convolve(x, tensors, "decoder.refine1")), tensors, "decoder.refine2"))
    planes = planes + wide * shuffle(convolve(x, tensors, "decoder.out"), 2)
    return np.round(np.clip(planes, 0, 1) * 255) / 255


# 11.5


def smoothed(
    planes: Array, strengths: tuple[int, ...], wide: bool, blocks: Ints, t: float,
    offsets: tuple[Ints | None, ...] = (None, None, None),
) -> Array:  # fmt: skip
    """planes: (6, 4 h, 4 w), multiples of 1 / 255; blocks: whether smoothed."""
    y, u, v = (
        moved(x, o, t)
        for x, o in zip((shuffle(planes[:4], 2)[0], *planes[4:]), offsets, strict=True)
    )
    planes = np.concatenate([unshuffle(y[None], 2), np.stack([u, v])])
    y = np.round(filtered(shuffle(planes[:4], 2)[0], strengths[0], 4, 3, t / 16) * 255) / 255
    if wide:
        m = y.reshape(y.shape[0] // 4, 4, y.shape[1] // 4, 4).mean((1, 3))
        change = filtered(m, strengths[0], 4, 3, t / 64) - m
        change = linear(linear(change).T).T
        y = np.round(np.clip(y + change, 0, 1) * 255) / 255
    where = blocks.repeat(32, 0).repeat(32, 1)[: y.shape[0], : y.shape[1]] > 0
    y = np.where(where, y, shuffle(planes[:4], 2)[0])
    uv = [filtered(planes[3 + i], strengths[i], 3, 2, t / 24) for i in (1, 2)]
    uv = [np.round(x * 255) / 255 for x in uv]
    return np.concatenate([unshuffle(y[None], 2), np.stack(uv)])


def filtered(plane: Array, s: int, r: int, n: float, c: float) -> Array:
    if s == 0:
        return plane
    h, w = plane.shape
    a, v, out = 255 * c * 2 ** (s - 1), plane * 255, np.zeros((h, w))
    for y in range(h):
        for x in range(w):
            total = weights = 0.0
            for i in range(-r, r + 1):
                for j in range(-r, r + 1):
                    if i**2 + j**2 <= r**2:
                        there = v[min(max(y + i, 0), h - 1), min(max(x + j, 0), w - 1)]
                        off = there - v[y, x]
                        weight = np.exp(-(i**2 + j**2) / (2 * n**2) - off**2 / (2 * a**2))
                        total, weights = total + weight * there, weights + weight
            out[y, x] = total / weights
    return out / 255


def moved(plane: Array, offsets: Ints | None, t: float) -> Array:
    if offsets is None:
        return plane
    side = 4
    while (
        -(-plane.shape[0] // side) > offsets.shape[0]
        or -(-plane.shape[1] // side) > offsets.shape[1]
    ):
        side *= 2
    change = linear(linear(offsets * t / 64, side).T, side).T[: plane.shape[0], : plane.shape[1]]
    return np.asarray(np.round(np.clip(plane + change, 0, 1) * 255) / 255)


def linear(rows: Array, side: int = 4) -> Array:
    """Enlarged so many times."""
    n = rows.shape[1]
    x = np.clip((np.arange(side * n) + 0.5) / side - 0.5, 0, n - 1)
    return np.stack([np.interp(x, np.arange(n), row) for row in rows])


# 11.6

TAPS = [
    (0, 1), (0, 2), (0, 3), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (2, -1), (2, 0), (2, 1),
    (3, 0),
]  # fmt: skip


CHROMA_TAPS = [(0, 1), (0, 2), (1, -1), (1, 0), (1, 1), (2, 0)]
LUMA_TAPS = [(0, 1), (1, 0), (1, 1), (-1, 0), (-1, 1), (0, -1), (1, -1), (2, 0), (2, 1)]
Samples = list[list[int]]


def at(plane: Samples, y: int, x: int) -> int:
    return plane[min(max(y, 0), len(plane) - 1)][min(max(x, 0), len(plane[0]) - 1)]


def corrected(planes: Array, luma: Any, chroma: tuple[Ints | None, Ints | None]) -> Array:
    """planes: (6, 4 h, 4 w), multiples of 1 / 255. luma: which, taps and regions, or None."""
    y, u, v = (
        np.round(x * 255).astype(int).tolist()
        for x in (shuffle(planes[:4], 2)[0], planes[4], planes[5])
    )
    if luma is not None:
        y = corrected_luma(y, luma.which, luma.taps, luma.regions)
    uv = [
        x if taps is None else corrected_chroma(x, y, taps)
        for x, taps in zip((u, v), chroma, strict=True)
    ]
    return np.concatenate([unshuffle(np.array(y)[None] / 255, 2), np.array(uv) / 255])


def corrected_chroma(plane: Samples, luma: Samples, taps: Ints) -> Samples:
    out = [list(row) for row in plane]
    for y in range(len(plane)):
        for x in range(len(plane[0])):
            here, beside, total = plane[y][x], luma[2 * y][2 * x], 64
            for c, (a, b) in zip(taps[:6], CHROMA_TAPS, strict=True):
                total += int(c) * (at(plane, y + a, x + b) + at(plane, y - a, x - b) - 2 * here)
            for c, (a, b) in zip(taps[6:], LUMA_TAPS, strict=True):
                total += int(c) * (at(luma, 2 * y + a, 2 * x + b) - beside)
            out[y][x] = min(max(here + total // 128, 0), 255)
    return out


def corrected_luma(y: Samples, which: Ints, taps: Ints, regions: Ints) -> Samples:
    rows, columns = len(y), len(y[0])

    def of_block(i: int, j: int) -> list[int]:
        sums = [0] * 4
        for a in range(4 * i, 4 * i + 4):
            for b in range(4 * j, 4 * j + 4):
                for k, (c, d) in enumerate(((1, 0), (0, 1), (1, 1), (1, -1))):
                    sums[k] += abs(2 * y[a][b] - at(y, a - c, b - d) - at(y, a + c, b + d))
        return sums

    count, across = rows // 4, columns // 4
    sums = [[of_block(i, j) for j in range(across)] for i in range(count)]
    out = [list(row) for row in y]
    for i in range(count):
        for j in range(across):
            if not regions[i // 16][j // 16]:
                continue
            v, h, d, e = (
                sum(
                    sums[min(max(i + a, 0), count - 1)][min(max(j + b, 0), across - 1)][k]
                    for a in (-1, 0, 1)
                    for b in (-1, 0, 1)
                )
                for k in range(4)
            )
            m, least = max(v, h), min(v, h)
            slanted = max(d, e) * least > m * min(d, e)
            if slanted:
                m, least = max(d, e), min(d, e)
            q = 2 if 2 * m > 9 * least else 1 if m > 2 * least else 0
            q += 2 if slanted and q else 0
            own = taps[which[5 * q + sum(v + h >= bound for bound in (101, 288, 720, 1728))]]
            turn = (0 if d < e else 2) + (0 if h < v else 1)
            for a in range(4 * i, 4 * i + 4):
                for b in range(4 * j, 4 * j + 4):
                    total = 64
                    for c, (s, t) in zip(own, TAPS, strict=True):
                        s, t = ((s, t), (t, s), (-s, t), (t, -s))[turn]
                        total += int(c) * (at(y, a + s, b + t) + at(y, a - s, b - t) - 2 * y[a][b])
                    out[a][b] = min(max(y[a][b] + total // 128, 0), 255)
    return out
