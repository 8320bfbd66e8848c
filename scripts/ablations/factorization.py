"""Token factorization on and off: rate and memory. usage: factorization.py BUNDLE DATA OUT [STEPS]

Trains two masked transformers on the same tokens of a bundle of quantizer "signs", one with groups
of at most nine bits, one with a single softmax over all bits (MAGVIT-v2, arXiv 2310.05737, section
3.1), and writes OUT/factorization.md: bits a token on held-out clips, parameters, bytes of logits.
"""

import json
import math
import sys
from pathlib import Path

from neurocodec import models
from neurocodec.train.masked import MaskedConfig, MaskedRun, TokenSet, make_tokens


def main(bundle: models.Bundle, data: Path, out: Path, steps: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    config = MaskedConfig(
        size="tiny", steps=steps, batch=8, crop=64, clips=200, learning_rate=1e-3, warm_up=100,
        save_every=steps, validate_every=steps,
    )  # fmt: skip
    file = out / "tokens.safetensors"
    if not file.exists():
        make_tokens(bundle, data, config).save(file)
    tokens = TokenSet.load(file)
    rows = ["| groups of bits | bits a token, held out | parameters | bytes of logits a clip |",
            "|---|---|---|---|"]  # fmt: skip
    for factorized in (True, False):
        config.factorized = factorized
        folder = out / ("factorized" if factorized else "whole")
        folder.mkdir(exist_ok=True)
        run = MaskedRun(config, tokens, bundle.config.bits, folder)
        run.loop(iter(lambda: None, 0), run.step, run.validate, progress=True)
        shape = run.model.config
        parameters = sum(p.numel() for p in run.model.parameters())
        logits = 4 * shape.cells * sum(2**k for k in shape.factors)
        bits = last(folder) / math.log(2)
        rows.append(f"| {shape.factors} | {bits:.3f} | {parameters:,} | {logits:,} |")
    (out / "factorization.md").write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


def last(folder: Path) -> float:
    """Nats a token at the last validation."""
    entries = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return float([e for e in entries if "val" in e][-1]["nats"])


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    steps = int(sys.argv[4]) if len(sys.argv) > 4 else 2000
    main(models.find(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), steps)
