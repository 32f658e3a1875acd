"""HITSZ-VCM: the loader against the public one on a twin, the folder families, and every bad index file."""

import dataclasses
import json
import shutil

import pytest

from hitpro_jax.data import records
from hitpro_jax.data.records import SPLITS, FrameError
from hitpro_jax.data.sets import hitsz_vcm
from hitpro_jax.types import IR, RGB

NAMES = [f"0001M2D3T1F{5 * i + 1}.jpg" for i in range(24)] + [f"0001M1D3T1F{i + 1}.jpg" for i in range(24)]
FILES = {
    "train_name.txt": NAMES,
    "track_train_info.txt": ["2 1 24 1 3", "1 25 48 0001 3"],
    "test_name.txt": [name.replace("0001", "0502", 1) for name in NAMES] * 2,
    "track_test_info.txt": ["2 1 24 502 3", "1 25 48 502 3", "2 49 72 502 3", "1 73 96 502 3"],
    "query_IDX.txt": ["2 4"],
}


@pytest.fixture
def made(tmp_path):
    """A function that writes index files, with some replaced, and gives the root."""

    def write(end="\n", **changes):
        (tmp_path / "info").mkdir(exist_ok=True)
        for name, lines in FILES.items():
            lines = changes.get(name.removesuffix(".txt"), lines)
            (tmp_path / "info" / name).write_bytes("".join(line + end for line in lines).encode())
        return str(tmp_path)

    return write


@pytest.mark.parametrize("split", SPLITS)
def test_the_twin_loads_as_in_m3_reid(twins, goldens, split):
    golden = json.loads((goldens / "loader__M3-ReID__HITSZ-VCM.json").read_text())
    loaded = getattr(hitsz_vcm.load(str(twins / "HITSZ-VCM")), split)
    modality = {1: IR, 2: RGB}
    expected = [(tuple(t["frames"]), modality[t["mod"]], t["cam"]) for t in golden[split]]
    assert [(r.frames, r.modality, r.camid) for r in loaded] == expected
    pids = {0: 1, 1: 2, 2: 3, 3: 5} if split == "train" else {pid: pid for pid in range(1000)}
    assert [r.pid for r in loaded] == [pids[t["pid"]] for t in golden[split]]


def test_the_twins_counts(twins, goldens):
    golden = json.loads((goldens / "loader__M3-ReID__HITSZ-VCM.json").read_text())
    counts = hitsz_vcm.load(str(twins / "HITSZ-VCM")).counts
    assert counts["train"] == {"rows": 23, "ids": 4, "tracklets": 21, "rgb": 11, "ir": 10, "frames": 469}
    assert counts["query"] == {"rows": 11, "ids": 6, "tracklets": 10, "rgb": 0, "ir": 10, "frames": 240}
    assert counts["gallery"] == {"rows": 11, "ids": 6, "tracklets": 9, "rgb": 9, "ir": 0, "frames": 210}
    assert counts["test"] == {"ids": golden["test_num_pids"]}
    assert counts["border"] == counts["camera"] == {half: {"rows": 0, "frames": 0} for half in ("train", "test")}


def test_every_frame_of_the_twin_is_there(twins):
    dataset = hitsz_vcm.load(str(twins / "HITSZ-VCM"))
    assert records.verify_files(dataset, min_frames=hitsz_vcm.MIN_FRAMES) is dataset


def test_a_frame_taken_from_the_twin_is_missed(twins, tmp_path):
    shutil.copytree(twins / "HITSZ-VCM", tmp_path / "copy", symlinks=True)
    (tmp_path / "copy/Train/0001/rgb/D3/116.jpg").unlink()
    dataset = hitsz_vcm.load(str(tmp_path / "copy"))
    with pytest.raises(FrameError, match=r"1 listed frames .*train 1 of 469.*first Train/0001/rgb/D3/116.jpg"):
        records.verify_files(dataset, min_frames=12)


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["Train/0001", "0001", "data/0001", "Train/Train/0001"], "Train/0001"),
        (["0001", "data/0001", "Train/Train/0001"], "0001"),
        (["data/0001", "Train/Train/0001"], "data/0001"),
        (["Train/Train/0001"], "Train/Train/0001"),
        ([], "Train/0001"),
    ],
)
def test_the_first_folder_family_that_exists_is_taken(made, tmp_path, folders, expected):
    root = made()
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    assert hitsz_vcm.load(root).train[0].frames[1] == f"{expected}/rgb/D3/6.jpg"


