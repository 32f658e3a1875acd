"""BUPTCampus: the loader against both public ones on a twin, its counts, and every bad list or path file."""

import copy
import json
import os
import shutil

import pytest

from hitpro_jax.data import records
from hitpro_jax.data.records import SPLITS, FrameError
from hitpro_jax.data.sets import buptcampus
from hitpro_jax.types import IR, RGB

CAMERAS = ("LS3", "G25", "CQ1", "W4", "TSG1", "TSG2")
LISTS = {
    "train.txt": ["7 RGB/IR LS3 1", "10 RGB/IR W4 2"],
    "train_auxiliary.txt": ["30 RGB/IR CQ1 1"],
    "query.txt": ["21 RGB G25 1", "22 IR G25 1"],
    "gallery.txt": ["21 IR TSG1 1", "21 RGB TSG1 1", "22 RGB TSG2 1"],
}


def frames(pid, modality, camera, tid, count=2):
    return [f"{pid}/{modality}/{camera}/{pid}_{modality}_{camera}_{tid}_{98 + i}.jpg" for i in range(count)]


def tree(lists=LISTS):
    """data_paths.json of all the tracklets in the lists."""
    paths = {}
    for lines in lists.values():
        for line in lines:
            pid, words, camera, tid = line.split()
            for word in words.split("/"):
                here = paths.setdefault(pid, {}).setdefault(word, {}).setdefault(camera, {})
                here[tid] = frames(pid, word, camera, tid)
    return paths


@pytest.fixture
def made(tmp_path):
    """A function that writes lists and paths, with some replaced, and gives the root."""

    def write(end="\n", paths=None, **changes):
        for name, lines in LISTS.items():
            lines = changes.get(name.removesuffix(".txt"), lines)
            (tmp_path / name).write_bytes("".join(line + end for line in lines).encode())
        (tmp_path / "data_paths.json").write_text(json.dumps(tree() if paths is None else paths))
        return str(tmp_path)

    return write


def golden(goldens, name):
    return json.loads((goldens / f"loader__{name}__BUPTCampus.json").read_text())


def described(tracklets):
    return [(r.frames, r.modality, r.camid) for r in tracklets]


@pytest.mark.parametrize("split", SPLITS)
def test_the_twin_loads_as_in_m3_reid(twins, goldens, split):
    loaded = getattr(buptcampus.load(str(twins / "BUPTCampus")), split)
    expected = golden(goldens, "M3-ReID")[split]
    modality = {1: IR, 2: RGB}
    assert described(loaded) == [(tuple(t["frames"]), modality[t["mod"]], t["cam"] + 1) for t in expected]
    # its labels of training depend on the hash seed, so that only which tracklets share one can be compared
    same = [[a == b for a in ids for b in ids] for ids in ([r.pid for r in loaded], [t["pid"] for t in expected])]
    assert same[0] == same[1]
    assert len(set(same[0])) == 2


@pytest.mark.parametrize("split", [*SPLITS, "auxiliary"])
def test_the_twin_loads_as_in_the_official_code(twins, goldens, split):
    dataset = buptcampus.load(str(twins / "BUPTCampus"), auxiliary=split == "auxiliary")
    expected = golden(goldens, "BUPTCampus")[split]
    loaded = dataset.train[-len(expected) :] if split == "auxiliary" else getattr(dataset, split)
    paths = json.loads((twins / "BUPTCampus/data_paths.json").read_text())
    order = {pid: i for i, pid in enumerate(sorted(paths, key=int))}
    assert described(loaded) == [
        (tuple(f"DATA/{frame}" for frame in t["frames"]), {"IR": IR, "RGB": RGB}[t["mod"]], t["cam"] + 1)
        for t in expected
    ]
    assert [r.pid for r in loaded] == [order[t["obj"]] for t in expected]


