"""Model bundles: one ``.safetensors`` file each, named, and identified by the SHA-256 of its bytes.

Metadata of the file: ``neurocodec`` holds JSON with name, tokenizer configuration and card. Tensors
``tokenizer.*`` are network weights (bf16 or float32), ``prior.*`` the entropy model's first counts,
``generator.*`` the generator's integers and first counts, where there is one, ``transformer.*`` the
weights of a masked transformer, where there is one (see ``neurocodec/generate/model.py``).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from ..codec.tokens import (
    EXTENDED_GENERATED_PICTURES,
    EXTENDED_PICTURES,
    GENERATED_LATENTS,
    LATENTS,
    OF_LATENTS,
    OF_PICTURES,
    WITH_GENERATOR,
    EntropyModel,
)
from ..entropy.adaptive import Prior, TokenShape
from ..entropy.generator import Generator, GeneratorConfig
from ..entropy.integer import use_torch
from ..entropy.motion import MOTION_PREFIX
from ..entropy.motion import TABLES as MOTION_TABLES
from ..errors import FormatError, ModelError, ModelMismatchError, UsageError, printable
from ..tokenizer.config import (
    ABSENT,
    KINDS,
    PATCH_CHANNELS,
    QUANTIZERS,
    MotionConfig,
    TokenizerConfig,
    config_from_dict,
)

if TYPE_CHECKING:
    from torch import nn

FOLDER = Path(__file__).parent
DEFAULT = "motion-small"
# speed or size, by the name of a choice
DIAL = {"fast": "motion-fast", "default": DEFAULT, "best": "motion-base"}
TUNED = {"ms-ssim": "motion-ms-ssim"}  # by what a file is tuned for, where the default is not meant
# What is accepted of a bundle. Its networks have no more parameters than the file has bytes.
MAX_BUNDLE_BYTES = 1 << 31
MAX_CHANNELS = 2048
MAX_BLOCKS = 64  # residual blocks in a row
MAX_LEVELS = 3  # spatial levels
MAX_LATENT = 1024  # dimensions of a cell
MAX_STAGES = 256
MAX_BITS = 64
_KEY = "neurocodec"
# what reading a tensor raises: TypeError and AttributeError for types that numpy has not
_UNREADABLE = (SafetensorError, OSError, TypeError, AttributeError)


def token_shape(config: TokenizerConfig | MotionConfig) -> TokenShape:
    """What the entropy model must know of a tokenizer."""
    if isinstance(config, MotionConfig):
        kinds, smooth = config.transform_kinds, bool(config.loop_filter)
        return TokenShape(config.quantizer, config.stages, config.bits, KINDS, True, kinds, smooth)
    return TokenShape(config.quantizer, config.stages, config.bits)


def prior_shapes(config: TokenizerConfig | MotionConfig) -> dict[str, tuple[int, int, int]]:
    """Shapes of all tables of first counts of a bundle's entropy model."""
    shapes = token_shape(config).table_shapes()
    if isinstance(config, MotionConfig):
        shapes |= {MOTION_PREFIX + name: shape for name, shape in MOTION_TABLES.items()}
    return shapes


def build(config: TokenizerConfig | MotionConfig) -> nn.Module:
    """The networks of a configuration, untrained."""
    if isinstance(config, MotionConfig):
        from ..tokenizer.motion_model import MotionTokenizer

        return MotionTokenizer(config)
    from ..tokenizer.model import Tokenizer

    return Tokenizer(config)


def tune_of(card: dict[str, Any]) -> str | None:
    """As ``Bundle.tune``."""
    config = card.get("config")
    distortion = config.get("distortion") if isinstance(config, dict) else None
    return distortion if isinstance(distortion, str) and distortion in TUNED else None


