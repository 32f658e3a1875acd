"""Losses of the baselines over pseudo-labels, neighbours or identities.

They return loss [B] and has [B] bool: which clips have a term.
"""

import chex
import jax
import jax.numpy as jnp

from hitpro_jax.kernels.prototypes import unit
from hitpro_jax.kernels.search.candidates import similarity


def sum_of_means(loss: jax.Array, has: jax.Array, part: jax.Array, *, parts: int) -> jax.Array:
    """Mean over the clips of each part (modality or camera) that have the term, summed over parts.

    Args:
      loss: [B].
      has: [B] bool.
      part: [B].
      parts: their number, static.

    Source: ADCA (modalities), CAP (cameras).

    >>> loss, part = jnp.array([2., 4., 9.]), jnp.array([0, 0, 1])
    >>> float(sum_of_means(loss, loss < 9, part, parts=2))
    3.0
    """
    chex.assert_equal_shape([loss, has, part])
    mine = has & (part == jnp.arange(parts)[:, None])
    return jnp.sum(jnp.sum(jnp.where(mine, loss, 0.0), axis=1) / jnp.maximum(jnp.sum(mine, axis=1), 1))


def neighbours_of(likeness: jax.Array, candidate: jax.Array, *, share: float | jax.Array) -> jax.Array:
    """{j: s_ij > share max_j s_ij} of similarities and candidates [B, P], share in [0, 1) (from SDCL).

    >>> neighbours_of(jnp.array([[1., .95, .5]]), jnp.ones((1, 3), bool), share=.9).tolist()
    [[True, True, False]]
    """
    chex.assert_equal_shape([likeness, candidate])
    best = jnp.max(jnp.where(candidate, likeness, -jnp.inf), axis=1, keepdims=True)
    # below 0 a share of the best has no meaning, as in `thresholds.row_threshold`
    return candidate & (best > 0) & (likeness > share * best)


def neighbour_loss(
    similarity: jax.Array, neighbour: jax.Array, candidate: jax.Array, *, temperature: float | jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Neighbour learning: l = -1 / (|N| + 1) sum_{j in N} log( exp(s_j / tau) / sum_{k in C} exp(s_k / tau) ).

    Args:
      similarity: [B, P].
      neighbour: [B, P] bool, N, within C.
      candidate: [B, P] bool, C.
      temperature: tau > 0.

    Source: SDCL.

    >>> one = jnp.ones((1, 1), bool)
    >>> neighbour_loss(jnp.zeros((1, 1)), one, one, temperature=1.)[0].tolist()
    [0.0]
    """
    chex.assert_equal_shape([similarity, neighbour, candidate])
    has = jnp.any(neighbour, axis=1)
    logits = jnp.where(has[:, None], similarity, 0.0) / temperature  # no term: harmless numbers, no gradient
    log_sum = jax.nn.logsumexp(jnp.where(candidate | ~has[:, None], logits, -jnp.inf), axis=1)
    count = jnp.sum(neighbour, axis=1)
    total = count * log_sum - jnp.sum(jnp.where(neighbour, logits, 0.0), axis=1)
    return jnp.where(has, total / (count + 1), 0.0), has  # + 1 damps clips of few neighbours (SDCL)


def identity_entropy(
    features: jax.Array, proxies: jax.Array, label: jax.Array, *, temperature: float
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy over identities: -log( exp(<z, unit w_y> / tau) / sum_c exp(<z, unit w_c> / tau) ).

    Args:
      features: [B, D] unit rows z.
      proxies: [C, D] w, trained.
      label: [B] y.
      temperature: tau > 0.

    >>> identity_entropy(jnp.eye(1), jnp.eye(1), jnp.array([0]), temperature=1.)[0].tolist()
    [0.0]
    """
    chex.assert_rank([features, proxies, label], [2, 2, 1])
    logits, has = similarity(features, unit(proxies)) / temperature, label >= 0
    aim = jnp.take_along_axis(logits, jnp.maximum(label, 0)[:, None], axis=1)[:, 0]  # -1 would be the last class
    return jnp.where(has, jax.nn.logsumexp(logits, axis=1) - aim, 0.0), has


def batch_hard_triplet(features: jax.Array, label: jax.Array, *, margin: float) -> tuple[jax.Array, jax.Array]:
    """Batch-hard triplet loss on cosines: max(0, hardest negative - hardest positive + margin).

    Args:
      features: [B, D] unit rows.
      label: [B] identities.
      margin: of the cosines.

    Source: Hermans et al. 2017.

    >>> batch_hard_triplet(jnp.eye(2), jnp.array([0, 1]), margin=1.5)[0].tolist()
    [0.5, 0.5]
    """
    chex.assert_rank([features, label], [2, 1])
    cosine, has = similarity(features, features), label >= 0
    same = label[:, None] == label[None]
    # 2 and -2 lie outside of all cosines: a row that does not count is never the hardest
    positive = jnp.min(jnp.where(same & has, cosine, 2.0), axis=1)
    negative = jnp.max(jnp.where(same | ~has, -2.0, cosine), axis=1)
    return jnp.where(has, jnp.maximum(negative - positive + margin, 0.0), 0.0), has
