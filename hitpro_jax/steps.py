"""The compiled pure steps of training: jitted functions with named shardings over the device mesh."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from hitpro_jax.embedding import Embed, make_embed
from hitpro_jax.kernels.mining import Group
from hitpro_jax.models.encoder import Encoder
from hitpro_jax.sharding import batch_sharding, replicated
from hitpro_jax.types import TrainState


class Steps(NamedTuple):
    """embed: variables, frames, mask, layout -> features.
    refresh: state, parts [P, S, D], part_mask [P, S], group -> state with a fresh memory.
    train: state, clips, group, layout -> (state, metrics); the old state's buffers are given up.
    """

    embed: Embed
    refresh: Callable[..., TrainState]
    train: Callable[..., tuple[TrainState, dict]]


def make_steps(encoder: Encoder, optimiser: optax.GradientTransformation, method: Any, total_steps: int,
               mesh: Mesh) -> Steps:
    """Compiles a method. Parameters and memory are replicated, clips are sharded over the mesh.

    BatchNorm statistics are those of the global batch, whatever the number of devices.
    """
    rows, whole = batch_sharding(mesh), replicated(mesh)

    def refresh(state: TrainState, parts, part_mask, group: Group) -> TrainState:
        memory = method.refresh(state.memory, parts, part_mask, group, state.step / total_steps)
        return state.replace(memory=memory)

    def train(state: TrainState, clips, group: Group, layout: str):
        progress = state.step / total_steps

        def loss_fn(params):
            encoded, updates = encoder.apply(
                {"params": params, "batch_stats": state.batch_stats}, clips["frames"], clips["mask"], layout,
                train=True, mutable=["batch_stats"])
            loss, terms = method.loss(state.memory, encoded, clips, group, progress)
            return loss, (encoded.tracklet, updates["batch_stats"], terms)

        (loss, (features, statistics, terms)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), **terms}
        return TrainState(
            step=state.step + 1, params=optax.apply_updates(state.params, updates), batch_stats=statistics,
            opt_state=opt_state, memory=method.update(state.memory, features, clips["tracklet"])), metrics

    return Steps(
        embed=make_embed(encoder, mesh),
        refresh=jax.jit(refresh, in_shardings=(whole, whole, whole, whole), out_shardings=whole, donate_argnums=0),
        train=jax.jit(train, static_argnums=3, in_shardings=(whole, rows, whole), out_shardings=whole,
                      donate_argnums=0))


def initial_state(variables: dict, optimiser: optax.GradientTransformation, memory: Any) -> TrainState:
    """Step 0: the encoder's variables, a new optimiser state and an empty memory."""
    return TrainState(step=jnp.zeros((), jnp.int32), params=variables["params"],
                      batch_stats=variables["batch_stats"], opt_state=optimiser.init(variables["params"]),
                      memory=memory)
