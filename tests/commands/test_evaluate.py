"""`--mode=eval`: the newest checkpoint is scored again, by the encoder it belongs to."""

import pytest

from hitpro_jax.commands import evaluate
from tests.data.trees import write
from tests.runs import EPOCHS, STEPS, evaluated, opened, tiny_config
from tests.settings import changed


def test_evaluation_with_another_encoder_is_refused(finished, world):
    with pytest.raises(ValueError, match="aggregator: saved attention, now mean"):
        evaluated(tiny_config(world, **{"encoder.aggregator": "mean"}), finished[0])


def test_evaluation_of_the_checkpoint_gives_the_same_result(finished, world):
    workdir, result = finished
    again = evaluated(tiny_config(world, **{"eval.batch_size": 5}), workdir)
    assert again["step"] == STEPS * EPOCHS
    assert [path.name for path in (workdir / "eval").iterdir()] == [f"{STEPS * EPOCHS}.json"]
    for direction in ("i2v", "v2i"):
        assert again[direction] == pytest.approx(result[direction], abs=1e-3)  # another batch size, other last bits


def test_a_workdir_without_a_checkpoint_is_refused(world, tmp_path):
    with pytest.raises(ValueError, match="no checkpoint"):
        evaluated(tiny_config(world), tmp_path)


def test_a_data_set_without_labels_is_refused(tmp_path):
    root = write(tmp_path / "data", {"tracklets.csv": "tracklet,modality,camera\na,rgb,1\n", "a/0.jpg": "image"})
    config = changed("own_folder", **{"data.root": root, "data.min_frames": 1})
    with (
        opened(config, tmp_path / "run") as run,
        pytest.raises(ValueError, match=f"{root} has no labelled query and gallery to score: add them, or use"),
    ):
        evaluate.main(run)
