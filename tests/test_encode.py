"""Ordered clips through the encoder: where their rows land, how modalities lie in a batch, and what is counted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hitpro_jax import encode
from hitpro_jax.sharding import make_mesh
from tests.batches import clips_of


def test_rows_land_where_their_clips_say():
    """embed_all: features by (tracklet, part), zeros and a False mask elsewhere, filler clips of -1 left out."""
    mesh, seen = make_mesh(), []

    def embed(variables, frames, mask, layout):
        seen.append(layout)
        return jnp.asarray(frames)[:, 0, 0, 0, :2].astype(jnp.float32)

    def clips(values, modality, tracklet, part):
        frames = np.broadcast_to(np.array(values, np.uint8)[:, None, None, None, None], (len(values), 1, 2, 2, 3))
        mask = np.ones((len(values), 1), bool)
        return clips_of(tracklet, frames=frames, mask=mask, modality=modality, part=part)

    batches = [
        clips([1, 2], [0, 0], [2, 0], [1, 0]),
        clips([3, 9], [1, 1], [1, -1], [1, 0]),
        clips([4, 5], [0, 1], [0, 2], [1, 0]),
    ]
    features, mask = encode.embed_all(embed, {}, batches, 4, 2, mesh)
    assert features[..., 0].tolist() == [[2, 4], [0, 3], [5, 1], [0, 0]]
    assert features.shape == (4, 2, 2)
    assert mask.tolist() == [[True, True], [False, True], [True, True], [False, False]]
    assert features.dtype == np.float32
    assert seen == ["rgb", "ir", "interleaved"]


@pytest.mark.parametrize("modality", [[1, 0], [0, 1, 1, 0], [0, 1, 0], [0, 0, 1, 1]])
def test_mixed_batches_must_alternate(modality):
    with pytest.raises(ValueError, match="must alternate"):
        encode.layout_of(np.array(modality))


@pytest.mark.parametrize(("modality", "layout"), [([0, 0], "rgb"), ([1], "ir"), ([0, 1, 0, 1], "interleaved")])
def test_the_layout_of_a_batch(modality, layout):
    assert encode.layout_of(np.array(modality)) == layout


def test_unreadable_frames_are_counted_as_batches_pass():
    batches = [clips_of([0, 1])._replace(unreadable=np.array(count, np.int32)) for count in ([0, 2], [1, 0])]
    counter = encode.UnreadableCounter(iter(batches))
    assert counter.total() == 0
    passing = iter(counter)
    assert next(passing) is batches[0]
    assert counter.total() == 2
    assert list(passing) == batches[1:]
    assert counter.total() == 3


def test_no_batch_is_refused():
    with pytest.raises(ValueError, match="there are no clips to embed: the tracklets are empty"):
        encode.embed_all(None, {}, [], 4, 2, make_mesh())


def test_the_second_of_two_processes_holds_its_own_rows(monkeypatch):
    """Rows 3 to 5 of five: its share is rounded up."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    frames = np.broadcast_to(np.array([7, 8], np.uint8)[:, None, None, None, None], (2, 2, 1, 1, 3))
    batches = [clips_of([3, 4], frames=frames)]
    found, mask = encode.embed_all(
        lambda v, f, *_: jnp.asarray(f, jnp.float32)[:, 0, 0, 0, :1], {}, batches, 5, 1, make_mesh()
    )
    assert found.shape == (3, 1, 1)
    assert found.ravel().tolist() == [7, 8, 0]
    assert mask.ravel().tolist() == [True, True, False]