@dataclass(frozen=True)
class Bundle:
    """A model bundle on disk; weights are read when asked for."""

    path: Path
    name: str
    hash: bytes  # SHA-256 of the file
    config: TokenizerConfig | MotionConfig
    card: dict[str, Any]  # what it was trained on and how
    generator_config: GeneratorConfig | None = None
    transformer: dict[str, Any] | None = None  # its configuration, classes and the tokenizer's step

    @property
    def is_motion(self) -> bool:
        return self.config.family == "motion"

    @property
    def tune(self) -> str | None:
        """What it was trained to be tuned for, see ``TUNES``; None where nothing is said."""
        return tune_of(self.card)

    def entropy_number(self, entropy: str | None = None) -> int:
        """Number, as in a file's header, of the entropy model "generator" or "adaptive"; by default
        the generator, if there is one. Raises UsageError."""
        if entropy not in (None, "generator", "adaptive"):
            raise UsageError(f"entropy model {entropy!r}: give generator or adaptive")
        if entropy is None:
            entropy = "adaptive" if self.generator_config is None else "generator"
        generated = entropy == "generator"
        if self.is_motion:
            return EXTENDED_GENERATED_PICTURES if generated else EXTENDED_PICTURES
        return GENERATED_LATENTS if generated else LATENTS

    def entropy(self, number: int) -> EntropyModel:
        """The entropy model that a file's header names by number.

        Raises FormatError: it is not known or not of this family; ModelError.
        """
        if number not in (*OF_LATENTS, *OF_PICTURES):
            raise FormatError(f"entropy model {number} is not known to this program")
        if number not in (OF_PICTURES if self.is_motion else OF_LATENTS):
            raise FormatError(f"entropy model {number} does not go with model {self.name}")
        generator = self.generator() if number in WITH_GENERATOR else None
        return EntropyModel(number, self.shape, self.prior(), generator)

    def generator(self) -> Generator:
        """Raises ModelError where there is none, or it is damaged."""
        config = self.generator_config
        if config is None:
            raise ModelError(f"{self.path}: has no generator; its entropy model is adaptive")
        try:
            parts = self._generator_parts(config)
            return Generator.from_arrays(config, self.shape, parts.arrays, parts.prior)
        except (*_UNREADABLE, ValueError) as error:
            raise ModelError(f"{self.path}: generator: {error}") from None

    def _generator_parts(self, config: GeneratorConfig) -> GeneratorParts:
        layers, tables = config.layers(self.shape), config.table_shapes(self.shape)
        names = [f"{n}.{p}" for n in layers for p in ("weight", "bias", "multiplier")]
        with safe_open(self.path, framework="numpy") as file:
            arrays = {name: file.get_tensor(f"generator.{name}") for name in names}
            prior = {name: file.get_tensor(f"generator.prior.{name}") for name in tables}
        return GeneratorParts(config, arrays, prior)

    @property
    def shape(self) -> TokenShape:
        return token_shape(self.config)

    @functools.cached_property
    def tokens_hash(self) -> str:
        """SHA-256, in hex, of what tokens and their size come from: tokenizer and first counts,
        whatever generator or transformer is beside them. Raises ModelError."""
        import torch

        digest = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        try:
            with safe_open(self.path, framework="pt") as file:
                for name in sorted(file.keys()):
                    if name.startswith(("tokenizer.", "prior.")):
                        data = file.get_tensor(name).reshape(-1).view(torch.uint8).numpy()
                        digest.update(name.encode() + b"\n" + data.tobytes())
        except _UNREADABLE as error:
            raise ModelError(f"{self.path}: {error}") from None
        return digest.hexdigest()

    def prior(self) -> Prior:
        """The entropy model's first counts. Raises ModelError."""
        shapes = prior_shapes(self.config)
        try:
            with safe_open(self.path, framework="numpy") as file:
                prior = {name: file.get_tensor(f"prior.{name}") for name in shapes}
        except _UNREADABLE as error:
            raise ModelError(f"{self.path}: {error}") from None
        for name, shape in shapes.items():
            if prior[name].shape != shape or prior[name].dtype != np.uint8:
                raise ModelError(f"{self.path}: prior.{name} has the wrong shape")
        return prior

    def tokenizer(self) -> Any:
        """The networks, a Tokenizer or a MotionTokenizer, on the CPU, ready for inference. With
        them comes torch, and with that the faster products of integers.

        Raises ModelError.
        """
        from ..device import channels_last

        prefix = "tokenizer."
        try:
            with safe_open(self.path, framework="pt") as file:
                names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                with _limited(self.path.stat().st_size):
                    tokenizer = build(self.config)
                state = {name.removeprefix(prefix): file.get_tensor(name).float() for name in names}
            tokenizer.load_state_dict(state)
        except (SafetensorError, OSError, RuntimeError, ValueError) as error:
            raise ModelError(f"{self.path}: {str(error).splitlines()[0]}") from None
        channels_last(tokenizer)
        use_torch()
        return tokenizer.eval().requires_grad_(False)


@dataclass(frozen=True)
class GeneratorParts:
    """A generator as it is written: arrays of its layers, see ``Generator.from_arrays``."""

    config: GeneratorConfig
    arrays: dict[str, NDArray[Any]]
    prior: Prior


@dataclass(frozen=True)
class TransformerParts:
    """A masked transformer as it is written. facts: as of :class:`Bundle`. state: its weights."""

    facts: dict[str, Any]
    state: dict[str, Any]


def _check_sizes(config: TokenizerConfig | MotionConfig) -> None:
    """Raises ValueError for what no networks are built of."""
    limits = {
        "latent_dim": MAX_LATENT,
        "stages": MAX_STAGES,
        "bits": MAX_BITS,
        "transform_kinds": KINDS,
        "loop_filter": 1,
    }
    for name, value in asdict(config).items():
        if name in ("family", "quantizer", "full_kernels"):
            continue
        sizes = value if isinstance(value, tuple) else (value,)
        low = 0 if "blocks" in name or name.startswith(ABSENT) else 1
        high = MAX_BLOCKS if "blocks" in name else limits.get(name, MAX_CHANNELS)
        good = all(type(size) is int and low <= size <= high for size in sizes)
        if not (good and 0 < len(sizes) <= MAX_LEVELS):
            raise ValueError(name)
    if config.quantizer not in QUANTIZERS:
        raise ValueError("quantizer")
    if isinstance(config, MotionConfig) and config.inter_context and not config.inter_width:
        raise ValueError("inter_width")
    whole = config.latent_dim == PATCH_CHANNELS
    if isinstance(config, MotionConfig) and config.transform_kinds and not whole:
        raise ValueError("transform_kinds")


