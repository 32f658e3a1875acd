"""The synthetic camera network: a pure function of its seeds, on disk as HITSZ-VCM is, and infrared of its own."""

import json
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from hitpro_jax.data.records import SPLITS, verify_files
from hitpro_jax.data.sets import hitsz_vcm
from hitpro_jax.data.synthetic import drawing
from hitpro_jax.data.synthetic import world as synthetic
from hitpro_jax.types import IR, RGB

WORLD = synthetic.World(
    cameras=2,
    train_ids=2,
    test_ids=2,
    views_per_modality=(2, 2),
    stay_frames=(22, 30),
    image_size=(32, 16),
    contaminated=0.5,
    occluded=0.5,
)
BARE = replace(WORLD, train_ids=1, test_ids=1, stay_frames=(2, 4))  # four stays a person, of a few frames


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def pictures(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name.endswith(".jpg")}


def drawn(world: synthetic.World, folder: Path, jobs: int = 1) -> dict[str, bytes]:
    return contents(synthetic.ensure(folder / "world", world, jobs))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return synthetic.ensure(tmp_path_factory.mktemp("synthetic") / "world", WORLD)


def test_the_same_world_is_the_same_files(tmp_path, root):
    again = drawn(WORLD, tmp_path)
    assert again == contents(root)
    assert len(pictures(again)) > 300


def test_processes_change_nothing(tmp_path):
    assert drawn(BARE, tmp_path / "one") == drawn(BARE, tmp_path / "two", jobs=2)


def same(one, other) -> bool:
    return json.dumps(asdict(one), default=np.ndarray.tolist) == json.dumps(asdict(other), default=np.ndarray.tolist)


def test_the_people_seed_changes_people_and_pictures_but_no_camera(tmp_path):
    other = replace(BARE, seed=1)
    assert all(same(a, b) for a, b in zip(synthetic.cameras(BARE), synthetic.cameras(other), strict=True))
    assert not same(synthetic.people(BARE, 1), synthetic.people(other, 1))
    first, second = pictures(drawn(BARE, tmp_path / "0")), pictures(drawn(other, tmp_path / "1"))
    assert not [name for name in first if second.get(name) == first[name]]


def test_the_camera_seed_changes_cameras_and_pictures_but_no_person_and_no_stay(tmp_path):
    other = replace(BARE, camera_seed=1)
    assert same(synthetic.people(BARE, 1), synthetic.people(other, 1))
    pairs = zip(synthetic.cameras(BARE), synthetic.cameras(other), strict=True)
    assert not any(same(a, b) for a, b in pairs)
    first, second = drawn(BARE, tmp_path / "0"), drawn(other, tmp_path / "1")
    index = [name for name in first if name.startswith("info/")]
    assert len(index) == 5
    assert all(first[name] == second[name] for name in index)
    assert first.keys() == second.keys()
    assert not [name for name in pictures(first) if second[name] == first[name]]


def test_people_and_cameras_differ_among_themselves():
    assert not same(synthetic.people(WORLD, 1), synthetic.people(WORLD, 2))
    assert not same(*synthetic.cameras(WORLD))


def test_the_loader_of_hitsz_vcm_reads_it(root):
    data = hitsz_vcm.load(str(root), min_frames=1)
    assert verify_files(data, min_frames=1) is data
    listed = [frame for split in SPLITS for record in getattr(data, split) for frame in record.frames]
    assert sorted(listed) == sorted(pictures(contents(root)))  # every picture in one row, and none beside
    ids = {split: {record.pid for record in getattr(data, split)} for split in SPLITS}
    assert ids == {"train": {1, 2}, "query": {3, 4}, "gallery": {3, 4}}
    assert {r.modality for r in data.query} == {IR}
    assert {r.modality for r in data.gallery} == {RGB}
    for split, people in (("train", (1, 2)), ("query", (3, 4)), ("gallery", (3, 4))):
        kinds = (RGB, IR) if split == "train" else (IR,) if split == "query" else (RGB,)
        stays = {(r.pid, r.modality, r.camid) for r in getattr(data, split)}
        assert stays == {(pid, m, c) for pid in people for m in kinds for c in (1, 2)}
    assert data.counts["border"] == {half: {"rows": 0, "frames": 0} for half in ("train", "test")}


def test_rows_are_stays_cut_every_24_frames(root):
    rows = [r for split in SPLITS for r in getattr(hitsz_vcm.load(str(root), min_frames=1), split)]
    stays = Counter()
    for row in rows:
        folder, numbers = row.frames[0].rpartition("/")[0], [int(Path(f).stem) for f in row.frames]
        assert {f.rpartition("/")[0] for f in row.frames} == {folder}
        assert numbers == [1 + 5 * (stays[folder] + k) for k in range(len(numbers))]  # the order is the walk's
        stays[folder] += len(numbers)
    assert all(22 <= frames <= 30 for frames in stays.values())
    assert len(stays) == 16
    assert max(len(row.frames) for row in rows) == 24
    assert max(Counter(stays).values()) > 24


