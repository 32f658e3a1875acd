"""Own tracklets: the CSV's columns, the order of frames, cameras by name, and the protocol that the rows allow."""

import cv2
import numpy as np
import pytest

from hitpro_jax.data import opening
from hitpro_jax.data.records import report, verify_files
from hitpro_jax.data.sets import folder
from hitpro_jax.options import DataOptions
from hitpro_jax.types import IR, RGB


@pytest.fixture
def made(tmp_path):
    """A function that writes a CSV, and a folder of frames for every tracklet named in `frames`."""

    def write(text, frames=("a", "b", "c"), end="\n", number=3):
        for name in frames:
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            for i in range(number):
                cv2.imwrite(str(tmp_path / name / f"{5 * i + 1}.jpg"), np.full((8, 4, 3), 10 * i, np.uint8))
        (tmp_path / "tracklets.csv").write_bytes(text.replace("\n", end).encode())
        return str(tmp_path)

    return write


PLAIN = "tracklet,modality,camera\na,rgb,1\nb,ir,1\nc,RGB,2\n"


def test_without_split_and_pid_all_is_training(made):
    dataset = folder.load(made(PLAIN))
    assert [(r.modality, r.camid, r.pid) for r in dataset.train] == [(RGB, 1, -1), (IR, 1, -1), (RGB, 2, -1)]
    assert dataset.query == dataset.gallery == ()
    assert dataset.counts["train"] == {"ids": "?", "tracklets": 3, "rgb": 2, "ir": 1, "frames": 9}
    assert verify_files(dataset, min_frames=1) is dataset
    assert len(report(dataset)) == 4


def test_frames_are_in_the_order_of_their_numbers_and_other_files_are_none(made, tmp_path):
    root = made(PLAIN, number=4)
    for name in ("notes.txt", ".hidden.jpg", "2.PNG"):
        (tmp_path / "a" / name).write_bytes(b"x")
    assert folder.load(root).train[0].frames == ("a/1.jpg", "a/2.PNG", "a/6.jpg", "a/11.jpg", "a/16.jpg")


def test_windows_line_ends_a_mark_spaces_quotes_and_blank_lines_change_nothing(made):
    plain = folder.load(made(PLAIN))
    text = '\ufefftracklet, Modality,camera\n"a", rgb,1\n\nb,ir ,1\n,,\nc,0,2\n\n'
    assert folder.load(made(text, end="\r\n")).train == plain.train


def test_columns_in_any_order_and_folders_in_folders(made):
    text = "split,camera,pid,tracklet,modality\ntrain,3,7,x/a,1\nquery,4,7,./x//b,ir\ngallery,5,7,c,rgb\n"
    dataset = folder.load(made(text, frames=("x/a", "x/b", "c")))
    assert dataset.train[0] == folder.Record(("x/a/1.jpg", "x/a/6.jpg", "x/a/11.jpg"), IR, 3, 7)
    assert dataset.query[0].frames[0] == "x/b/1.jpg"
    assert dataset.gallery[0].camid == 5
    assert dataset.counts["train"]["ids"] == 1


def test_cameras_by_name_get_numbers_that_no_order_of_rows_changes(made):
    rows = ["a,rgb,yard", "b,ir,gate 10", "c,rgb,gate 9"]
    cameras = {}
    for order in (rows, rows[::-1]):
        dataset = folder.load(made("tracklet,modality,camera\n" + "\n".join(order)))
        cameras[order[0]] = {r.frames[0][0]: r.camid for r in dataset.train}
        assert "cameras: gate 9 is 0, gate 10 is 1, yard is 2" in report(dataset)
    assert list(cameras.values()) == [{"a": 2, "b": 1, "c": 0}] * 2


def test_short_tracklets_are_left_out_and_reported(made):
    root = made(PLAIN, frames=("a", "b"), number=2)
    made(PLAIN, frames=("c",), number=5)
    dataset = folder.load(root, min_frames=3)
    assert [r.frames[0] for r in dataset.train] == ["c/1.jpg"]
    assert "left out: 2 tracklets with fewer than 3 frames (data.min_frames)" in report(dataset)


def opened(root, own=None):
    return opening.load(DataOptions(name="folder", root=root, min_frames=1), own)


