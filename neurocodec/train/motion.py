"""Training of the ``motion`` tokenizer: what runs learn from, and where they begin."""

from __future__ import annotations

import logging
from pathlib import Path

from ..errors import UsageError
from ..models import Bundle
from .chains import CLIPS, CROP, ChainBatches, Chains, make_chains
from .data import Batches, load_footage, load_sources, validation_clips
from .motion_run import MotionRun, MotionTrainConfig
from .motion_validation import validation_windows
from .run import load_checkpoint, refuse_folder_of_a_run
from .windows import FRAMES, SIDE, WindowBatches, Windows, make_windows

logger = logging.getLogger(__name__)

SOURCE_FRAMES = 10  # fewest of a video; more than twice as many are kept of it
SOURCE_SIDE = 384  # pixels, the shorter one
PHOTO_ODDS = 0.6  # of intra pictures
WINDOW_COUNT = 2000


def _begin(run: MotionRun) -> None:
    run.out.mkdir(parents=True, exist_ok=True)
    if run.done == 0:
        run.validate()


def train_windows(run: MotionRun, batches: WindowBatches, progress: bool = False) -> None:
    if run.done == 0 and run.config.part == "inter":
        run.refresh()
    _begin(run)
    windows = run.done * run.config.pictures_per_step // (FRAMES - 1)
    run.loop(batches.iterate(windows), run.window_step, run.validate, progress)


def train_chains(run: MotionRun, batches: ChainBatches, progress: bool = False) -> None:
    _begin(run)
    run.loop(batches.iterate(run.done), run.chain_step, run.validate, progress)


def train_intra(run: MotionRun, batches: Batches, progress: bool = False) -> None:
    """batches: of one-frame clips (B, 6, 1, H/2, W/2)."""
    _begin(run)
    pictures = (planes[:, :, 0] for planes in batches.iterate(run.done))
    run.loop(pictures, run.intra_step, run.validate, progress)


def train_motion(
    data: Path,
    out: Path,
    config: MotionTrainConfig,
    validation: Path | None = None,
    windows: Path | None = None,
    count: int | None = None,
    other: Path | None = None,
    resume: bool = False,
    device: str = "auto",
    progress: bool = False,
    start: Bundle | None = None,
    footage: bool = False,
    chains: Path | None = None,
) -> None:
    """Train in ``out`` on the videos and photographs of ``data``, see ``list_media``.

    windows: file of training windows, ``count`` of which are made where it does not exist; by
    default one in ``out``. chains: for part inter instead of windows, file of pictures from far
    inside GOPs, for which ``start`` codes ``count`` clips where it does not exist. other: run of
    the intra part, for an inter part. start: bundle to start from. footage: data is one's own, see
    ``load_footage``. Without a validation folder every 40th video is held out. Raises DataError,
    InputError, UsageError.
    """
    if other is not None:
        if config.part != "inter":
            raise UsageError("another run's weights are for part inter alone")
        load_checkpoint(other)
    if chains is not None:
        if config.part != "inter":
            raise UsageError("pictures from inside GOPs are for part inter alone")
        if start is None and not chains.exists():
            raise UsageError(f"{chains}: not there, and no bundle to make it with")
    if config.crop % 32:
        raise UsageError(f"crop {config.crop}: give a multiple of 32")
    run = MotionRun(config, out, device, other)
    if not resume:
        refuse_folder_of_a_run(out)
    if resume:
        run.resume()
    elif start is not None:
        run.start_from_bundle(start)
    intra = config.part == "intra"
    crop = config.crop if intra else SIDE
    if footage:
        sources = load_footage(data, SOURCE_FRAMES, crop)
    else:
        sources = load_sources(data, SOURCE_FRAMES, crop, SOURCE_SIDE)
    if validation is not None:
        held_out = load_sources(validation, FRAMES, 32, halve=False)
    else:
        held_out = sources.hold_out(40)
    out.mkdir(parents=True, exist_ok=True)
    logger.info("%d videos, %d photographs, %d files skipped, %d videos held out",
                len(sources.videos), len(sources.photos), sources.skipped,
                len(held_out.videos))  # fmt: skip
    clips = validation_clips(held_out, 1 if intra else FRAMES)
    run.validation = validation_windows(clips, config.part != "intra")
    if intra:
        batches = Batches(sources, config.batch, 1, config.crop, config.seed, PHOTO_ODDS)
        train_intra(run, batches, progress)
        return
    if chains is not None:
        if not chains.exists():
            assert start is not None
            made = make_chains(start.tokenizer(), sources, count or CLIPS, config.seed)
            made.save(chains)
        pictures = ChainBatches(Chains.load(chains), config.batch, CROP, config.seed)
        train_chains(run, pictures, progress)
        return
    file = windows or out / "windows.pt"
    if not file.exists():
        make_windows(sources, count or WINDOW_COUNT, config.seed).save(file)
    train_windows(run, WindowBatches(Windows.load(file), config.batch, config.seed), progress)