def test_the_folder_family_is_chosen_for_each_person_and_half(made, tmp_path):
    root = made()
    (tmp_path / "Test/Test/0502").mkdir(parents=True)
    (tmp_path / "0001").mkdir()
    dataset = hitsz_vcm.load(root)
    assert dataset.query[0].frames[0] == "Test/Test/0502/ir/D3/1.jpg"
    assert dataset.train[0].frames[0] == "0001/rgb/D3/1.jpg"


def test_frames_keep_the_order_of_the_name_file(made):
    numbers = [frame.rpartition("/")[2] for frame in hitsz_vcm.load(made()).train[0].frames]
    assert numbers == [f"{5 * i + 1}.jpg" for i in range(24)]
    assert numbers != sorted(numbers)


def test_windows_line_ends_a_mark_and_empty_lines_at_the_end(made, tmp_path):
    plain = hitsz_vcm.load(made())
    assert hitsz_vcm.load(made(end="\r\n")) == plain
    assert hitsz_vcm.load(made(end=" \r\n", query_IDX=["\ufeff2 4", "", ""])) == plain


def test_blank_lines_among_the_training_rows_do_no_harm(made):
    plain = hitsz_vcm.load(made())
    assert hitsz_vcm.load(made(track_train_info=["", "2 1 24 1 3", " ", "1 25 48 0001 3"])) == plain
    with pytest.raises(ValueError, match=r"track_train_info.txt:3: '1 x'"):
        hitsz_vcm.load(made(track_train_info=["2 1 24 1 3", "", "1 x"]))


def test_cameras_are_numbers_however_they_are_written(made):
    dataset = hitsz_vcm.load(made(train_name=[name.replace("D3", "D03") for name in NAMES]))
    assert dataset.counts["border"]["train"] == {"rows": 0, "frames": 0}
    assert dataset.train[0].frames[0] == "Train/0001/rgb/D03/1.jpg"
    assert dataset.train[0].camid == 3
    assert dataset.counts["camera"]["train"] == {"rows": 0, "frames": 0}
    with pytest.raises(ValueError, match=r"track_train_info.txt:1: camera 3 is in no name of train_name.txt"):
        hitsz_vcm.load(made(train_name=[name.replace("D3", "D13") for name in NAMES]))


def test_a_set_of_another_size_is_reported_to_be_compared_with_nothing(made):
    root = made()
    assert hitsz_vcm.UNCOMPARED in hitsz_vcm.load(root).counts["notes"]
    assert hitsz_vcm.UNCOMPARED not in hitsz_vcm.load(root, check_counts=False).counts["notes"]


def test_queries_and_gallery_of_unusual_modalities_are_reported(made):
    def notes(*query):
        return [note for note in hitsz_vcm.load(made(query_IDX=[*query])).counts["notes"] if "gallery" in note]

    assert notes("2 4") == []
    (note,) = notes("1 2")
    assert note == (
        "1 of 2 query tracklets are not infrared and 1 of 2 gallery tracklets are not RGB, as the "
        "published ones are: look at query_IDX.txt"
    )
    assert notes("1")[0].startswith("1 of 1 query tracklets are not infrared and 2 of 3 gallery")


def test_query_rows_over_several_lines_are_all_read(made):
    dataset = hitsz_vcm.load(made(query_IDX=["2", "", "4"]))
    assert len(dataset.query) == len(dataset.gallery) == 2
    assert {r.modality for r in dataset.query} == {IR}
    assert {r.modality for r in dataset.gallery} == {RGB}


def test_rows_under_the_minimum_are_dropped_and_rows_at_it_stay(made):
    root = made(track_train_info=["2 1 12 1 3", "2 13 23 1 3", "1 25 25 2 3"])
    dataset = hitsz_vcm.load(root)
    assert [len(r.frames) for r in dataset.train] == [12]
    assert dataset.counts["train"]["rows"] == 3
    assert dataset.counts["train"]["ids"] == 2
    assert [len(r.frames) for r in hitsz_vcm.load(root, min_frames=1).train] == [12, 11, 1]


OVER = ["2 1 24 1 3", "2 13 36 1 3", "2 14 37 1 3", "1 25 48 1 3"]  # two hold frames of the other modality


def test_rows_over_a_border_stand_as_they_are_and_are_counted(made):
    dataset = hitsz_vcm.load(made(track_train_info=OVER))
    assert [len(r.frames) for r in dataset.train] == [24] * 4
    assert dataset.train[1].frames[11:13] == ("Train/0001/rgb/D3/116.jpg", "Train/0001/ir/D3/1.jpg")
    assert dataset.counts["border"] == {"train": {"rows": 2, "frames": 25}, "test": {"rows": 0, "frames": 0}}
    assert records.report(dataset)[4] == (
        "train: 2 rows run over a border of the name file and hold 25 frames of another person or modality"
    )


