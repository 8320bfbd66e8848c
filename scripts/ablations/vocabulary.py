"""LFQ against VQ as the vocabulary grows: reconstruction and use of the codes.

    python -m scripts.ablations.vocabulary DATA OUT [--bits K...] [--steps N] [--seeds N] [--quick]

MAGVIT-v2, arXiv 2310.05737, section 3.1 and figure 1. One tokenizer is trained on single pictures
of 64x64 pixels for each quantizer and size of the vocabulary: the same networks from the same first
weights, the same batches and steps. Only the quantizer differs. DATA holds videos and photographs,
a tenth of which is held out. Writes OUT/vocabulary.md and OUT/vocabulary.png; a run that is done
already is not done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from neurocodec.tokenizer.config import SPATIAL_STRIDE
from neurocodec.tokenizer.lfq import CodeLFQ, pack_bits, unpack_bits
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
    positive,
    quality,
    st_lpips,
    table,
    tokenizer_config,
    train,
    train_config,
    use,
)

BITS = (6, 8, 10, 12, 14)
BATCH = 16  # pictures
CELLS = BATCH * (CROP // SPATIAL_STRIDE) ** 2  # of a batch
HELD_PICTURES = 768  # 64 cells each
JUDGED = 48  # of them, by ST-LPIPS


class VectorQuantizer(CodeLFQ):
    """A codebook of 2^K vectors in the latent space; a token is the number of the nearest one.

    The gradient passes straight through (van den Oord et al., arXiv 1711.00937). With the usual
    remedies for codes that nothing is near to: codes start at latents of training pictures and
    follow moving averages of what they stand for (appendix A.1 there), and a code that no cell has
    chosen for PATIENCE steps is moved to a latent of the batch (Dhariwal et al., arXiv 2005.00341).
    """

    DECAY, PATIENCE = 0.99, 100
    codebook: Tensor
    sums: Tensor
    counts: Tensor
    idle: Tensor

    def __init__(self, latent_dim: int, bits: int) -> None:
        super().__init__(latent_dim, bits, 1)
        del self.project, self.expand
        self.register_buffer("codebook", torch.randn(2**bits, latent_dim))
        self.register_buffer("sums", self.codebook.clone())
        self.register_buffer("counts", torch.ones(2**bits))  # averages, of a step
        self.register_buffer("idle", torch.zeros(2**bits, dtype=torch.int64))  # steps

    @torch.no_grad()
    def init_stages(self, kind: int, residual: Tensor, lam_range: tuple[float, float]) -> None:
        """residual: (N, D) latents, each the start of at most one code if there are enough."""
        places = torch.randperm(max(len(residual), len(self.codebook)), device=residual.device)
        chosen = residual[places[: len(self.codebook)] % len(residual)]
        self._put(torch.ones_like(self.idle, dtype=torch.bool), chosen)

    def _put(self, codes: Tensor, latents: Tensor) -> None:
        """Let codes (2^K,) bool be latents (n, D), as if they had been chosen as often as any."""
        count = CELLS / len(self.codebook)
        self.codebook[codes], self.sums[codes] = latents, latents * count
        self.counts[codes], self.idle[codes] = count, 0

    def nearest(self, residual: Tensor) -> Tensor:
        """(N, D) -> numbers (N,) of codes."""
        with torch.autocast(residual.device.type, enabled=False):
            product = residual.float() @ self.codebook.T
            return (self.codebook.square().sum(1) - 2 * product).argmin(1)

    def forward(
        self, residual: Tensor, kind: int, step: Tensor
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """As that of LFQ; no entropy is to be penalised."""
        latents = residual.detach()
        index = self.nearest(latents)
        q = residual + (self.codebook[index] - latents)
        if self.training:
            self._follow(latents, index)
        return q, torch.ones_like(index), []

    def _follow(self, latents: Tensor, index: Tensor) -> None:
        chosen = torch.bincount(index, minlength=len(self.codebook))
        sums = torch.zeros_like(self.sums).index_add_(0, index, latents)
        self.sums.lerp_(sums, 1 - self.DECAY)
        self.counts.lerp_(chosen.float(), 1 - self.DECAY)
        self.codebook.copy_(self.sums / self.counts[:, None])
        self.idle.add_(1).mul_(chosen == 0)
        gone = self.idle >= self.PATIENCE
        if gone.any():
            places = torch.randint(len(latents), (int(gone.sum()),), device=latents.device)
            self._put(gone, latents[places])

    @torch.no_grad()
    def quantize(
        self, residual: Tensor, kind: int, step: Tensor, thrift: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        index = self.nearest(residual)
        tokens = torch.where(unpack_bits(index, self.bits), 1, -1)
        return tokens[:, None], torch.ones_like(index)

    def dequantize(self, tokens: Tensor, depth: Tensor, kind: int, step: Tensor) -> Tensor:
        return self.codebook[pack_bits(tokens[:, 0] > 0)]


def trial(
    quantizer: str, bits: int, steps: int, seed: int, learnt: Sources, pictures: Tensor, out: Path
) -> Figures:
    """Train a tokenizer, measure it on held-out ``pictures`` (B, 6, 1, h, w)."""
    torch.manual_seed(seed)
    config = tokenizer_config(bits)
    model = Tokenizer(config)
    if quantizer == "VQ":
        model.lfq = VectorQuantizer(config.latent_dim, bits)
    starting = max(64, 2**bits * BATCH // CELLS)  # pictures, with a cell for each code
    seconds = train(model, train_config(steps, BATCH, 1, seed), learnt, starting, out)
    decoded, tokens = coded(model, pictures)
    used, entropy = use(tokens, bits)
    return {
        "psnr": quality(pictures, decoded), "st_lpips": st_lpips(pictures, decoded, JUDGED),
        "used": used, "entropy": entropy, "seconds": seconds,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__, 300)
    parser.add_argument("--bits", type=positive, nargs="+", default=BITS, help="sizes")
    options = parser.parse_args(arguments)
    steps, sizes, held_count = options.steps, options.bits, HELD_PICTURES
    if options.quick:
        steps, sizes, held_count = 2, (4, 6), 4
    make_folder(options.out)
    learnt, held = load(options.data, 1)
    pictures = Batches(held, held_count, 1, CROP, 1, 0.5).batch(0)
    found: dict[tuple[str, int], list[Figures]] = {}
    for seed in range(options.seeds):
        for bits in sizes:
            for quantizer in ("LFQ", "VQ"):
                file = options.out / f"vocabulary-{quantizer}-{bits}-{steps}-{seed}.json"
                figures = once(
                    file,
                    lambda q=quantizer, b=bits, s=seed: trial(  # type: ignore[misc]
                        q, b, steps, s, learnt, pictures, options.out
                    ),
                )
                found.setdefault((quantizer, bits), []).append(figures)
                print(quantizer, bits, seed, figures, flush=True)
    report(found, options.out)


def report(found: dict[tuple[str, int], list[Figures]], out: Path) -> None:
    head = ["quantizer", "codes", "PSNR-YUV, dB", "ST-LPIPS", "codes used", "entropy, bits"]
    rows, curves = [], {}
    for (quantizer, bits), trials in sorted(found.items()):
        m = {name: mean(t[name] for t in trials) for name in trials[0]}
        rows.append([
            quantizer, f"2^{bits}", f"{m['psnr']:.2f}", f"{m['st_lpips']:.4f}",
            f"{100 * m['used']:.1f} %", f"{m['entropy']:.2f}",
        ])  # fmt: skip
        curves.setdefault(quantizer, []).append((bits, m))
    table(head, rows, out / "vocabulary.md")
    titles = {"psnr": "PSNR-YUV, dB", "st_lpips": "ST-LPIPS (smaller is better)",
              "used": "share of codes used", "entropy": "entropy of use, bits"}  # fmt: skip
    with figure(out / "vocabulary.png", len(titles)) as panels:
        for place, (name, title) in zip(panels, titles.items(), strict=True):
            for quantizer, points in curves.items():
                place.plot([b for b, _ in points], [m[name] for _, m in points], label=quantizer)
            place.set_title(title, fontsize=9)
            place.set_xlabel("bits of the vocabulary")
        panels[2].set_ylim(0, 1.05)
        panels[0].legend(frameon=False)


if __name__ == "__main__":
    guarded(main)
