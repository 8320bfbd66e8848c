"""What is in the tokens of a generative bundle: the action of a made-up clip, by a linear probe.

usage: python scripts/probe.py MODEL [EACH]

The probe classifies what the shape does (rise, fall, across, grow, shrink), whatever its shape and
colour, from equally many numbers of each kind: the generator's features, the embeddings of the
tokens, the signs of the tokens, and raw pixels. Each kind is reduced to SIZE numbers by a
projection on the principal directions of the training clips. EACH clips a class are learnt from, 60
by default, half as many tested.
"""

from __future__ import annotations

import sys

import torch
import torch.nn.functional as F
from torch import Tensor

from neurocodec.bench.generation import Classifier
from neurocodec.generate import start
from neurocodec.generate.features import features_of_tokens
from neurocodec.generate.model import Generative
from neurocodec.tokenizer.lfq import unpack_bits
from neurocodec.train.shapes import ACTIONS, HELD_OUT, SHAPES, planes_from_rgb, render

SIZE = 192


def clips(model: Generative, first: int, each: int) -> tuple[Tensor, Tensor]:
    """Clips (N, 6, T, H/2, W/2) and their actions (N,)."""
    found, labels = [], []
    for shape in SHAPES:
        for label, action in enumerate(ACTIONS):
            for i in range(each):
                rgb = render(f"{shape}-{action}", first + i, model.frames, model.size[0])
                found.append(planes_from_rgb(rgb))
                labels.append(label)
    return torch.stack(found), torch.tensor(labels)


def kinds(model: Generative, planes: Tensor) -> dict[str, Tensor]:
    """What is to be probed, (N, ...) each: of every cell, as it lies in space and time."""
    tokens = torch.cat([model.tokens(part).cpu() for part in planes.split(16)])
    seen = features_of_tokens(model, tokens)
    return {
        "features of the generator": seen.features.flatten(1),
        "embeddings of tokens": seen.embeddings.flatten(1),
        "signs of tokens": unpack_bits(tokens, model.transformer.config.bits).float().flatten(1),
        "pixels": F.avg_pool2d(planes.flatten(1, 2), 2).flatten(1),
    }


def main(name: str, each: str = "60") -> None:
    model = start(name, "cpu")
    count = int(each)
    train, labels = clips(model, HELD_OUT + 10_000, count)
    test, test_labels = clips(model, HELD_OUT + 20_000, max(1, count // 2))
    of_train, of_test = kinds(model, train), kinds(model, test)
    print(f"| {SIZE} numbers of | accuracy |\n|---|---|")
    for kind, x in of_train.items():
        mean = x.mean(0)
        basis = torch.pca_lowrank(x - mean, min(SIZE, len(x)), center=False)[2]
        a, b = (((y - mean) @ basis).double().numpy() for y in (x, of_test[kind]))
        accuracy = Classifier(a, labels, 1e-2).accuracy(b, test_labels)
        print(f"| {kind} | {accuracy:.3f} |")
    print(f"\n{len(train)} clips learnt from, {len(test)} tested; chance {1 / len(ACTIONS):.2f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