def test_repair_leaves_out_the_frames_of_others_and_reports_it(made):
    repaired = hitsz_vcm.load(made(track_train_info=OVER), repair=True)
    assert [len(r.frames) for r in repaired.train] == [24, 12, 24]
    assert all("/rgb/" in frame for frame in repaired.train[1].frames)
    assert repaired.counts["border"]["train"] == {"rows": 2, "frames": 25, "dropped": 1}
    assert records.report(repaired)[4] == (
        "train: 25 frames of another person or modality left out of the 2 rows that run over a border of the name "
        "file; 1 of these rows dropped, with fewer than data.min_frames left"
    )


@pytest.mark.parametrize("repair", [False, True])
def test_frames_of_another_camera_are_reported_and_never_left_out(made, repair):
    """Frames 21 to 24 are of camera 4, and so are 25 and 26, which count as those of the other modality alone."""
    names = [name.replace("D3", "D4") if 20 <= i < 26 else name for i, name in enumerate(NAMES)]
    rows = ["2 1 24 1 3", "2 13 36 1 3", "1 27 48 1 3"]
    dataset = hitsz_vcm.load(made(train_name=names, track_train_info=rows), repair=repair)
    assert [len(r.frames) for r in dataset.train] == [24, 12 if repair else 24, 22]
    assert [r.camid for r in dataset.train] == [3, 3, 3]
    assert dataset.counts["border"]["train"].items() >= {"rows": 1, "frames": 12}.items()
    assert dataset.counts["camera"] == {"train": {"rows": 2, "frames": 8}, "test": {"rows": 0, "frames": 0}}
    (note,) = (note for note in dataset.counts["notes"] if "camera" in note)
    assert note == (
        "train: 2 rows hold 8 frames whose names give another camera than the row; they stay, and the "
        "row's camera counts"
    )


def test_no_root(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder .*nowhere"):
        hitsz_vcm.load(str(tmp_path / "nowhere"))


def test_every_index_file_that_lacks_is_named(made, tmp_path):
    root = made()
    (tmp_path / "info/test_name.txt").unlink()
    (tmp_path / "info/query_IDX.txt").unlink()
    with pytest.raises(FileNotFoundError, match="lacks test_name.txt, query_IDX.txt"):
        hitsz_vcm.load(root)


def _replaced(name, line, text):
    return {name: FILES[f"{name}.txt"][: line - 1] + [text] + FILES[f"{name}.txt"][line:]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (_replaced("train_name", 7, "../../etc/passwd"), r"train_name.txt:7: .*is not a frame name"),
        (_replaced("train_name", 7, "../1M2D3T1F1.jpg"), r"train_name.txt:7"),
        (_replaced("train_name", 7, "0001M3D3T1F1.jpg"), r"train_name.txt:7"),
        (_replaced("test_name", 2, "0001M1D3T1F1.jpg 0001M1D3T1F2.jpg"), r"test_name.txt:2"),
        (_replaced("train_name", 3, ""), r"train_name.txt:3: ''"),
        ({"train_name": []}, r"train_name.txt:1"),
        (_replaced("track_train_info", 2, "1 25 48 1"), r"track_train_info.txt:2: .*five integers"),
        (_replaced("track_train_info", 2, "1 25 48 1 3 3"), r"track_train_info.txt:2: .*five integers"),
        (_replaced("track_train_info", 2, "1 25 48 one 3"), r"track_train_info.txt:2: .*five integers"),
        (_replaced("track_test_info", 3, ""), r"track_test_info.txt:3: ''"),
        ({"track_train_info": []}, r"track_train_info.txt: there is no row"),
        (_replaced("track_train_info", 1, "0 1 24 1 3"), r"track_train_info.txt:1: modality 0"),
        (_replaced("track_train_info", 1, "2 1 24 -1 3"), r"track_train_info.txt:1: .*five integers"),
        (_replaced("track_train_info", 1, "2 1 24 1 -3"), r"track_train_info.txt:1: .*five integers"),
        (_replaced("track_train_info", 1, "2 1 2_4 1 3"), r"track_train_info.txt:1: .*five integers"),
        (_replaced("track_train_info", 1, "2 1 24 1234567890 3"), r"track_train_info.txt:1: .*at most nine digits"),
        (_replaced("train_name", 1, f"0001M2D{'3' * 5000}T1F1.jpg"), r"train_name.txt:1: .*is not a frame name"),
        (
            _replaced("track_train_info", 1, "2 0 24 1 3"),
            r":1: rows 0 to 24 are not a range within the 48 lines",
        ),
        (
            _replaced("track_train_info", 2, "1 25 49 1 3"),
            r":2: rows 25 to 49 are not a range within the 48 lines",
        ),
        (_replaced("track_train_info", 1, "2 24 1 1 3"), r":1: rows 24 to 1"),
        (_replaced("track_train_info", 2, "2 1 24 01 3"), r":2: the row '2 1 24 01 3' is that of line 1"),
        ({"query_IDX": ["2 x"]}, r"query_IDX.txt:1"),
        ({"query_IDX": ["", "0_2"]}, r"query_IDX.txt:2"),
        ({"query_IDX": ["2", "4 5"]}, r"query_IDX.txt:2: row 5 is not one of the 4"),
        ({"query_IDX": ["0 2"]}, r"query_IDX.txt:1: row 0"),
        ({"query_IDX": ["2 4", "", "2"]}, r"query_IDX.txt:3: row 2 is already given on line 1: remove one"),
        ({"query_IDX": ["4", "2 2"]}, r"query_IDX.txt:2: row 2 is already given on line 2: remove one"),
        ({"query_IDX": []}, r"query_IDX.txt: there is no row number"),
        ({"query_IDX": ["1 2 3 4"]}, r"no gallery row under .* has 12 frames"),
        ({"track_train_info": ["2 1 11 1 3"]}, r"no train row under .* has 12 frames"),
    ],
)
def test_a_bad_index_file_is_one_sentence_with_file_and_line(made, changes, message):
    with pytest.raises(ValueError, match=message) as raised:
        hitsz_vcm.load(made(**changes))
    assert "\n" not in str(raised.value)


