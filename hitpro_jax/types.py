"""Types that every part of the package shares: modalities, batches of clips, mined positives, the state of training.

Nothing here imports JAX at run time, so that processes which only read frames start without it.
B clips, T frames, H x W pixels, P prototypes (one a tracklet), D features, K positives, A ambiguous, V views.
"""

from typing import Any, Literal, NamedTuple

Array = Any  # a NumPy array on the host, or a JAX array on devices; dtype and shape stand beside each field
PyTree = Any  # arrays in nested dicts, tuples and NamedTuples

RGB, IR = 0, 1
MODALITIES = 2
KINDS = "visible", "infrared"  # by modality, as messages call it

Layout = Literal["rgb", "ir", "interleaved"]
RGB_ONLY: Layout = "rgb"
IR_ONLY: Layout = "ir"
INTERLEAVED: Layout = "interleaved"  # RGB and IR clips in turn: rgb, ir, rgb, ir ...


class TrackletInfo(NamedTuple):
    """What the training path may know of each tracklet besides its frames; never a person id."""

    modality: Array  # [P] int32, 0 RGB, 1 IR
    camera: Array  # [P] int32, the physical camera
    view: Array  # [P] int32, dense id of (modality, camera)
    valid: Array  # [P] bool, False for padding rows


class Clips(NamedTuple):
    """A batch of clips as the input pipeline gives it."""

    frames: Array  # [B, T, H, W, 3] uint8, RGB order; a stand-in where mask is False, zero in filling rows
    mask: Array  # [B, T] bool, False for a frame that could not be read and in rows that only fill the batch
    tracklet: Array  # [B] int32, row of the tracklet; -1 where no frame of it could be read and in filling rows
    modality: Array  # [B] int32
    part: Array  # [B] int32, sub-tracklet of the clip; 0 in training, -1 in filling rows
    unreadable: Array  # [B] int32, distinct frames of the clip that could not be read


class Encoded(NamedTuple):
    """Features of a batch of clips: unit vectors in one space; rows of padded frames mean nothing."""

    tracklet: Array  # [B, D] float32
    frame: Array  # [B, T, D] float32


class Positives(NamedTuple):
    """Mined positives of each prototype."""

    index: Array  # [P, K] int32, -1 for none
    weight: Array  # [P, K] float32, rows sum to 1 or are 0
    ignore: Array  # [P, A] int32, ambiguous candidates, neither positive nor negative; -1 for none
    threshold: Array  # [2] float32, theta by modality of the anchor, `previous` of the next refresh


class Mined(NamedTuple):
    """What a refresh found, alike for every method: batches draw partners from it, diagnostics describe it."""

    prototypes: Array  # [P, D] float32 unit rows
    reliability: Array  # [P] float32, agreement of a tracklet's parts
    within: Positives  # same modality, other cameras
    across: Positives  # other modality
    same_view: Array  # [P, A] int32, prototypes of the own view that look like the same person; -1 for none
    label: Array | None  # [P] int32, cluster of each tracklet, -1 for none; None for a method without clusters


class TrainState(NamedTuple):
    """All that a run needs to go on bit for bit; the order of data is a pure function of seed, step and memory."""

    step: Array  # [] int32, optimiser steps done
    params: Any  # pytree of float32 arrays
    batch_stats: Any  # pytree of float32 arrays, running statistics of BatchNorm
    opt_state: Any  # pytree of arrays
    memory: Any  # pytree of arrays that belongs to the method

    @property
    def variables(self) -> dict:
        """What the encoder's `apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}