def test_views_per_modality_are_drawn_within_their_bounds():
    world = replace(WORLD, cameras=6, views_per_modality=(2, 4), train_ids=30, image_size=(8, 8), stay_frames=(1, 1))
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic, "render_stay", lambda *arguments: np.zeros((1, 8, 8, 3), np.uint8))
        patch.setattr(
            synthetic, "_write_stay", lambda folder, pid, modality, camid, *_: seen.append((pid, modality, camid)) or []
        )
        for pid in range(1, 31):
            synthetic._write_person((None, world, pid))
    assert len(seen) == len(set(seen))
    assert set(Counter((pid, modality) for pid, modality, _ in seen).values()) == {2, 3, 4}
    assert {(modality, camid) for _, modality, camid in seen} == {(m, c) for m in (RGB, IR) for c in range(1, 7)}


def test_strangers_are_others_of_the_same_split(monkeypatch):
    """Else frames of test people would be among the training frames."""
    world, asked = replace(WORLD, train_ids=4, test_ids=3), []
    monkeypatch.setattr(synthetic, "people", lambda world, pid: pid)
    monkeypatch.setattr(synthetic, "render_stay", lambda rng, person, stranger, *_: asked.append((person, stranger)))
    monkeypatch.setattr(synthetic, "_write_stay", lambda *arguments: [])
    for pid in [*range(1, 8)] * 5:
        world = replace(world, seed=world.seed + 1)
        synthetic._write_person((None, world, pid))
    assert set(asked) == {(a, b) for a in range(1, 8) for b in range(1, 8) if a != b and (a <= 4) == (b <= 4)}


def test_image_sizes_and_channels(root):
    grey = colour = 0
    for name in pictures(contents(root)):
        image = cv2.imread(str(root / name), cv2.IMREAD_UNCHANGED)
        if "/ir/" in name:
            assert image.shape == (32, 16)
            assert image.std() > 1
            grey += 1
        else:
            assert image.shape == (32, 16, 3)
            colour += np.abs(image[..., 0].astype(int) - image[..., 2]).mean() > 3
    assert grey > 100
    assert colour > 100


def test_a_body_covers_the_background_and_walks():
    world = replace(WORLD, contaminated=0.0, occluded=0.0)
    people = [synthetic.people(world, pid) for pid in (1, 2)]
    for infrared in (False, True):
        stays = [
            synthetic.render_stay(
                np.random.default_rng(5), person, people[1], world, synthetic.cameras(world)[0], infrared, 6
            )
            for person in people
        ]
        assert stays[0].shape == (6, 32, 16, 1 if infrared else 3)
        assert stays[0].dtype == np.uint8
        difference = np.abs(stays[0].astype(int) - stays[1])[:, 8:24, 5:11].mean()
        assert (
            difference > 2 * np.abs(stays[0].astype(int) - stays[1])[:, :, [0, 15]].mean()
        )  # they differ in the middle
        assert np.abs(np.diff(stays[0].astype(int), axis=0)).max() > stays[0].std()


def test_contaminated_share_of_rows(monkeypatch):
    world = replace(WORLD, contaminated=0.3, occluded=0.0, image_size=(8, 8))
    person, camera = synthetic.people(world, 1), synthetic.cameras(world)[0]
    swapped = []
    monkeypatch.setattr(synthetic, "_swap_in", lambda *arguments: swapped.append(arguments[-2:]))
    monkeypatch.setattr(synthetic, "_expose", lambda rng, picture, camera, infrared: picture)
    monkeypatch.setattr(drawing, "draw_body", lambda *arguments: None)
    rng = np.random.default_rng(0)
    for _ in range(100):
        synthetic.render_stay(rng, person, person, world, camera, True, 100)  # rows of 24, 24, 24, 24 and 4 frames
    assert 0.24 < len(swapped) / 500 < 0.36  # three deviations
    assert set(swapped) == {(0, 24), (24, 48), (48, 72), (72, 96), (96, 100)}


def test_contamination_is_a_run_of_30_to_60_percent_of_one_row():
    rng, camera = np.random.default_rng(0), synthetic.cameras(WORLD)[0]
    person = synthetic.people(WORLD, 1)
    for _ in range(20):
        pose = synthetic._walk(rng, person, WORLD, camera, 60)
        picture = np.full((60, 32, 16, 3), -1.0, np.float32)
        synthetic._swap_in(rng, picture, person, WORLD, camera, False, pose, 24, 48)
        changed = np.flatnonzero((picture != -1).any((1, 2, 3)))
        assert changed[0] >= 24
        assert changed[-1] < 48
        assert (np.diff(changed) == 1).all()
        assert 0.25 < len(changed) / 24 <= 0.6


def test_occluders_cover_part_of_a_stay():
    rng, camera, covered = np.random.default_rng(0), synthetic.cameras(WORLD)[0], set()
    for _ in range(20):
        picture = np.full((20, 32, 16, 1), -1.0, np.float32)
        synthetic._occlude(rng, picture, camera, True)
        hidden = (picture != -1).mean((1, 2, 3))
        assert 0 < (hidden > 0).sum() <= 10
        assert hidden.max() < 0.6
        covered.add(bool((picture[..., 0] != -1).all(-1).any()))
    assert covered == {True, False}  # low walls and poles


