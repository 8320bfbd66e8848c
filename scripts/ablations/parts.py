"""What the ablations share: pictures and clips, a training loop, measures, tables, figures."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from neurocodec.bench import perceptual
from neurocodec.device import autocast
from neurocodec.errors import DataError, Error, OutputError, UsageError
from neurocodec.files import replacing
from neurocodec.tokenizer.config import CODES_STEP, TokenizerConfig
from neurocodec.tokenizer.lfq import pack_bits
from neurocodec.tokenizer.model import Tokenizer
from neurocodec.tokenizer.patch import psnr
from neurocodec.train.data import Batches, Sources, load_sources
from neurocodec.train.objective import Objective, TrainConfig
from neurocodec.train.picture import rgb_clips
from neurocodec.train.run import Run
from neurocodec.train.tokenizer import STEP_RANGE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CROP = 64  # pixels, the side of every picture here
HOLD_OUT = 10  # one of so many videos and photographs is not trained on
SHORT_SIDE = 144  # pixels, to which videos are reduced; photographs to twice as many
Figures = dict[str, Any]


def tokenizer_config(bits: int) -> TokenizerConfig:
    """Size "codes" with half the channels: one token of ``bits`` bits for each cell."""
    return TokenizerConfig(
        channels=(16, 48), latent_blocks_encoder=1, latent_blocks_decoder=2,
        frame_blocks_decoder=1, refine_channels=16, latent_dim=96, quantizer="codes", bits=bits,
        stages=1,
    )  # fmt: skip


def train_config(steps: int, batch: int, frames: int, seed: int) -> TrainConfig:
    """Squared error and the terms of LFQ, weighted as scripts/train_gen.sh has them."""
    return TrainConfig(
        steps=steps, batch=batch, frames=frames, crop=CROP, learning_rate=2e-3,
        warm_up=max(1, steps // 20), rate=0.0, recon=5.0, entropy_steps=steps // 2, seed=seed,
    )  # fmt: skip


# -- data ------------------------------------------------------------------------------------------


def load(data: Path, frames: int) -> tuple[Sources, Sources]:
    """The videos and photographs of a folder: what is trained on, and what is held out. Raises
    DataError."""
    learnt = load_sources(data, frames, CROP, SHORT_SIDE, 1)
    held = learnt.hold_out(HOLD_OUT)
    place = slice(HOLD_OUT // 2, None, HOLD_OUT)
    held.photos = learnt.photos[place]
    del learnt.photos[place]
    if not (held.videos or held.photos) or not (learnt.videos or learnt.photos):
        raise DataError(f"{data}: too few videos and photographs to hold some of them out")
    return learnt, held


# -- training --------------------------------------------------------------------------------------


def train(
    model: Tokenizer, config: TrainConfig, sources: Sources, starting_clips: int, out: Path
) -> float:
    """Train in place, with batches and order that depend on the seed alone. Seconds it took.

    starting_clips: that the quantizer starts from. out: for the batch of a run that diverges.
    """
    batches = Batches(sources, config.batch, config.frames, config.crop, config.seed, 0.5)
    run = Run(config, model.config, model, out)
    for group in run.optimizer.param_groups:
        group["rate"] = 1.0  # of the DCT's corrections too: there are no fine steps to spare here
    objective = Objective(
        config, model.config.stages, model.config.bits, run.device, run.ranks, None
    )
    torch.manual_seed(config.seed)
    model.init_stages(batches.clips(-1, range(starting_clips)).to(run.device), STEP_RANGE)
    step = torch.full((config.batch,), CODES_STEP, device=run.device)
    began = time.process_time()
    with contextlib.closing(batches.iterate(0)) as endless:
        for planes in itertools.islice(endless, config.steps):
            run.start_step()
            planes = planes.to(run.device)
            with autocast(run.device):
                found = model(planes, step)
            loss, _ = objective.loss(found, planes, step, run.done)
            run.backward(loss, {"planes": planes})
            run.finish_step()
    model.eval()
    return time.process_time() - began


# -- measures --------------------------------------------------------------------------------------


@torch.no_grad()
def coded(model: Tokenizer, planes: Tensor, batch: int = 16) -> tuple[Tensor, Tensor]:
    """Clips (B, 6, T, h, w) in 0..1 -> the same through the tokenizer, on the CPU, and the tokens
    (B, T', h/4, w/4) int64 in between."""
    device = next(model.parameters()).device
    decoded, tokens = [], []
    for x in planes.split(batch):
        x = x.to(device)
        step = torch.full((len(x),), CODES_STEP, device=device)
        z = model.encoder(x, step)
        quantized, chosen = [], []
        for t in range(z.shape[2]):
            kind, cells = min(t, 1), z[:, :, t].movedim(1, -1)
            signs, depth = model.lfq.quantize(cells.flatten(0, 2), kind, step)
            q = model.lfq.dequantize(signs, depth, kind, step)
            quantized.append(q.view(cells.shape).movedim(-1, 1))
            chosen.append(pack_bits(signs[:, 0] > 0).view(cells.shape[:3]))
        tokens.append(torch.stack(chosen, 1))
        q = torch.stack(quantized, 2)
        depth = torch.ones_like(q[:, 0], dtype=torch.int64)
        decoded.append(model.decoder(q, depth, step).clamp(0, 1).cpu())
    return torch.cat(decoded), torch.cat(tokens).cpu()


def quality(planes: Tensor, decoded: Tensor) -> float:
    """PSNR-YUV in dB, the mean over frames of all clips (B, 6, T, h, w)."""
    return float(np.mean([psnr(a, b)[3] for a, b in zip(planes, decoded, strict=True)]))


def st_lpips(planes: Tensor, decoded: Tensor, count: int) -> float:
    """Mean distance of the middle frames of the first ``count`` clips (B, 6, T, h, w)."""
    middle = planes.shape[2] // 2
    pairs = [
        ((rgb_clips(x[:count, :, middle : middle + 1])[:, :, 0] + 1) * 127.5)
        .round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
        for x in (planes, decoded)
    ]  # fmt: skip
    return float(np.mean([perceptual.distance(a, b) for a, b in zip(*pairs, strict=True)]))


def use(tokens: Tensor, bits: int) -> tuple[float, float]:
    """Share of all 2^bits codes that occur in ``tokens``, and the entropy of their use in bits."""
    p = torch.bincount(tokens.flatten(), minlength=2**bits).double() / tokens.numel()
    return (p > 0).double().mean().item(), -(p * p.clamp_min(1e-300).log2()).sum().item()


# -- results ---------------------------------------------------------------------------------------


def once(file: Path, make: Callable[[], Figures]) -> Figures:
    """What ``make`` returns, kept in a JSON file: made once, however often a script is stopped."""
    if not file.exists():
        figures = make()
        with replacing(file, overwrite=True) as part:
            part.write_text(json.dumps(figures) + "\n")
    found: Figures = json.loads(file.read_text())
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[str]], file: Path) -> None:
    """Write and print a table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    with replacing(file, overwrite=True) as part:
        part.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


@contextlib.contextmanager
def figure(file: Path, panels: int, width: float = 3.6) -> Iterator[list[Axes]]:
    """So many panels side by side to draw on, each ``width`` inches wide; written as PNG. Raises
    UsageError without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise UsageError("figures need: pip install 'neurocodec[bench]'") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    style: Any = {
        "font.size": 9.0, "axes.grid": True, "grid.alpha": 0.35, "axes.spines.top": False,
        "axes.spines.right": False, "lines.marker": "o", "lines.markersize": 4,
    }  # fmt: skip
    with matplotlib.rc_context(style):
        drawn, axes = pyplot.subplots(
            1, panels, figsize=(width * panels, 3.0), squeeze=False, layout="constrained"
        )
        yield list(axes[0])
        with replacing(file, overwrite=True) as part:
            drawn.savefig(part, dpi=80, format="png")
        pyplot.close(drawn)


def parser_of(description: str | None, steps: int) -> argparse.ArgumentParser:
    """Of an ablation that trains on DATA, by default for so many steps."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=positive, default=steps)
    parser.add_argument("--seeds", type=positive, default=1)
    parser.add_argument("--quick", action="store_true", help="a few steps, the least sizes: a test")
    return parser


def positive(text: str) -> int:
    """An option's value. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def make_folder(out: Path) -> None:
    """Raises OutputError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: {error.strerror}") from None


def guarded(main: Callable[[], None]) -> None:
    """Run a script; what it cannot do is one line on standard error and an exit status."""
    try:
        main()
    except Error as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
