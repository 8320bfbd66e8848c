"""Token factorization on and off: rate, memory and time.

    python -m scripts.ablations.factorization OUT [--bits K...] [--steps N] [--quick]

MAGVIT-v2, arXiv 2310.05737, section 3.1. For each size of the vocabulary a tokenizer is trained on
the made-up set of moving shapes (neurocodec/train/shapes.py), then two masked transformers on its
tokens: one with groups of at most nine bits, one with a single softmax over all bits. Bits a token
are the cross-entropy of masked tokens of clips that neither was trained on, masked at the paper's
random rates. Writes OUT/factorization.md and OUT/factorization.png; a run that is done already is
not done again.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch

from neurocodec.generate.transformer import SIZES, TransformerConfig
from neurocodec.tokenizer.model import Tokenizer
from neurocodec.train.data import Sources
from neurocodec.train.masked import HELD_OUT as ONE_OF
from neurocodec.train.masked import MaskedConfig, MaskedRun, TokenSet
from neurocodec.train.shapes import CLASSES, HELD_OUT, planes_from_rgb, render

from .parts import (
    CROP,
    Figures,
    coded,
    figure,
    guarded,
    make_folder,
    once,
    positive,
    table,
    tokenizer_config,
    train_config,
)
from .parts import train as train_tokenizer

BITS = (10, 12, 14)
PAPER_BITS = 18  # of which memory is worked out, not measured
SIZE, BATCH, FRAMES = "tiny", 8, 5
CLIPS = 1280  # one of ONE_OF is held out
MIB = 2**20


def make_tokens(bits: int, steps: int, clips: int, out: Path) -> TokenSet:
    """Train a tokenizer on made-up clips; tokens of those and of held-out ones, which stand where
    training looks for them."""
    labels = [i // ONE_OF % len(CLASSES) for i in range(clips)]
    numbers = [i + HELD_OUT * (i % ONE_OF == ONE_OF - 1) for i in range(clips)]
    planes = torch.stack([
        planes_from_rgb(render(CLASSES[label], number, FRAMES, CROP))
        for label, number in zip(labels, numbers, strict=True)
    ])  # fmt: skip
    learnt = [
        (x * 255).round().byte() for x, n in zip(planes, numbers, strict=True) if n < HELD_OUT
    ]
    torch.manual_seed(0)
    model = Tokenizer(tokenizer_config(bits))
    sources = Sources(learnt, [], [], 0)
    train_tokenizer(model, train_config(steps, BATCH, FRAMES, 0), sources, 64, out)
    tokens = coded(model, planes)[1]
    grid = tuple(tokens.shape[1:])
    return TokenSet(tokens.flatten(1), torch.tensor(labels), list(CLASSES), "", grid)


def trial(tokens: TokenSet, bits: int, factorized: bool, steps: int, out: Path) -> Figures:
    """Train a transformer in a process that does nothing else: peak_mib is what that took."""
    config = MaskedConfig(
        size=SIZE, steps=steps, batch=BATCH, frames=FRAMES, crop=CROP, learning_rate=1e-3,
        warm_up=max(1, steps // 10), factorized=factorized, save_every=steps, validate_every=steps,
    )  # fmt: skip
    out.mkdir(exist_ok=True)
    (out / "log.jsonl").unlink(missing_ok=True)  # of a run that was stopped
    run = MaskedRun(config, tokens, bits, out)
    began = time.process_time()
    run.loop(iter(lambda: None, 0), run.step, run.validate, progress=False)
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    nats = [entry["nats"] for entry in entries if "val" in entry][-1]
    return {
        "bits": nats / math.log(2),
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "seconds": (time.process_time() - began) / steps,
        "peak_mib": peak_mib(),
    }


def peak_mib() -> float:
    """The largest resident set of this process. Linux; what getrusage says includes that of the
    process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def apart(*arguments: object) -> Figures:
    """A trial in a new process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context) as pool:
        return pool.submit(trial, *arguments).result()  # type: ignore[arg-type]


def logits_mib(shape: TransformerConfig) -> float:
    """MiB of a clip's logits in float32."""
    return 4 * shape.cells * sum(2**k for k in shape.factors) / MIB


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=positive, default=300, help="of a transformer")
    parser.add_argument("--tokenizer-steps", type=positive, default=150)
    parser.add_argument("--bits", type=positive, nargs="+", default=BITS, help="sizes")
    parser.add_argument("--quick", action="store_true", help="a few steps, one size: a test")
    options = parser.parse_args(arguments)
    steps, tokenizer_steps, sizes, clips = (
        options.steps,
        options.tokenizer_steps,
        options.bits,
        CLIPS,
    )
    if options.quick:
        steps, tokenizer_steps, sizes, clips = 2, 2, (10,), 2 * ONE_OF
    make_folder(options.out)
    found: dict[tuple[int, bool], Figures] = {}
    shape = None
    for bits in sizes:
        file = options.out / f"factorization-{bits}-{tokenizer_steps}-{clips}.safetensors"
        if not file.exists():
            make_tokens(bits, tokenizer_steps, clips, options.out).save(file)
        tokens = TokenSet.load(file)
        for factorized in (True, False):
            folder = options.out / f"factorization-{bits}-{'groups' if factorized else 'whole'}"
            figures = once(
                options.out / f"{folder.name}-{tokenizer_steps}-{clips}-{steps}.json",
                lambda t=tokens, b=bits, f=factorized, o=folder: apart(  # type: ignore[misc]
                    t, b, f, steps, o
                ),
            )
            shape = TransformerConfig(*SIZES[SIZE], tokens.grid, bits, factorized=factorized)
            found[bits, factorized] = {
                **figures, "groups": shape.factors, "logits": logits_mib(shape)
            }  # fmt: skip
            print(bits, factorized, figures, flush=True)
    assert shape is not None
    report(found, shape.grid, options.out)


def report(found: dict[tuple[int, bool], Figures], grid: tuple[int, int, int], out: Path) -> None:
    head = ["groups of bits", "bits a token, held out", "parameters", "logits of a clip, MiB",
            "largest resident set, MiB", "s a step"]  # fmt: skip
    rows = [
        [" + ".join(map(str, f["groups"])), f"{f['bits']:.3f}", f"{f['parameters']:,}",
         f"{f['logits']:.2f}", f"{f['peak_mib']:.0f}", f"{f['seconds']:.3f}"]
        for f in found.values()
    ]  # fmt: skip
    for factorized in (True, False):
        shape = TransformerConfig(*SIZES[SIZE], grid, PAPER_BITS, factorized=factorized)
        groups = " + ".join(map(str, shape.factors))
        rows.append([groups, "not trained", "", f"{logits_mib(shape):.2f}", "", ""])
    table(head, rows, out / "factorization.md")
    titles = {"bits": "bits a token, held out", "peak_mib": "largest resident set, MiB",
              "seconds": "CPU seconds a step"}  # fmt: skip
    sizes = sorted({bits for bits, _ in found})
    with figure(out / "factorization.png", len(titles)) as panels:
        for place, (name, title) in zip(panels, titles.items(), strict=True):
            for factorized, label in ((True, "groups of at most 9 bits"), (False, "one softmax")):
                place.plot(sizes, [found[b, factorized][name] for b in sizes], label=label)
            place.set_title(title, fontsize=9)
            place.set_xlabel("bits of the vocabulary")
            place.set_ylim(bottom=0)
            place.set_xticks(sizes)
        panels[0].legend(frameon=False)


if __name__ == "__main__":
    guarded(main)