@pytest.mark.parametrize(
    ("modalities", "directions"), [(("ir", "rgb"), {"i2v", "v2i"}), (("rgb", "ir"), {"all"}), (("rgb", "rgb"), {"all"})]
)
def test_the_protocol_follows_the_modalities_of_the_test_rows(made, modalities, directions):
    text = "tracklet,modality,camera,pid,split\na,rgb,1,,train\nb,{},1,5,query\nc,{},2,5,gallery\n".format(*modalities)
    _, protocol = opened(made(text))
    assert protocol.name == "folder"
    assert protocol.camera_rule == "same_person"
    assert set(protocol.directions) == directions


def test_lists_of_both_modalities_are_scored_by_every_pairing_that_has_rows(made):
    rows = "a,rgb,1,,train\nb,rgb,1,5,query\nd,ir,1,5,query\nc,rgb,2,5,gallery\n"
    _, protocol = opened(made(f"tracklet,modality,camera,pid,split\n{rows}", frames="abcd"))
    assert set(protocol.directions) == {"ir2rgb", "rgb2rgb", "all"}


def test_without_labels_there_is_no_protocol(made):
    assert opened(made(PLAIN))[1] == folder.NOTHING


def test_another_table(made, tmp_path):
    root = made(PLAIN)
    (tmp_path / "tracklets.csv").rename(tmp_path / "mine.csv")
    dataset, _ = opened(root, folder.FolderOptions(csv="mine.csv"))
    assert len(dataset.train) == 3


HEAD = "tracklet,modality,camera,pid,split\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"tracklets.csv:1: the header is ''"),
        ("a,rgb,1\n", r"tracklets.csv:1: the header is 'a,rgb,1': it must name"),
        ("tracklet,modality,camera,spilt\na,rgb,1,train\n", r":1: the header"),
        ("tracklet,modality,camera,camera\n", r":1: the header"),
        ("tracklet;modality;camera\na;rgb;1\n", r":1: the header"),
        (HEAD, r"csv: there is no row below the header"),
        (HEAD + "a,rgb,1,5\n", r":2: 4 fields instead of 5"),
        (HEAD + "a,rgb,1,5,train,x\n", r":2: 6 fields instead of 5"),
        (HEAD + "a,rgb,1,5,train\n\nb,thermal,1,5,train\n", r":4: modality 'thermal' is neither rgb nor ir"),
        (HEAD + "a,rgb,,5,train\n", r":2: camera '' is neither"),
        (HEAD + "a,rgb,-1,5,train\n", r":2: camera '-1' is neither"),
        (HEAD + "a,rgb,1,five,train\n", r":2: pid 'five' is not a number"),
        (HEAD + "a,rgb,1,1.5,train\n", r":2: pid '1.5' is not a number"),
        (HEAD + "a,rgb,1,5,test\n", r":2: split 'test' is none of train, query, gallery"),
        (HEAD + "a,rgb,1,,query\n", r":2: a query tracklet needs a person"),
        (HEAD + "a,rgb,1,5,query\n", r"csv: there are only query rows"),
        (HEAD + "a,rgb,1,5,train\nb,rgb,1,5,train\n./a,ir,2,5,train\n", r":4: tracklet 'a' is already on line 2"),
        (HEAD + "../a,rgb,1,5,train\n", r":2: '../a' is not a path below"),
        (HEAD + "b/../../a,rgb,1,5,train\n", r":2: .* is not a path below"),
        (HEAD + "/etc,rgb,1,5,train\n", r":2: '/etc' is not a path below"),
        (HEAD + ",rgb,1,5,train\n", r":2: '' is not a path below"),
        (HEAD + "nowhere,rgb,1,5,train\n", r":2: folder .*nowhere cannot be read .No such file"),
        (HEAD + "tracklets.csv,rgb,1,5,train\n", r":2: folder .*tracklets.csv cannot be read .Not a directory"),
        (HEAD + "empty,rgb,1,5,train\n", r":2: folder 'empty' holds no jpg, png or bmp image"),
        (HEAD + "a,rgb,1,5,train\n" + "b" * 200_000 + ",rgb,1,5,train\n", r":3: not a line of a CSV"),
    ],
)
def test_a_bad_table_is_one_sentence_with_file_and_line(made, tmp_path, text, message):
    root = made(text, frames=("a", "b"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=message) as raised:
        folder.load(root)
    assert "\n" not in str(raised.value)


def test_no_table_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no table .*tracklets.csv: write one with the columns"):
        folder.load(str(tmp_path))
