"""Shared types: their fields are what the pipeline, the methods, the checkpoints and the diagnostics agree on."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hitpro_jax import types
from hitpro_jax.types import Clips, Encoded, Mined, Positives, TrackletInfo, TrainState

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (TrackletInfo, "modality camera view valid"),
        (Clips, "frames mask tracklet modality part unreadable"),
        (Encoded, "tracklet frame"),
        (Positives, "index weight ignore threshold"),
        (Mined, "prototypes reliability within across same_view label"),
        # checkpoints name their arrays after these
        (TrainState, "step params batch_stats opt_state memory"),
    ],
)
def test_fields_and_their_order(kind, fields):
    assert list(kind._fields) == fields.split()


def test_the_training_path_knows_no_person_id():
    """Of tracklets and of clips: neither type has a field for it."""
    names = {*TrackletInfo._fields, *Clips._fields}
    assert not any(word in name for name in names for word in ("pid", "person", "identit", "label"))


def test_every_array_has_its_shape_and_dtype():
    """In the comment beside it; trees of arrays and nested types have theirs elsewhere."""
    lines = Path(types.__file__).read_text().splitlines()
    for kind in ast.parse("\n".join(lines)).body:
        if isinstance(kind, ast.ClassDef):
            for field in kind.body:
                if isinstance(field, ast.AnnAssign) and ast.unparse(field.annotation).startswith("Array"):
                    comment = lines[field.lineno - 1].partition("  # ")[2]
                    assert re.match(r"\[[^]]*\] (u?int\d+|float32|bool)\b", comment), f"{kind.name}.{field.target.id}"


def test_variables_are_what_the_encoder_takes():
    state = TrainState(step=3, params={"w": 1}, batch_stats={"mean": 2}, opt_state=None, memory=None)
    assert state.variables == {"params": {"w": 1}, "batch_stats": {"mean": 2}}
    assert state._replace(params={"w": 5}).variables["params"] == {"w": 5}


def test_modalities_are_the_ids_that_index_tables_of_two():
    assert (types.RGB, types.IR) == (0, 1)
    assert types.MODALITIES == 2
    assert {types.RGB_ONLY, types.IR_ONLY, types.INTERLEAVED} == {"rgb", "ir", "interleaved"}


def test_reading_processes_start_without_jax():
    script = "import sys, hitpro_jax.types; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "False"