@contextlib.contextmanager
def _limited(parameters: int) -> Iterator[None]:
    """Modules that are built meanwhile raise ValueError at more parameters. They are counted as
    soon as they are there, before their first values are written and so take memory."""
    from torch.nn.modules.module import register_module_parameter_registration_hook

    total = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal total
        total += 0 if parameter is None else parameter.numel()
        if total > parameters:
            raise ValueError("its configuration is of larger networks than it holds")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


@functools.lru_cache(16)
def _read(path: Path, modified: int) -> Bundle:
    try:
        with path.open("rb") as content:
            if os.fstat(content.fileno()).st_size > MAX_BUNDLE_BYTES:
                raise ModelError(f"{path}: larger than the {MAX_BUNDLE_BYTES} bytes of a bundle")
            digest = hashlib.file_digest(content, "sha256").digest()
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        description = json.loads(metadata[_KEY])
        config = config_from_dict(description["tokenizer"])
        _check_sizes(config)
        generator = description.get("generator")
        return Bundle(
            path, str(description["name"]), digest, config, description.get("card", {}),
            None if generator is None else GeneratorConfig(**generator),
            description.get("transformer"),
        )  # fmt: skip
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from None
    except SafetensorError:
        raise ModelError(f"{path}: not a safetensors file") from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        raise ModelError(f"{path}: not a neurocodec model bundle") from None


def read_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Raises ModelError."""
    path = Path(path)
    try:
        return _read(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None


def bundled() -> list[Bundle]:
    """The bundles that come with the package, by name."""
    return [read_bundle(path) for path in sorted(FOLDER.glob("*.safetensors"))]


def generator_parts(bundle: Bundle) -> GeneratorParts | None:
    """A bundle's generator, as it can be written into another one. Raises ModelError."""
    if bundle.generator_config is None:
        return None
    bundle.generator()  # raises ModelError for a damaged one
    return bundle._generator_parts(bundle.generator_config)


def find(model: str | None = None, tune: str | None = None) -> Bundle:
    """A bundle by name, path or choice of the DIAL; for None the one made for a tune, if there is
    one, or the default. Raises ModelError."""
    model = model or TUNED.get(tune or "", "default")
    model = DIAL.get(model, model)
    if model.endswith(".safetensors") or os.sep in model:
        return read_bundle(model)
    path = FOLDER / f"{model}.safetensors"
    if not path.is_file():
        names = ", ".join(p.stem for p in sorted(FOLDER.glob("*.safetensors")))
        raise ModelError(f"unknown model {model!r}; there are: {names}")
    return read_bundle(path)


def find_for(model_hash: bytes, model_name: str, model: str | None = None) -> Bundle:
    """The bundle a file was made with: the one given, or one of the package's.

    Raises ModelMismatchError, which names both hashes, and ModelError.
    """
    candidates = bundled() if model is None else [find(model)]
    for bundle in candidates:
        if bundle.hash == model_hash:
            return bundle
    here = ", ".join(f"{b.name} {b.hash.hex()[:16]}" for b in candidates) or "none"
    raise ModelMismatchError(
        f"made with model {printable(model_name)} {model_hash.hex()[:16]}, but here is {here};"
        " give the right bundle with --model"
    )


def write_bundle(
    path: str | os.PathLike[str],
    name: str,
    tokenizer: Any,
    prior: Prior,
    card: dict[str, Any],
    generator: GeneratorParts | None = None,
    transformer: TransformerParts | None = None,
) -> None:
    """Write a bundle: kernels in bf16, vectors in float32. The same input gives the same bytes."""
    import torch
    from safetensors.torch import save

    tensors = {}
    for key, value in tokenizer.state_dict().items():
        kernel = value.dim() >= 3 or key.endswith("correction")
        value = value.detach().cpu().to(torch.bfloat16 if kernel else torch.float32)
        tensors[f"tokenizer.{key}"] = value.contiguous()
    for key, table in prior.items():
        tensors[f"prior.{key}"] = torch.from_numpy(np.ascontiguousarray(table, np.uint8))
    description = {"name": name, "tokenizer": tokenizer.config.to_dict(), "card": card}
    if generator is not None:
        description["generator"] = generator.config.to_dict()
        for key, array in {
            **generator.arrays, **{f"prior.{k}": v for k, v in generator.prior.items()}
        }.items():  # fmt: skip
            tensors[f"generator.{key}"] = torch.from_numpy(np.ascontiguousarray(array))
    if transformer is not None:
        description["transformer"] = transformer.facts
        for key, value in transformer.state.items():
            value = value.detach().cpu().to(torch.bfloat16 if value.dim() > 1 else torch.float32)
            tensors[f"transformer.{key}"] = value.contiguous()
    data = save(tensors, {_KEY: json.dumps(description, sort_keys=True)})
    part = Path(f"{path}.part")
    part.write_bytes(data)
    os.replace(part, path)
