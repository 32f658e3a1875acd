"""What the tracklets of one view or modality share, and how to leave it out of their prototypes.

P prototypes, D features, V views.
"""

import jax
import jax.numpy as jnp

from hitpro_jax.kernels.prototypes import apart
from hitpro_jax.kernels.segments import segment_mean
from hitpro_jax.types import MODALITIES, TrackletInfo

PRIOR = 5.0  # tracklets of its modality that count along with those of a view in its centre (choice)


def view_centres(prototypes: jax.Array, info: TrackletInfo, *, num_views: int) -> jax.Array:
    """What the view of each prototype sees on average; `apart` from it, prototypes tell persons better.

    c_v = (n_v mean_v + PRIOR mean_m) / (n_v + PRIOR), n_v the view's tracklets, mean_m that of its modality.
    Choice: a view's mean is its light, scene and sensor; `mining.view_bias` only moves all similarities of two views
    by one number, which leaves in place that some tracklets are near to everything of the other camera. Views of few
    tracklets are drawn to the modality's mean, since the mean of one tracklet is that tracklet.

    Args:
      prototypes: [P, D] float32 unit rows.
      info: of the rows; padding does not count.
      num_views: V, static.

    Returns:
      [P, D] float32, c_v of each row's view.

    >>> info = TrackletInfo(jnp.zeros(2, int), jnp.arange(2), jnp.arange(2), jnp.ones(2, bool))
    >>> print(jax.jit(lambda bank: view_centres(bank, info, num_views=2))(jnp.eye(2)).round(2))
    [[0.58 0.42]
     [0.42 0.58]]
    """
    modality_mean, _ = _means(prototypes, info.modality, info.valid, MODALITIES)
    view_mean, sizes = _means(prototypes, info.view, info.valid, num_views)
    share = (sizes / (sizes + PRIOR))[info.view][:, None]
    return share * view_mean[info.view] + (1.0 - share) * modality_mean[info.modality]


def remove_modality_mean(features: jax.Array, info: TrackletInfo) -> jax.Array:
    """Takes the modality's mean out of each row: unit(q_i - mean of q over i's modality).

    Choice: the mean is what all tracklets of a modality share, so it tells modality and not person.

    Args:
      features: [P, D] float32.
      info: of the rows; padding does not count.

    Returns:
      [P, D] float32; a row within 1e-6 of its mean becomes 0, as rounding has no direction.

    >>> info = TrackletInfo(jnp.array([0, 0, 1]), *jnp.zeros((2, 3), int), jnp.ones(3, bool))
    >>> jax.jit(remove_modality_mean)(jnp.array([[3., 0.], [1., 0.], [5., 5.]]), info).tolist()
    [[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]
    """
    mean, _ = _means(features, info.modality, info.valid, MODALITIES)
    return apart(features, mean[info.modality])


def _means(features: jax.Array, ids: jax.Array, valid: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """Mean [G, D] and size [G] of each group of valid rows."""
    return segment_mean(features, jnp.where(valid, ids, -1), num_segments=count)