def test_the_twins_counts(twins):
    dataset = buptcampus.load(str(twins / "BUPTCampus"))
    assert dataset.counts == {
        "train": {"ids": 4, "tracklets": 20, "rgb": 10, "ir": 10, "frames": 282},
        "query": {"ids": 5, "tracklets": 5, "rgb": 3, "ir": 2, "frames": 71},
        "gallery": {"ids": 5, "tracklets": 14, "rgb": 7, "ir": 7, "frames": 220},
    }
    assert min(len(r.frames) for r in dataset.train) == 1


def test_the_auxiliary_list_joins_training_only_when_asked(twins):
    plain = buptcampus.load(str(twins / "BUPTCampus"))
    joined = buptcampus.load(str(twins / "BUPTCampus"), auxiliary=True)
    assert joined.train[: len(plain.train)] == plain.train
    assert (joined.query, joined.gallery) == (plain.query, plain.gallery)
    assert joined.counts["train"] == {"ids": 6, "tracklets": 24, "rgb": 12, "ir": 12, "frames": 334}
    assert records.report(joined)[-1] == "train: 4 of the tracklets are those of the auxiliary list"


def test_the_auxiliary_list_need_not_be_there(made, tmp_path):
    root = made()
    (tmp_path / "train_auxiliary.txt").unlink()
    assert len(buptcampus.load(root).train) == 4
    with pytest.raises(FileNotFoundError, match="lacks train_auxiliary.txt"):
        buptcampus.load(root, auxiliary=True)


def test_every_frame_of_the_twin_is_there_and_one_taken_is_missed(twins, tmp_path):
    dataset = buptcampus.load(str(twins / "BUPTCampus"))
    assert records.verify_files(dataset, min_frames=1) is dataset
    assert not any("FakeIR" in frame for split in SPLITS for r in getattr(dataset, split) for frame in r.frames)
    shutil.copytree(twins / "BUPTCampus", tmp_path / "copy", symlinks=True)
    (tmp_path / "copy" / dataset.query[1].frames[3]).unlink()
    with pytest.raises(FrameError, match=r"1 listed frames .*query 1 of 71.*DATA/1912/IR/W4/1912_IR_W4_1_"):
        records.verify_files(buptcampus.load(str(tmp_path / "copy")), min_frames=1)


def test_a_training_row_is_two_tracklets_of_one_person_and_camera(made):
    train = buptcampus.load(made()).train
    assert [(r.modality, r.camid, len(r.frames)) for r in train] == [(IR, 1, 2), (RGB, 1, 2), (IR, 4, 2), (RGB, 4, 2)]
    assert train[0].pid == train[1].pid != train[2].pid == train[3].pid


def test_frames_keep_the_order_of_the_file(made):
    paths = tree()
    order = ["7/IR/LS3/f_10.jpg", "7/IR/LS3/f_9.jpg", "7/IR/LS3/f_11.jpg"]
    paths["7"]["IR"]["LS3"]["1"] = order
    assert list(buptcampus.load(made(paths=paths)).train[0].frames) == [f"DATA/{frame}" for frame in order]


def test_person_ids_are_places_of_numbers_and_do_not_depend_on_the_order_of_the_file(made):
    paths = tree() | {"100": {}, "late": {}}
    expected = {"7": 0, "10": 1, "21": 2, "22": 3, "30": 4, "100": 5, "late": 6}
    for turned in (paths, dict(reversed(paths.items()))):
        dataset = buptcampus.load(made(paths=turned))
        assert [r.pid for r in dataset.train] == [expected[pid] for pid in ("7", "7", "10", "10")]
        assert [r.pid for r in dataset.gallery] == [expected[pid] for pid in ("21", "21", "22")]


def test_every_camera_is_known(made):
    rows = [f"7 RGB/IR {camera} 1" for camera in CAMERAS]
    lists = {**LISTS, "train.txt": rows}
    train = buptcampus.load(made(train=rows, paths=tree(lists))).train
    assert [r.camid for r in train] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


