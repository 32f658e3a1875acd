"""Batches of clips for tests, with what a test does not care about filled in."""

import numpy as np

from hitpro_jax.types import Clips


def clips_of(tracklet, *, mask=None, frames=None, modality=None, part=None) -> Clips:
    """Clips of the tracklets [B]; two readable frames each, of 1 x 1 pixel, unless other arrays are given."""
    tracklet = np.asarray(tracklet, np.int32)
    zero = np.zeros_like(tracklet)
    mask = np.ones((len(tracklet), 2), bool) if mask is None else mask
    return Clips(
        frames=np.zeros((*mask.shape, 1, 1, 3), np.uint8) if frames is None else frames,
        mask=mask,
        tracklet=tracklet,
        modality=zero if modality is None else np.asarray(modality, np.int32),
        part=zero if part is None else np.asarray(part, np.int32),
        unreadable=zero,
    )
