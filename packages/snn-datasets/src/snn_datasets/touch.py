"""A pad of 10 x 10 taxels that a fingertip writes on: simulated, with the faults that such sensors have.

A taxel sends an event when it is pressed and one when it is let go, as the pads of event-based touch do (See et al.
2020, ST-MNIST, arXiv:2005.04319).
"""

# torch leaves some of its own signatures open.
# pyright: reportUnknownMemberType=false
from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Generator, Tensor

from snn_datasets.pen_path import POINTS, PenPaths
from snn_datasets.recordings import Events

TAXELS = 10
"""Along each side of the pad."""
WINDOW_US = 2_000_000
"""Every recording lasts 2 s."""
TICK_US = 10_000
"""The finger is followed in steps of 10 ms."""

LATEST_ONSET = 0.25
"""Writing starts within the first quarter of a second,"""
WRITING = (1.3, 1.7)
"""and takes 1.3 to 1.7 s, large digits no longer than small ones: hands keep time rather than speed (isochrony)."""
HEIGHT = (0.75, 0.95)
"""The image is written on this part of the pad's sides,"""
OFFSET = 0.6
"""and up to so many taxels off its middle."""
REACH = 0.9
"""Taxels whose centers are nearer to the fingertip than this, in taxels, are pressed."""
JITTER_US = 10_000
"""Standard deviation of the time at which a taxel answers."""
STRAY_US = 50_000
"""Mean length of a press that nobody made."""
MOST_STRAYS = 16
"""Of one taxel in one recording; more than the highest rate asked for will ever give."""


def write_on_pad(paths: PenPaths, *, missed: float, stray: float, generator: Generator) -> list[Events]:
    """Write N digits on the pad.

    Args:
        paths: of the fingertip.
        missed: chance of each press to go unnoticed, with its release.
        stray: presses a second at each taxel that nobody made; up to 2.
        generator: decides speed, place, jitter and noise. More of one noise leaves everything else as it was.

    Returns:
        N recordings of 2 s; polarity 1 is a press, 0 a release.
    """
    N, ticks = len(paths.places), WINDOW_US // TICK_US
    contact = _contact(paths, ticks, torch.rand(5, N, 1, generator=generator))  # [N, row, column, tick]
    before, after = torch.zeros(2, N, TAXELS, TAXELS, ticks, dtype=torch.bool)
    before[..., 1:] = contact[..., :-1]
    after[..., :-1] = contact[..., 1:]
    # In order of recording, taxel and time: the n-th press and the n-th release belong together.
    presses, releases = (contact & ~before).nonzero(), (contact & ~after).nonzero()
    jitter = JITTER_US * torch.randn(2, len(presses), generator=generator)
    felt = torch.rand(len(presses), generator=generator) >= missed
    on = presses[:, 3] * TICK_US + jitter[0]
    off = (releases[:, 3] + 1) * TICK_US + jitter[1]

    # The times of a Poisson process are sums of exponential waits; scaling them by the rate keeps the same presses.
    waits, lengths = torch.empty(2, N, TAXELS, TAXELS, MOST_STRAYS).exponential_(generator=generator)
    times = waits.cumsum(3) / max(stray, 1e-9) * 1e6
    strays = (times < WINDOW_US).nonzero()
    stray_on = times[tuple(strays.T)]
    stray_off = stray_on + STRAY_US * lengths[tuple(strays.T)]

    which = torch.cat([presses[felt, :3], strays[:, :3]])
    on, off = torch.cat([on[felt], stray_on]), torch.cat([off[felt], stray_off])
    on = on.clamp(0, WINDOW_US - 1)
    off = torch.maximum(on, off).clamp(max=WINDOW_US - 1)  # whoever still presses at the end is let go there
    t = torch.cat([on, off]).long().numpy()
    recording, y, x = torch.cat([which, which]).T.numpy()
    p = np.repeat([1, 0], len(which))
    order = np.lexsort((t, recording))
    ends = np.searchsorted(recording[order], np.arange(N + 1))
    parts = [order[first:end] for first, end in pairwise(ends)]
    return [
        Events.of(t=t[part], x=x[part], y=y[part], p=p[part], size=(TAXELS, TAXELS), duration=WINDOW_US)
        for part in parts
    ]


def _contact(paths: PenPaths, ticks: int, chance: Tensor) -> Tensor:
    """Which taxels the fingertip is on.

    Shape: paths of N digits, chance [5, N, 1] in 0..1 -> bool [N, row, column, tick]
    """
    onset = LATEST_ONSET * chance[0]
    takes = WRITING[0] + (WRITING[1] - WRITING[0]) * chance[1]
    progress = (torch.arange(ticks) * (TICK_US / 1e6) - onset) / takes  # [N, tick]
    place = (progress * (POINTS - 1)).clamp(0, POINTS - 1)
    last = place.floor().long().clamp(max=POINTS - 2)
    part = (place - last)[..., None]
    N = len(last)
    row = torch.arange(N)[:, None]
    at = (1 - part) * paths.places[row, last] + part * paths.places[row, last + 1]  # [N, tick, 2]
    down = paths.down[row, last] & (progress >= 0) & (progress <= 1)
    height = HEIGHT[0] + (HEIGHT[1] - HEIGHT[0]) * chance[2]
    offset = OFFSET * (2 * chance[3:] - 1)
    x, y = (TAXELS * (0.5 + height * (at[..., axis] - 0.5)) + offset[axis] for axis in range(2))
    centers = torch.arange(TAXELS) + 0.5
    distance = (centers[:, None, None] - y[:, None, None]).square() + (centers[:, None] - x[:, None, None]).square()
    return (distance < REACH**2) & down[:, None, None]
