"""The nearest stored example, in pixels or whatever the numbers of an example are."""

import torch
from torch import Tensor

from twoplayer.data.base import to_unit_range

CHUNK = 4_000
FEW_NUMBERS = 32


def nearest(examples: Tensor, stored: Tensor, left_out: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distances (N) of examples (N, ...) to the nearest of the stored ones, and their indices (N).

    `stored` (M, ...) is as the data store it. `left_out` (N) is the index of one stored example for
    each that does not count.
    """
    # Products are faster, and too coarse for the small distances of points.
    mode = "use_mm_for_euclid_dist" if stored[0].numel() > FEW_NUMBERS else "donot_use_mm_for_euclid_dist"
    flat = examples.flatten(1).float()
    best = torch.full((len(flat),), torch.inf, device=flat.device)
    index = torch.zeros(len(flat), dtype=torch.int64, device=flat.device)
    rows = torch.arange(len(flat), device=flat.device)
    for start in range(0, len(stored), CHUNK):
        chunk = to_unit_range(stored[start : start + CHUNK].to(flat.device)).flatten(1).float()
        distances = torch.cdist(flat, chunk, compute_mode=mode)
        if left_out is not None:
            inside = (left_out >= start) & (left_out < start + len(chunk))
            distances[rows[inside], left_out[inside] - start] = torch.inf
        values, places = distances.min(1)
        best, index = torch.where(values < best, values, best), torch.where(values < best, places + start, index)
    return best, index
