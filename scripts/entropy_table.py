"""What the entropy models take for the tokens of .nc files: by schedule, and by stage and step.

    python scripts/entropy_table.py FILE.nc... [--gops N] [--made-with BUNDLE] [--model BUNDLE]

Of the files' own tokens. --made-with: their bundle, where it does not come with the package;
--model: with the entropy models of another one, of the same tokenizer.
Prints tables in Markdown: the generator's size relative to the adaptive
model's for schedules of 1, 2, 4 and 8 steps, mean of the files (with one step no cell sees tokens
of another cell of its picture: the trunk has nothing to look at); the share of the file that loop
filters are; then, with four steps, bits of a token by stage, and bits of a coded cell by step.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from neurocodec import models
from neurocodec.bitstream.reader import Reader
from neurocodec.codec.tokens import Tokens, decode_tokens, grid_of, hidden_of, picture_head
from neurocodec.entropy.adaptive import TokenModel
from neurocodec.entropy.binary import BitEncoder
from neurocodec.entropy.generator import DEFAULT_STEPS, GeneratorModel
from neurocodec.entropy.loop_filter import LoopFilterModel
from neurocodec.entropy.motion import MotionModel
from neurocodec.entropy.motion_generator import MotionGenerator
from neurocodec.entropy.schedule import steps_of
from neurocodec.entropy.wiener import WienerModel

SCHEDULES = (1, 2, 4, 8)
Found = dict[Any, list[float]]  # bits, and how many there were, by what


class Measuring:
    """Counts the bits that methods of the entropy models write, while it is entered."""

    def __init__(self, model: str, found: Found) -> None:
        self._model, self._found = model, found
        self._methods: list[tuple[type, str, Any]] = []

    def _measure(self, cls: type, name: str, key: Any, count: Any = lambda *_: 1) -> None:
        method = getattr(cls, name)
        self._methods.append((cls, name, method))

        def measuring(model: Any, coder: BitEncoder, *args: Any, **named: Any) -> Any:
            before, number = coder.ideal_bits, count(model, *args)
            out = method(model, coder, *args, **named)
            at = self._found[(self._model, *key(model, *args))]
            at[0] += coder.ideal_bits - before
            at[1] += number
            return out

        setattr(cls, name, measuring)

    def __enter__(self) -> None:
        for motion in (MotionModel, MotionGenerator):
            self._measure(motion, "code_field", lambda *_: ("motion",))
        for filters in (LoopFilterModel, WienerModel):
            self._measure(filters, "code", lambda *_: ("loop filter",))
        for tokens in (TokenModel, GeneratorModel):
            self._measure(tokens, "code", lambda *_: ("tokens and depths",))
        self._measure(
            TokenModel, "_code_stage", lambda _, stage, latent: ("stage", stage),
            lambda _, stage, latent: (latent.depth > stage).sum() * latent.tokens.shape[-1],
        )  # fmt: skip
        self._measure(
            GeneratorModel, "_code_levels", lambda _, kind, stage, *rest: ("stage", stage),
            lambda _, kind, stage, levels, cells, contexts: len(cells) * levels.shape[-1],
        )  # fmt: skip
        grid = [(0, 0)]
        code = GeneratorModel.code

        def noting(model: Any, coder: Any, size: tuple[int, int], *args: Any) -> Any:
            grid[0] = size
            return code(model, coder, size, *args)

        self._methods.append((GeneratorModel, "code", code))
        GeneratorModel.code = noting  # type: ignore[assignment, method-assign]

        def step(model: GeneratorModel, *args: Any) -> Any:
            cells = args[-1]
            return "step", int(steps_of(*grid[0], model.steps).ravel()[cells[0]])

        self._measure(GeneratorModel, "_code_cells", step, lambda _, *args: len(args[-1]))

    def __exit__(self, *_: object) -> None:
        for cls, name, method in reversed(self._methods):
            setattr(cls, name, method)


def measure(path: Path, most: int | None, made_with: str | None, name: str | None) -> Found:
    """Bits of a file's tokens by each model, ("adaptive" or the number of steps, what)."""
    found: Found = defaultdict(lambda: [0.0, 0.0])
    with Reader(path) as reader:
        header = reader.header
        bundle = models.find_for(header.model_hash, header.model_name, made_with)
        entropy = bundle.entropy(header.entropy_model)
        gops: list[tuple[Any, list[Tokens]]] = []
        for entry in itertools.islice(reader.gops, most):
            read = reader.read_gop(entry)
            if read is None:
                raise SystemExit(f"{path}: damaged")
            gop = read[0]
            gops.append((gop, list(decode_tokens(header, gop, entropy))))
    other = models.find(name) if name else bundle
    if other.tokens_hash != bundle.tokens_hash:
        raise SystemExit(f"{path}: {other.name} has another tokenizer")
    bundle, grid = other, grid_of(header.width, header.height)
    for coded in ("adaptive", *SCHEDULES):
        kind = "adaptive" if coded == "adaptive" else "generator"
        model = bundle.entropy(bundle.entropy_number(kind))
        with Measuring(str(coded), found):
            for gop, items in gops:
                scales = picture_head(gop)[0] if bundle.is_motion else ()
                steps = DEFAULT_STEPS if coded == "adaptive" else int(coded)
                hidden = hidden_of(gop, entropy)
                gop_coder = model.coder(grid, gop.frames, gop.step, scales, steps, hidden)
                coder = BitEncoder()
                for item in items:
                    gop_coder.code(coder, item)
                found[(str(coded), "file")][0] += coder.ideal_bits
    return dict(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--gops", type=int, help="of each file, the first ones; all by default")
    for name in ("--made-with", "--model"):
        parser.add_argument(name, help="name or path of a bundle")
    options = parser.parse_args()
    files = [
        measure(path, options.gops, options.made_with, options.model) for path in options.files
    ]
    parts = ("file", "tokens and depths", "motion")
    print(f"| steps | {' | '.join(parts)} |\n|---|{'---|' * len(parts)}")
    for steps in SCHEDULES:
        ratios = [
            np.mean([f[(str(steps), part)][0] / f[("adaptive", part)][0] for f in files])
            for part in parts
        ]
        print(f"| {steps} | {' | '.join(f'{ratio:.3f}' for ratio in ratios)} |")
    default = str(DEFAULT_STEPS)
    smooth = [f.get((default, "loop filter"), [0.0])[0] / f[(default, "file")][0] for f in files]
    print(f"\nloop filters: {100 * np.mean(smooth):.1f} % of the file")
    total: Found = defaultdict(lambda: [0.0, 0.0])
    for f in files:
        for key, (bits, count) in f.items():
            total[key][0] += bits
            total[key][1] += count
    print("\n| stage | share of tokens' bits | bits a token, adaptive | generator |")
    print("|---|---|---|---|")
    stages = sorted(key[2] for key in total if key[:2] == (default, "stage"))
    whole = sum(total[(default, "stage", stage)][0] for stage in stages)
    for stage in stages:
        bits, count = total[(default, "stage", stage)]
        other, others = total[("adaptive", "stage", stage)]
        means = f"{other / max(others, 1):.3f} | {bits / max(count, 1):.3f}"
        print(f"| {stage + 1} | {bits / whole:.3f} | {means} |")
    print("\n| step | bits a coded cell |\n|---|---|")
    for step in range(DEFAULT_STEPS):
        bits, count = total.get((default, "step", step), (0.0, 1.0))
        print(f"| {step + 1} | {bits / max(count, 1):.2f} |")


if __name__ == "__main__":
    main()