def test_windows_line_ends_a_mark_and_empty_lines(made):
    plain = buptcampus.load(made())
    assert buptcampus.load(made(end="\r\n")) == plain
    assert buptcampus.load(made(end=" \r\n\r\n", query=["\ufeff21 RGB G25 1", "", "22 IR G25 1", ""])) == plain


def test_no_root(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        buptcampus.load(str(tmp_path / "nowhere"))


def test_every_file_that_lacks_is_named(made, tmp_path):
    root = made()
    for name in ("data_paths.json", "gallery.txt"):
        os.unlink(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="lacks data_paths.json, gallery.txt: copy"):
        buptcampus.load(root)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": ["7 RGB/IR LS3 1", "10 RGB/IR W4"]}, r"train.txt:2: '10 RGB/IR W4' is not a row `person"),
        ({"train": ["", "10 RGB/IR W4 2 2"]}, r"train.txt:2: '10 RGB/IR W4 2 2' is not a row"),
        ({"train": ["7 RGB LS3 1"]}, r"train.txt:1: modality 'RGB' is not RGB/IR"),
        ({"query": ["21 RGB/IR G25 1"]}, r"query.txt:1: modality 'RGB/IR' is not RGB or IR"),
        ({"gallery": ["21 FakeIR G25 1"]}, r"gallery.txt:1: modality 'FakeIR' is not RGB or IR"),
        ({"train": ["7 RGB/IR LS4 1"]}, r"train.txt:1: camera 'LS4' is none of LS3, G25, CQ1, W4, TSG1, TSG2"),
        (
            {"train": [*LISTS["train.txt"], "7 RGB/IR LS3 1"]},
            r"train.txt:3: the tracklet 7 IR LS3 1 was given at .*train.txt:1 already",
        ),
        ({"gallery": [*LISTS["gallery.txt"], "22 IR G25 1"]}, r"gallery.txt:4: .* given at .*query.txt:2 already"),
        ({"query": ["21 RGB G25 2"]}, r"query.txt:1: .*data_paths.json has no frames of the tracklet 21 RGB G25 2"),
        ({"query": ["21 IR G25 1"]}, r"query.txt:1: .*data_paths.json has no frames of the tracklet 21 IR G25 1"),
        ({"query": ["404 IR G25 1"]}, r"query.txt:1: .*no frames of the tracklet 404 IR G25 1"),
        ({"train": []}, r"train.txt: there is no tracklet"),
        ({"query": ["", ""]}, r"query.txt: there is no tracklet"),
    ],
)
def test_a_bad_list_is_one_sentence_with_file_and_line(made, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        buptcampus.load(made(**changes))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], r"train.txt:1: .*data_paths.json has no frames of the tracklet 7 RGB LS3 1"),
        ("7/RGB/LS3/f.jpg", "data_paths.json: the tracklet 7 RGB LS3 1 must be a list of paths"),
        ({"1": []}, "must be a list of paths"),
        ([1, 2], "must be a list of paths"),
        (["7/RGB/LS3/f.jpg", None], "must be a list of paths"),
        (["7/../../../etc/passwd"], r"the tracklet 7 RGB LS3 1 has the path '7/../../../etc/passwd', which is not"),
        (["/etc/passwd"], "'/etc/passwd', which is not below DATA"),
        ([".."], "not below DATA"),
        (["7/RGB/f.jpg", ""], "has the path '', which is not below DATA"),
        (["7/RGB/\0.jpg"], "holds a character that does not print"),
        (["7/RGB/a\nb.jpg"], r"7 RGB LS3 1 has the path '7/RGB/a\\nb.jpg', .* holds a character that does not print"),
        (["7/RGB/\x1b[2J.jpg"], r"has the path '7/RGB/\\x1b\[2J.jpg'"),
        (["7/RGB/\ud800.jpg"], r"has the path '7/RGB/\\ud800.jpg'"),
    ],
)
def test_a_bad_tracklet_of_the_path_file_is_named(made, found, message):
    paths = tree()
    paths["7"]["RGB"]["LS3"]["1"] = found
    with pytest.raises(ValueError, match=message) as raised:
        buptcampus.load(made(paths=paths))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("depth", range(1, 4))
@pytest.mark.parametrize("found", [[], "text", 3, None, {}])
def test_a_path_file_of_another_shape_is_named(made, depth, found):
    paths = copy.deepcopy(tree())
    here = paths
    for key in ("7", "IR", "LS3")[: depth - 1]:
        here = here[key]
    here[("7", "IR", "LS3")[depth - 1]] = found
    with pytest.raises(ValueError, match="train.txt:1: .*data_paths.json has no frames of the tracklet 7 IR LS3 1"):
        buptcampus.load(made(paths=paths))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"data_paths.json is not JSON \(.*line 1 column 2"),
        (b"", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b'{"7":' * 100_000, "data_paths.json is nested too deeply"),
        (b"[" * 100_000, "is nested too deeply"),
        (b"[]", "must hold an object by person, but holds one list"),
        (b"7", "holds one int"),
    ],
)
def test_a_path_file_that_is_no_object_is_named(made, tmp_path, content, message):
    root = made()
    (tmp_path / "data_paths.json").write_bytes(content)
    with pytest.raises(ValueError, match=message) as raised:
        buptcampus.load(root)
    assert "\n" not in str(raised.value)


def test_bytes_that_are_no_text_name_their_line(made, tmp_path):
    root = made()
    (tmp_path / "query.txt").write_bytes(b"21 RGB G25 1\n22 \xff\xfe G25 1\n")
    with pytest.raises(ValueError, match="query.txt:2: modality"):
        buptcampus.load(root)


def tiny_published(monkeypatch, **changes):
    counts = {
        "train": {"tracklets": 4, "ids": 2},
        "query": {"tracklets": 2},
        "gallery": {"tracklets": 3},
        "auxiliary": {"tracklets": 2},
    }
    for name, numbers in changes.items():
        counts[name] = {**counts[name], **numbers}
    monkeypatch.setattr(buptcampus, "PUBLISHED", counts)


def test_the_published_counts_pass(made, monkeypatch):
    tiny_published(monkeypatch)
    assert len(buptcampus.load(made()).train) == 4
    assert len(buptcampus.load(made(), auxiliary=True).train) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"frames": 9}}, r"not the published ones \(train frames 8 instead of 9\)"),
        ({"train": {"tracklets": 6}}, r"\(train tracklets 4 instead of 6\)"),
        ({"query": {"rgb": 2}, "gallery": {"ir": 2}}, r"\(query rgb 1 instead of 2, gallery ir 1 instead of 2\)"),
        ({"query": {"tracklets": 3}}, r"\(query tracklets 2 instead of 3\)"),
        ({"auxiliary": {"ids": 3}}, r"\(auxiliary ids 1 instead of 3\)"),
    ],
)
def test_counts_other_than_the_published_ones_are_refused(made, monkeypatch, changes, message):
    tiny_published(monkeypatch, **changes)
    with pytest.raises(ValueError, match=message):
        buptcampus.load(made(), auxiliary=True)
    assert buptcampus.load(made(), auxiliary=True, check_counts=False).train


def test_a_data_set_of_another_size_is_not_compared(made, monkeypatch):
    tiny_published(monkeypatch, train={"tracklets": 6}, query={"tracklets": 1})
    assert buptcampus.load(made()).train


def test_the_published_counts_agree_with_each_other():
    published = buptcampus.PUBLISHED
    for numbers in published.values():
        assert numbers["rgb"] + numbers["ir"] == numbers["tracklets"]
    assert sum(published[name]["ids"] for name in ("train", "auxiliary", "query")) == 3_080