def test_bytes_that_are_no_text_name_their_line(made, tmp_path):
    root = made()
    lines = (tmp_path / "info/train_name.txt").read_bytes().split(b"\n")
    lines[4] = b"\xff\xfe\x00"
    (tmp_path / "info/train_name.txt").write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match="train_name.txt:5"):
        hitsz_vcm.load(root)


def _tiny_published(monkeypatch, **changes):
    counts = {split: {"rows": 2, "tracklets": 2, "frames": 48} for split in SPLITS}
    counts = {**counts, "test": {"ids": 1}}
    for part, numbers in changes.items():
        counts[part] = {**counts[part], **numbers}
    monkeypatch.setattr(hitsz_vcm, "PUBLISHED", counts)


def test_the_published_counts_pass(made, monkeypatch):
    """The gallery is of another camera than the queries: a query without a match is none of the published ones."""
    _tiny_published(monkeypatch)
    names = [name.replace("M2D3", "M2D4") for name in FILES["test_name.txt"]]
    rows = ["2 1 24 502 4", "1 25 48 502 3", "2 49 72 502 4", "1 73 96 502 3"]
    assert len(hitsz_vcm.load(made(test_name=names, track_test_info=rows)).train) == 2
    with pytest.raises(ValueError, match="query without a match 2 instead of 0"):
        hitsz_vcm.load(made())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": {"frames": 50}}, "query frames 48 instead of 50"),
        ({"test": {"ids": 2}}, "test ids 1 instead of 2"),
        ({"train": {"rows": 3}}, "train rows 2 instead of 3"),
        ({"gallery": {"rows": 3}}, "gallery rows 2 instead of 3"),
    ],
)
def test_counts_other_than_the_published_ones_are_refused(made, monkeypatch, changes, message):
    _tiny_published(monkeypatch, **changes)
    with pytest.raises(ValueError, match=rf"{message}.*: copy info/ again, or set data\.check_counts=False"):
        hitsz_vcm.load(made())
    assert len(hitsz_vcm.load(made(), check_counts=False).train) == 2


def test_counts_after_the_filter_are_not_compared_under_another_filter(made, monkeypatch):
    _tiny_published(monkeypatch, query={"frames": 50})
    assert hitsz_vcm.load(made(), min_frames=2).query
    assert hitsz_vcm.load(made(), repair=True).query
    _tiny_published(monkeypatch, test={"ids": 2})
    with pytest.raises(ValueError, match="test ids"):
        hitsz_vcm.load(made(), min_frames=2)


def test_a_data_set_of_another_size_is_not_compared(made, monkeypatch):
    _tiny_published(monkeypatch, train={"rows": 5}, query={"rows": 5})
    assert hitsz_vcm.load(made()).train


def test_the_published_counts_agree_with_each_other():
    published = hitsz_vcm.PUBLISHED
    for split in SPLITS:
        assert published[split]["rgb"] + published[split]["ir"] == published[split]["tracklets"]
    assert sum(published[split]["rows"] for split in SPLITS) == 21_863


def test_records_cannot_be_changed(twins):
    record = hitsz_vcm.load(str(twins / "HITSZ-VCM")).train[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.pid = 3
