"""The compiled pure steps of training: jitted functions with named shardings over the device mesh."""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding

from hitpro_jax.methods.base import Memory, Method
from hitpro_jax.models.encoder import Encoder
from hitpro_jax.sharding import parameter_sharding, replicated, row_sharding
from hitpro_jax.types import Clips, Layout, TrackletInfo, TrainState

OWN_PARAMETERS = "method"  # key of the method's own parameters beside the encoder's, which reads its own names only


class Steps(NamedTuple):
    """The functions of a training run.

    Attributes:
      refresh: (state, parts [P, S, D], part_mask [P, S], info) -> state with a fresh memory.
      train: (state, clips, info, layout) -> (state, metrics by name).
    `refresh` and `train` donate the old state's buffers.
    """

    refresh: Any
    train: Any


def make_steps(
    encoder: Encoder,
    optimiser: optax.GradientTransformation,
    method: Method,
    total_steps: int,
    mesh: Mesh,
    shardings: TrainState,
) -> Steps:
    """Compiles a method; a refresh that works on the host stays a plain function.

    Clips, memory and info are cut by rows over the mesh. BatchNorm statistics are those of the global batch (or of
    groups of it), whatever the number of devices.

    Args:
      encoder: clips to features.
      optimiser: of the encoder's and the method's own parameters.
      method: see `methods.base.Method`.
      total_steps: of the whole training, static.
      mesh: all devices.
      shardings: of the state, from `state_sharding`.
    """
    rows, whole = row_sharding(mesh), replicated(mesh)

    def refresh(state: TrainState, parts: jax.Array, part_mask: jax.Array, info: TrackletInfo) -> TrainState:
        memory = method.refresh(state.memory, parts, part_mask, info, state.step / total_steps)
        return state._replace(memory=memory)

    def refresh_on_host(*arguments: Any) -> TrainState:
        state = refresh(*arguments)
        # copies, because two tables that are one array cannot both be donated
        memory = jax.tree.map(jnp.array, state.memory)
        return jax.device_put(state._replace(memory=memory), shardings)

    def train(state: TrainState, clips: Clips, info: TrackletInfo, layout: Layout) -> tuple[TrainState, dict]:
        progress = state.step / total_steps

        def loss_fn(params):
            # where parameters are cut over the devices, each device gathers them before its forward pass
            params = jax.lax.with_sharding_constraint(params, whole)
            encoded, updates = encoder.apply(
                {"params": params, "batch_stats": state.batch_stats},
                clips.frames,
                clips.mask,
                layout,
                train=True,
                mutable=["batch_stats"],
            )
            own = params.get(OWN_PARAMETERS, {})
            loss, terms = method.loss(state.memory, own, encoded, clips, info, progress)
            return loss, (encoded.tracklet, updates["batch_stats"], terms)

        (loss, (features, statistics, terms)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads), **terms}
        state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=statistics,
            opt_state=opt_state,
            memory=method.update(state.memory, features, clips.tracklet),
        )
        return state, metrics

    compiled = jax.jit(refresh, in_shardings=(shardings, rows, rows, rows), out_shardings=shardings, donate_argnums=0)
    return Steps(
        refresh=refresh_on_host if method.refresh_on_host else compiled,
        train=jax.jit(
            train,
            static_argnums=3,
            in_shardings=(shardings, rows, rows),
            out_shardings=(shardings, whole),
            donate_argnums=0,
        ),
    )


def initial_state(
    variables: dict, optimiser: optax.GradientTransformation, memory: Memory, own: Mapping[str, Any]
) -> TrainState:
    """Step 0: the encoder's variables, the method's own parameters, a new optimiser state and an empty memory.

    Args:
      variables: `params` and `batch_stats` of the encoder.
      optimiser: whose state is made.
      memory: of `Method.init`.
      own: of `Method.own_parameters`.
    """
    params = {**variables["params"], OWN_PARAMETERS: own} if own else variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=variables["batch_stats"],
        opt_state=optimiser.init(params),
        memory=memory,
    )


def state_sharding(state: TrainState, method: Method, mesh: Mesh, *, cut_parameters: bool) -> TrainState:
    """Shardings of the state: memory as the method asks, parameters copied or cut, the rest copied.

    Args:
      state: arrays or `jax.ShapeDtypeStruct`s.
      method: whose `shardings` lay out the memory.
      mesh: all devices.
      cut_parameters: cut parameters and optimiser state over the devices.
    """
    parameters = partial(parameter_sharding, mesh=mesh, cut=cut_parameters)
    return TrainState(
        step=replicated(mesh),
        params=parameters(state.params),
        batch_stats=jax.tree.map(lambda _: replicated(mesh), state.batch_stats),
        opt_state=parameters(state.opt_state),
        memory=jax.tree.map(partial(NamedSharding, mesh), method.shardings()),
    )
