"""Simulation of a pad of 10 x 10 taxels that a fingertip writes on, with the faults of such sensors.

A taxel sends an event when it is pressed and one when it is released, as in ST-MNIST (See et al. 2020,
arXiv:2005.04319).
"""

# Some signatures of torch are untyped.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Generator, Tensor

from snn_datasets.base.recordings import Events
from snn_datasets.digits.pen_path import POINTS, PenPaths

TAXELS = 10
"""Taxels along each side of the pad."""
WINDOW_US = 2_000_000
"""Duration of every recording, 2 s."""
TICK_US = 10_000
"""Time step of the simulation, 10 ms."""

LATEST_ONSET = 0.25
"""Latest start of writing in seconds."""
WRITING = (1.3, 1.7)
"""Duration of writing in seconds, independent of the size of the digit (isochrony of handwriting)."""
HEIGHT = (0.75, 0.95)
"""Size of the written image, as a fraction of the pad's side."""
OFFSET = 0.6
"""Largest offset of the image from the center of the pad, in taxels."""
REACH = 0.9
"""A taxel is pressed if its center is nearer to the fingertip than this, in taxels."""
JITTER_US = 10_000
"""Standard deviation of the response time of a taxel."""
STRAY_US = 50_000
"""Mean length of a stray press."""
MOST_STRAYS = 16
"""Stray presses of one taxel in one recording, more than the highest allowed rate produces."""


def write_on_pad(paths: PenPaths, *, missed: float, stray: float, generator: Generator) -> list[Events]:
    """Write N digits on the pad.

    Args:
        paths: paths of the fingertip.
        missed: probability that a press and its release are missed.
        stray: rate of stray presses per second and taxel, up to 2.
        generator: draws speed, position, jitter and noise. Changing one noise level leaves all other draws unchanged.

    Returns:
        N recordings of 2 s; polarity 1 is a press, 0 a release.
    """
    N, ticks = len(paths.positions), WINDOW_US // TICK_US
    contact = _contact(paths, ticks, torch.rand(5, N, 1, generator=generator))  # [N, row, column, tick]
    before, after = torch.zeros(2, N, TAXELS, TAXELS, ticks, dtype=torch.bool)
    before[..., 1:] = contact[..., :-1]
    after[..., :-1] = contact[..., 1:]
    # Both are ordered by recording, taxel and time, so the n-th press and the n-th release belong together.
    presses, releases = (contact & ~before).nonzero(), (contact & ~after).nonzero()
    jitter = JITTER_US * torch.randn(2, len(presses), generator=generator)
    is_registered = torch.rand(len(presses), generator=generator) >= missed
    on = presses[:, 3] * TICK_US + jitter[0]
    off = (releases[:, 3] + 1) * TICK_US + jitter[1]

    # The times of a Poisson process are sums of exponential waits; scaling by the rate reuses the same draws.
    waits, lengths = torch.empty(2, N, TAXELS, TAXELS, MOST_STRAYS).exponential_(generator=generator)
    times = waits.cumsum(3) / max(stray, 1e-9) * 1e6
    strays = (times < WINDOW_US).nonzero()
    stray_on = times[tuple(strays.T)]
    stray_off = stray_on + STRAY_US * lengths[tuple(strays.T)]

    taxels = torch.cat([presses[is_registered, :3], strays[:, :3]])
    on, off = torch.cat([on[is_registered], stray_on]), torch.cat([off[is_registered], stray_off])
    on = on.clamp(0, WINDOW_US - 1)
    off = torch.maximum(on, off).clamp(max=WINDOW_US - 1)  # a press at the end is released at the end
    t = torch.cat([on, off]).long().numpy()
    recording, y, x = torch.cat([taxels, taxels]).T.numpy()
    p = np.repeat([1, 0], len(taxels))
    order = np.lexsort((t, recording))
    ends = np.searchsorted(recording[order], np.arange(N + 1))
    parts = [order[first:end] for first, end in pairwise(ends)]
    return [
        Events.of(t=t[part], x=x[part], y=y[part], p=p[part], size=(TAXELS, TAXELS), duration=WINDOW_US)
        for part in parts
    ]


def _contact(paths: PenPaths, ticks: int, draws: Tensor) -> Tensor:
    """Return which taxels the fingertip presses.

    Shape: paths of N digits, uniform draws [5, N, 1] in 0..1 -> bool [N, row, column, tick]
    """
    onset = LATEST_ONSET * draws[0]
    duration = WRITING[0] + (WRITING[1] - WRITING[0]) * draws[1]
    progress = (torch.arange(ticks) * (TICK_US / 1e6) - onset) / duration  # [N, tick]
    point = (progress * (POINTS - 1)).clamp(0, POINTS - 1)
    last = point.floor().long().clamp(max=POINTS - 2)
    part = (point - last)[..., None]
    N = len(last)
    row = torch.arange(N)[:, None]
    at = (1 - part) * paths.positions[row, last] + part * paths.positions[row, last + 1]  # [N, tick, 2]
    down = paths.down[row, last] & (progress >= 0) & (progress <= 1)
    height = HEIGHT[0] + (HEIGHT[1] - HEIGHT[0]) * draws[2]
    offset = OFFSET * (2 * draws[3:] - 1)
    x, y = (TAXELS * (0.5 + height * (at[..., axis] - 0.5)) + offset[axis] for axis in range(2))
    centers = torch.arange(TAXELS) + 0.5
    distance = (centers[:, None, None] - y[:, None, None]).square() + (centers[:, None] - x[:, None, None]).square()
    return (distance < REACH**2) & down[:, None, None]
