"""How hard an encoder looks, by ``--effort``, and what it is tuned for, by ``--tune``."""

from __future__ import annotations

from dataclasses import dataclass

REACH = 8  # frames that the temporal filter looks at before and behind, at most
# Masking of pictures, in units of 1/MASKING_ONE, by what a file is tuned for. The default gives up
# next to no PSNR. For grain there is no temporal filter
TUNES = {"psnr": 0, "balanced": 16, "ms-ssim": 45, "grain": 16}
DEFAULT_TUNE, GRAIN = "balanced", "grain"


@dataclass(frozen=True)
class Effort:
    """How hard to look. coarse, fine: moves of the refinement in quarter pixels, of large blocks
    and of cells; rounds: how often blocks look at their neighbours; both: moves of pairs. trials:
    of every so many groups of frames one is tried in mini-GOPs of each length; 0: none. reach: of
    the temporal filter, in frames; 0: none. merges: sides, in cells, of the blocks that are offered
    in turn what their neighbours have, once all have something. smooth: how
    many strengths of the loop filter are tried, up to two; 0: decoded pictures are not smoothed."""

    coarse: tuple[int, ...] = (16, 8, 4, 2, 1)
    fine: tuple[int, ...] = (4, 2, 1)
    rounds: int = 2
    both: tuple[int, ...] = (2, 1)
    trials: int = 0
    reach: int = REACH
    merges: tuple[int, ...] = (4, 2, 1, 1)
    smooth: int = 2


EFFORTS = {
    "fast": Effort(
        coarse=(16, 4), fine=(2, 1), rounds=1, both=(), reach=2, merges=(4, 2, 1), smooth=1
    ),
    "medium": Effort(),
    "slow": Effort(rounds=4, trials=1, merges=(4, 2, 1, 1, 1)),
}
