"""Causal against centred convolution in time: reconstruction of clips, and of their first frame.

    python -m scripts.ablations.causal DATA OUT [--steps N] [--seeds N] [--quick]

MAGVIT-v2, arXiv 2310.05737, section 3.2. Two tokenizers are trained on clips of nine frames of
64x64 pixels, from the same first weights, with the same batches and steps. Where one looks at two
frames before, the other looks at one before and one after, with as many weights; both have the
first frame in a latent frame of its own. Then each codes held-out clips, and their first frames
alone, as pictures. DATA holds videos and photographs, a tenth of which is held out. Writes
OUT/causal.md and OUT/causal.png; a run that is done already is not done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocodec.tokenizer.causal import Cache, CausalConv3d, ResBlock
from neurocodec.tokenizer.model import Tokenizer
from neurocodec.train.data import Batches, Sources

from .parts import (
    CROP,
    Figures,
    coded,
    figure,
    guarded,
    load,
    make_folder,
    once,
    parser_of,
    quality,
    st_lpips,
    table,
    tokenizer_config,
    train,
    train_config,
)

BITS = 12
BATCH, FRAMES = 8, 9
HELD_CLIPS = 128
JUDGED = 32  # of them, by ST-LPIPS


class CentredConv3d(CausalConv3d):
    """Sees as many frames after as before; beyond the clip its first and last frame repeat."""

    def forward(self, x: Tensor, cache: Cache | None = None) -> Tensor:
        if cache is not None:
            raise ValueError("what looks ahead cannot work frame by frame")
        half = self.past // 2
        return self.conv(F.pad(x, (0, 0, 0, 0, half, half), "replicate"))


def centre(model: Tokenizer) -> None:
    """Let every convolution in time look both ways, with the weights that it has."""
    for block in model.modules():
        if isinstance(block, ResBlock):
            for name in ("conv1", "conv2"):
                causal = getattr(block, name)
                width, kernel = causal.conv.in_channels, causal.conv.kernel_size
                centred = CentredConv3d(width, width, kernel)
                centred.load_state_dict(causal.state_dict())
                setattr(block, name, centred)


def trial(kind: str, steps: int, seed: int, learnt: Sources, clips: Tensor, out: Path) -> Figures:
    """Train a tokenizer, measure it on held-out ``clips`` (B, 6, FRAMES, h, w)."""
    torch.manual_seed(seed)
    model = Tokenizer(tokenizer_config(BITS))
    if kind == "centred":
        centre(model)
    seconds = train(model, train_config(steps, BATCH, FRAMES, seed), learnt, 64, out)
    decoded, tokens = coded(model, clips)
    first, alone = clips[:, :, :1], coded(model, clips[:, :, :1])
    return {
        "frames": [quality(clips[:, :, t : t + 1], decoded[:, :, t : t + 1])
                   for t in range(clips.shape[2])],
        "psnr": quality(clips, decoded), "st_lpips": st_lpips(clips, decoded, JUDGED),
        "first": quality(first, decoded[:, :, :1]), "alone": quality(first, alone[0]),
        "first_st_lpips": st_lpips(first, decoded[:, :, :1], JUDGED),
        "alone_st_lpips": st_lpips(first, alone[0], JUDGED),
        "same": (tokens[:, 0] == alone[1][:, 0]).double().mean().item(), "seconds": seconds,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__, 200)
    options = parser.parse_args(arguments)
    steps, seeds, count = options.steps, options.seeds, HELD_CLIPS
    if options.quick:
        steps, seeds, count = 2, 1, 2
    make_folder(options.out)
    learnt, held = load(options.data, FRAMES)
    clips = Batches(held, count, FRAMES, CROP, 1, 0.0).batch(0)
    found: dict[str, list[Figures]] = {}
    for seed in range(seeds):
        for kind in ("causal", "centred"):
            figures = once(
                options.out / f"causal-{kind}-{steps}-{seed}.json",
                lambda k=kind, s=seed: trial(  # type: ignore[misc]
                    k, steps, s, learnt, clips, options.out
                ),
            )
            found.setdefault(kind, []).append(figures)
            print(kind, seed, figures, flush=True)
    report(found, options.out)


def report(found: dict[str, list[Figures]], out: Path) -> None:
    head = [
        "convolution", "seed", "clips, dB", "ST-LPIPS", "first frame in its clip, dB", "alone, dB",
        "ST-LPIPS in its clip", "alone", "tokens that are the same alone",
    ]  # fmt: skip
    rows = [
        [kind, str(seed), f"{t['psnr']:.2f}", f"{t['st_lpips']:.4f}", f"{t['first']:.2f}",
         f"{t['alone']:.2f}", f"{t['first_st_lpips']:.4f}", f"{t['alone_st_lpips']:.4f}",
         f"{100 * t['same']:.1f} %"]
        for kind, trials in found.items()
        for seed, t in enumerate(trials)
    ]  # fmt: skip
    table(head, rows, out / "causal.md")
    with figure(out / "causal.png", 1, width=6.0) as (place,):
        for kind, trials in found.items():
            frames = [mean(values) for values in zip(*(t["frames"] for t in trials), strict=True)]
            (line,) = place.plot(range(1, len(frames) + 1), frames, label=kind)
            alone = mean(t["alone"] for t in trials)
            place.plot([1], [alone], "x", color=line.get_color(), markersize=9,
                       label=f"{kind}, first frame alone")  # fmt: skip
        place.set_xlabel("frame of the clip")
        place.set_title("PSNR-YUV, dB", fontsize=9)
        place.legend(frameon=False, loc="center left", bbox_to_anchor=(1.02, 0.5))


if __name__ == "__main__":
    guarded(main)
