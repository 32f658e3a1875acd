"""What the tracklets of one view or modality share, and how to leave it out."""

import jax
import jax.numpy as jnp

from hitpro_jax.kernels.prototypes import direction_from
from hitpro_jax.kernels.segments import segment_mean
from hitpro_jax.types import MODALITIES, TrackletInfo

PRIOR = 5.0  # tracklets of its modality that count along with those of a view in its centre (choice)


def view_centres(prototypes: jax.Array, info: TrackletInfo, *, num_views: int) -> jax.Array:
    """Centre of the view of each prototype (see `prototypes.direction_from`).

    c_v = (n_v mean_v + PRIOR mean_m) / (n_v + PRIOR), n_v tracklets of the view, m its modality.

    Args:
      prototypes: [P, D] unit rows.
      info: of the rows.
      num_views: V, static.

    Returns:
      [P, D], c_v of each row's view.

    >>> info = TrackletInfo(*jnp.zeros((3, 2), int), jnp.ones(2, bool))
    >>> view_centres(jnp.eye(2), info, num_views=1)[0].tolist()
    [0.5, 0.5]
    """
    # a view's mean is its light, scene and sensor: it describes the place, not the person
    modality_mean, _ = _means(prototypes, info.modality, info.valid, MODALITIES)
    view_mean, sizes = _means(prototypes, info.view, info.valid, num_views)
    # the mean of one tracklet is that tracklet: a view of few is drawn to its modality's mean
    share = (sizes / (sizes + PRIOR))[info.view][:, None]
    return share * view_mean[info.view] + (1.0 - share) * modality_mean[info.modality]


def remove_modality_mean(features: jax.Array, info: TrackletInfo) -> jax.Array:
    """unit(q_i - mean of q over i's modality) of features [P, D].

    >>> info = TrackletInfo(*jnp.zeros((3, 2), int), jnp.ones(2, bool))
    >>> remove_modality_mean(jnp.array([[3., 0.], [1., 0.]]), info).tolist()
    [[1.0, 0.0], [-1.0, 0.0]]
    """
    # what all tracklets of a modality share is its modality, and not a person
    mean, _ = _means(features, info.modality, info.valid, MODALITIES)
    return direction_from(features, mean[info.modality])


def _means(features: jax.Array, ids: jax.Array, valid: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Mean [G, D] and size [G] of each group of valid rows."""
    return segment_mean(features, jnp.where(valid, ids, -1), num_segments=count)
