"""The compiled pure steps of training: jitted functions with named shardings over the device mesh."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from hitpro_jax.encode import Embed, make_embed
from hitpro_jax.models.encoder import Encoder
from hitpro_jax.sharding import parameter_sharding, replicated, row_sharding
from hitpro_jax.types import TrackletInfo, TrainState

OWN = "method"  # where parameters of the method's own lie among the encoder's, which reads only its own names


class Steps(NamedTuple):
    """embed: variables, frames, mask, layout -> features.
    refresh: state, parts [P, S, D], part_mask [P, S], group -> state with a fresh memory.
    train: state, clips, group, layout -> (state, metrics); the old state's buffers are given up.
    """

    embed: Embed
    refresh: Callable[..., TrainState]
    train: Callable[..., tuple[TrainState, dict]]


def make_steps(
    encoder: Encoder,
    optimiser: optax.GradientTransformation,
    method: Any,
    total_steps: int,
    mesh: Mesh,
    where: TrainState,
) -> Steps:
    """Compiles a method; a refresh that works `on_host` stays a plain function.

    Clips, memory and group are cut by rows over the mesh. Where the parameters are cut too, each device gathers them
    before its forward pass and keeps its own part of their update. BatchNorm statistics are those of the global batch
    (or of groups of it), whatever the number of devices.

    Args:
      total_steps: of the training, static.
      where: shardings of the state, from `state_sharding`.
    """
    rows, whole = row_sharding(mesh), replicated(mesh)

    def refresh(state: TrainState, parts, part_mask, info: TrackletInfo) -> TrainState:
        memory = method.refresh(state.memory, parts, part_mask, info, state.step / total_steps)
        return state._replace(memory=memory)

    def refresh_on_host(*arguments) -> TrainState:
        state = refresh(*arguments)
        memory = jax.tree.map(jnp.array, state.memory)  # copies: tables that are one array must not be given up twice
        return jax.device_put(state._replace(memory=memory), where)

    def train(state: TrainState, clips, info: TrackletInfo, layout: str):
        progress = state.step / total_steps

        def loss_fn(params):
            params = jax.lax.with_sharding_constraint(params, whole)
            encoded, updates = encoder.apply(
                {"params": params, "batch_stats": state.batch_stats},
                clips["frames"],
                clips["mask"],
                layout,
                train=True,
                mutable=["batch_stats"],
            )
            # parameters of the method's own, where it has some, stand for the memory's field of their name
            memory = state.memory._replace(**params.get(OWN, {}))
            loss, terms = method.loss(memory, encoded, clips, info, progress)
            return loss, (encoded.tracklet, updates["batch_stats"], terms)

        (loss, (features, statistics, terms)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), **terms}
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=statistics,
            opt_state=opt_state,
            memory=method.update(state.memory, features, clips["tracklet"]),
        ), metrics

    compiled = jax.jit(refresh, in_shardings=(where, rows, rows, rows), out_shardings=where, donate_argnums=0)
    return Steps(
        embed=make_embed(encoder, mesh),
        refresh=refresh_on_host if getattr(method, "on_host", False) else compiled,
        train=jax.jit(
            train, static_argnums=3, in_shardings=(where, rows, rows), out_shardings=(where, whole), donate_argnums=0
        ),
    )


def initial_state(
    variables: dict, optimiser: optax.GradientTransformation, memory: Any, own: Mapping | None = None
) -> TrainState:
    """Step 0: the encoder's variables, the method's own parameters, a new optimiser state and an empty memory."""
    params = {**variables["params"], OWN: own} if own else variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=optimiser.init(params),
        memory=memory,
    )


def state_sharding(state: TrainState, method: Any, mesh: Mesh, *, cut_parameters: bool) -> TrainState:
    """Where the parts of the state lie: memory as the method lays it out, parameters copied or cut, the rest copied."""
    place = partial(parameter_sharding, mesh=mesh, cut=cut_parameters)
    memory = jax.tree.map(partial(NamedSharding, mesh), method.layout())
    statistics = jax.tree.map(lambda _: replicated(mesh), state.batch_stats)
    return TrainState(
        step=replicated(mesh),
        params=place(state.params),
        batch_stats=statistics,
        opt_state=place(state.opt_state),
        memory=memory,
    )