def test_visible_light_only(tmp_path):
    root = synthetic.ensure(tmp_path / "w", replace(BARE, infrared=False))
    assert not [name for name in contents(root) if "/ir/" in name]
    data = hitsz_vcm.load(str(root), min_frames=1)
    assert {r.modality for r in (*data.train, *data.query, *data.gallery)} == {RGB}


def test_ensure_draws_once(tmp_path, monkeypatch):
    root = synthetic.ensure(tmp_path / "w", BARE)
    monkeypatch.setattr(synthetic, "_write_person", None)
    assert synthetic.ensure(str(root), BARE) == root


def test_ensure_takes_an_empty_folder(tmp_path):
    (tmp_path / "w").mkdir()
    assert (synthetic.ensure(tmp_path / "w", BARE) / "world.json").is_file()


@pytest.mark.parametrize("change", [{"seed": 1}, {"camera_seed": 1}, {"train_ids": 3}])
def test_ensure_refuses_another_world(tmp_path, root, change):
    before = contents(root)
    with pytest.raises(ValueError, match="is not the synthetic world asked for.*remove that folder or set data.root"):
        synthetic.ensure(root, replace(WORLD, **change))
    assert contents(root) == before


def test_ensure_refuses_and_keeps_a_foreign_folder(tmp_path):
    (tmp_path / "holiday.jpg").write_text("x")
    with pytest.raises(ValueError, match="is not the synthetic world asked for"):
        synthetic.ensure(tmp_path, BARE)
    assert (tmp_path / "holiday.jpg").read_text() == "x"


def test_a_world_written_before_a_field_was_thought_of_is_still_that_world(tmp_path):
    root = synthetic.ensure(tmp_path / "w", BARE)
    stamp = json.loads((root / "world.json").read_text())
    del stamp["one_modality"]
    (root / "world.json").write_text(json.dumps(stamp))
    assert synthetic.ensure(root, BARE) == root
    with pytest.raises(ValueError, match="is not the synthetic world asked for"):
        synthetic.ensure(root, replace(BARE, one_modality=0.5))


def test_people_of_one_modality_are_drawn_as_before_and_are_training_people(tmp_path):
    world = replace(BARE, train_ids=6, test_ids=2, cameras=3, stay_frames=(2, 2), infrared_views=(1, 1))
    some = replace(world, one_modality=0.5)
    seen = {pid: synthetic._modalities(some, pid) for pid in range(1, 9)}
    assert {seen[pid] for pid in range(1, 7)} == {(RGB,), (IR,), (RGB, IR)}
    assert seen[7] == seen[8] == (RGB, IR) == synthetic._modalities(world, 1)
    before, after = pictures(drawn(world, tmp_path / "0")), pictures(drawn(some, tmp_path / "1"))
    both = [name for name in before if name.startswith("Test") or seen[int(Path(name).parts[1])] == (RGB, IR)]
    assert both
    assert all(after[name] == before[name] for name in both)
    assert len(after) < len(before)
    views = Counter(Path(name).parts[1:3] for name in {str(Path(name).parent) for name in before})
    assert {count for (_, kind), count in views.items() if kind == "ir"} == {1}
    assert {count for (_, kind), count in views.items() if kind == "rgb"} == {2}


def test_another_version_of_the_drawing_is_another_world(tmp_path, monkeypatch):
    root = synthetic.ensure(tmp_path / "w", BARE)
    monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
    with pytest.raises(ValueError, match="is not the synthetic world asked for"):
        synthetic.ensure(root, BARE)


def test_an_interrupted_drawing_is_never_read(tmp_path, monkeypatch):
    expected = drawn(BARE, tmp_path / "whole")
    folder = tmp_path / "part" / "world"
    folder.parent.mkdir()
    write_index = synthetic._write_index

    def interrupted(info, split, rows):
        if split == "test":  # the training half lies there already
            raise KeyboardInterrupt
        write_index(info, split, rows)

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "_write_index", interrupted)
        with pytest.raises(KeyboardInterrupt):
            synthetic.ensure(folder, BARE)
    assert not any(folder.parent.iterdir())
    assert contents(synthetic.ensure(folder, BARE)) == expected
    assert [path.name for path in folder.parent.iterdir()] == ["world"]


def test_presets():
    presets = synthetic.PRESETS
    other = {
        "medium": {"train_ids"},
        "cameras": {"cameras"},
        "contaminated": {"contaminated"},
        "open_set": {"one_modality"},
        "unbalanced": {"views_per_modality", "infrared_views"},
    }
    assert set(presets) == {"tiny", "small", "large", *other}
    assert presets["small"] == synthetic.World()
    for name, fields in other.items():
        assert {k for k, v in asdict(presets[name]).items() if v != asdict(presets["small"])[k]} == fields
    assert (presets["large"].cameras, presets["large"].train_ids, presets["large"].test_ids) == (12, 500, 427)
    assert presets["tiny"].train_ids + presets["tiny"].test_ids < 12
