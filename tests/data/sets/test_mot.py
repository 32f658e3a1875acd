"""Own video: crops hold the boxed pixels, are written once, and no track number reaches training."""

import os
import socket
from pathlib import Path

import cv2
import numpy as np
import pytest

from hitpro_jax.data import pipeline
from hitpro_jax.data.records import report, verify_files
from hitpro_jax.data.sets import mot
from hitpro_jax.types import IR, RGB

EXAMPLE = Path(__file__).parents[3] / "examples" / "own_video"


@pytest.fixture
def camera(tmp_path):
    """A video of 60 frames, 64x48, grey 4 * frame, with a white square of 8 pixels from (20, 10) on."""
    video, boxes = str(tmp_path / "video.avi"), str(tmp_path / "boxes.txt")
    writer = cv2.VideoWriter(video, cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for frame in range(1, 61):
        picture = np.full((48, 64, 3), 4 * frame, np.uint8)
        picture[10:18, 20:28] = 255
        writer.write(picture)
    writer.release()
    lines = [f"{frame},7,21,11,8,8,1,-1,-1,-1" for frame in range(1, 51)]  # counted from 1
    lines += [f"{frame},2,-3,40.0,12.4,30,0.5,-1,-1,-1" for frame in (30, 10, 20)]  # sticks out at left and below
    lines += ["60,9,1,1,64,48,1,-1,-1,-1", ""]
    Path(boxes).write_text("\n".join(lines))
    return mot.Camera(video, boxes, RGB, 3)


def load(camera, tmp_path, **options):
    cameras = camera if isinstance(camera, list) else [camera]
    return mot.load(cameras, str(tmp_path / "cache"), progress=False, **options)


def pixels(dataset, frame):
    return cv2.imread(os.path.join(dataset.root, frame))


def test_crops_hold_the_boxed_pixels(camera, tmp_path):
    dataset = load(camera, tmp_path)
    by_pid = {record.pid: record for record in dataset.gallery}
    square = pixels(dataset, by_pid[7].frames[-1])
    assert square.shape == (8, 8, 3)
    assert square.min() > 240
    cut = pixels(dataset, by_pid[2].frames[-1])  # x -3 to 9.4 and y 40 to 70 from 1: columns 0-7, rows 39-47
    assert cut.shape == (9, 8, 3)
    assert np.abs(cut.astype(int) - 120).max() < 6
    assert pixels(dataset, by_pid[9].frames[0]).shape == (48, 64, 3)


def test_tracks_become_rows_without_a_person_and_halves_with_one(camera, tmp_path):
    dataset = load(camera, tmp_path)
    assert [len(record.frames) for record in dataset.train] == [3, 16, 17, 17, 1]  # tracks 2, 7 and 9
    assert {record.pid for record in dataset.train} == {-1}
    assert {(r.modality, r.camid) for r in dataset.train + dataset.query + dataset.gallery} == {(RGB, 3)}
    assert [(r.pid, len(r.frames)) for r in dataset.query] == [(2, 1), (7, 25)]
    assert [(r.pid, len(r.frames)) for r in dataset.gallery] == [(2, 2), (7, 25), (9, 1)]
    query, gallery = dataset.query[1].frames, dataset.gallery[1].frames
    assert [os.path.basename(f) for f in query + gallery] == [f"{frame:06d}.jpg" for frame in range(1, 51)]
    assert [f for r in dataset.train[1:4] for f in r.frames] == list(query + gallery)
    assert dataset.counts["train"] == {"tracklets": 5, "rgb": 5, "ir": 0, "frames": 54}
    assert [line.split()[:3] for line in report(dataset)[1:]] == [
        ["train", "?", "ids"],
        ["query", "2", "ids"],
        ["gallery", "3", "ids"],
    ]


def test_every_listed_frame_is_there(camera, tmp_path):
    dataset = load(camera, tmp_path)
    assert verify_files(dataset, min_frames=1) == dataset


@pytest.mark.parametrize(("row_frames", "expected"), [(1, 54), (24, 5), (50, 3)])
def test_rows_hold_at_most_row_frames(camera, tmp_path, row_frames, expected):
    dataset = load(camera, tmp_path, row_frames=row_frames)
    assert len(dataset.train) == expected
    assert max(len(record.frames) for record in dataset.train) <= row_frames


def test_cameras_keep_their_persons_apart(camera, tmp_path):
    infrared = mot.Camera(camera.video, camera.boxes, IR, 3)
    dataset = load([camera, infrared], tmp_path)
    assert [(r.modality, r.pid) for r in dataset.gallery] == [
        (0, 2),
        (0, 7),
        (0, 9),
        (1, 12),
        (1, 17),
        (1, 19),
    ]
    assert len({frame for record in dataset.train for frame in record.frames}) == 2 * 54


def test_crops_are_written_once_and_anew_when_something_changed(camera, tmp_path):
    def written():
        return {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.jpg")}

    load(camera, tmp_path)
    first = written()
    assert len(first) == 54
    load(camera, tmp_path, row_frames=5)
    assert written() == first
    load(camera, tmp_path, quality=50)
    second = written()
    assert second.keys() == first.keys()
    assert all(second[path] > first[path] for path in first)
    Path(camera.boxes).write_text("1,7,21,11,8,8\n")
    load(camera, tmp_path, quality=50)
    assert [path.name for path in written()] == ["000001.jpg"]
    os.utime(camera.video, ns=(1, 1))
    third = written()
    load(camera, tmp_path, quality=50)
    assert written() != third


def test_a_failed_run_leaves_nothing_behind(camera, tmp_path):
    Path(camera.boxes).write_text("1,1,1,1,5,5\n61,1,1,1,5,5\n")
    with pytest.raises(ValueError, match=r"boxes\.txt line 2: a box beyond frame 60, where .*video\.avi ends"):
        load(camera, tmp_path)
    assert os.listdir(tmp_path / "cache") == []


@pytest.mark.parametrize(("name", "content"), [("holiday.jpg", "mine"), ("source.json", '{"name": 1}')])
def test_a_folder_of_the_user_is_not_replaced(camera, tmp_path, name, content):
    mine = tmp_path / "cache" / camera.view / name
    mine.parent.mkdir(parents=True)
    mine.write_text(content)
    with pytest.raises(ValueError, match=r"cache/rgb_3 holds files, but no source.json of crops, .*set data.root"):
        load(camera, tmp_path)
    assert mine.read_text() == content
    assert os.listdir(tmp_path / "cache") == ["rgb_3"]


def test_what_killed_runs_left_of_the_view_is_removed(camera, tmp_path):
    host, dead, alive = socket.gethostname(), 2**22 + 1, os.getppid()  # above the largest pid of Linux
    gone = [f"rgb_3.partial-{dead}", f"rgb_3.partial-{host}-{dead}", f"rgb_3.partial-{host}-{os.getpid()}"]
    kept = [
        f"rgb_3.partial-{host}-{alive}",
        f"rgb_3.partial-other.{host}-{dead}",
        f"rgb_4.partial-{host}-{dead}",
        "rgb_3.partial-mine",
    ]
    for name in gone + kept:
        (tmp_path / "cache" / name / "000001").mkdir(parents=True)
    load(camera, tmp_path)
    assert sorted(os.listdir(tmp_path / "cache")) == sorted(["rgb_3", *kept])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "boxes.txt holds no boxes"),
        (
            "1,1,1,1,5,5\n1,1,1,1,5\n",
            "boxes.txt line 2: expected frame,track,x,y,w,h as numbers, but found '1,1,1,1,5'",
        ),
        ("1,1,1,1,5,five\n", "line 1: expected"),
        ("1,1,1,nan,5,5\n", "line 1: expected"),
        ("1 1 1 1 5 5\n", "line 1: expected"),
        ("\n0,1,1,1,5,5\n", "line 2: frame must be a whole number from 1"),
        ("1.5,1,1,1,5,5\n", "line 1: frame must be a whole number"),
        ("1,1,1,1,5,5\n1,1e300,1,1,5,5\n", "line 2: frame 1 or track 1e.300 has over nine digits; number them"),
        ("1,1000000000,1,1,5,5\n", "line 1: frame 1 or track 1000000000 has over nine"),
        ("1e9,1,1,1,5,5\n", "line 1: frame 1000000000 or track 1 has over nine"),
        ("1,1,1e308,1,1e308,5\n", "line 1: expected frame,track,x,y,w,h as numbers"),
        ("1,-1,1,1,5,5\n", "line 1: track -1 means an untracked detection"),
        ("1,1,1,1,0,5\n", "line 1: box width and height must be above 0, but are 0 x 5"),
        ("2,1,1,1,5,5\n1,1,1,1,5,5\n2,1,9,9,5,5\n", "line 3: track 1 has another box in frame 2 on line 1"),
        (
            "1,1,1,1,5,5\n2,1,66,1,5,5\n3,1,70,1,5,5\n",
            "line 2: the box has no pixel in the 64x48 picture .* .2 such",
        ),
    ],
)
def test_bad_boxes_are_named_by_file_and_line(camera, tmp_path, text, message):
    Path(camera.boxes).write_text(text)
    with pytest.raises(ValueError, match=message):
        load(camera, tmp_path)


@pytest.mark.parametrize(
    ("content", "line"),
    [(b"1,1,1,1,5,5\n2,1,1,1,5,\xff\n", 2), ("1,1,1,1,5,5\n".encode("utf-16"), 1), (b"\x89PNG" + bytes(5000), 1)],
)
def test_boxes_that_are_no_text_are_named_by_their_line(camera, tmp_path, content, line):
    Path(camera.boxes).write_bytes(content)
    with pytest.raises(ValueError, match=rf"boxes.txt line {line}: expected frame,track,x,y,w,h as numbers") as raised:
        load(camera, tmp_path)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1000


def test_bad_files_and_cameras_are_named(camera, tmp_path):
    with pytest.raises(FileNotFoundError, match="video file none.mp4 does not exist"):
        load(mot.Camera("none.mp4", camera.boxes, RGB, 1), tmp_path)
    with pytest.raises(FileNotFoundError, match="boxes file none.txt does not exist"):
        load(mot.Camera(camera.video, "none.txt", RGB, 1), tmp_path)
    (tmp_path / "torn.mp4").write_bytes(b"torn")
    with pytest.raises(ValueError, match="torn.mp4 cannot be read as a video"):
        load(mot.Camera(str(tmp_path / "torn.mp4"), camera.boxes, RGB, 1), tmp_path)
    with pytest.raises(ValueError, match="2 videos are of view rgb_3"):
        load([camera, camera], tmp_path)
    with pytest.raises(ValueError, match="modality must be 0 .RGB. or 1 .IR."):
        load(mot.Camera(camera.video, camera.boxes, 2, 1), tmp_path)
    with pytest.raises(ValueError, match="no camera is given"):
        load([], tmp_path)


def test_the_real_example_shows_six_people_by_their_clothes(tmp_path):
    """Real pixels: tracks 2, 3 and 4 wear black and 1, 5 and 6 grey; both halves of a track look alike."""
    camera = mot.Camera(str(EXAMPLE / "video.mp4"), str(EXAMPLE / "boxes.txt"), RGB, 1)
    dataset = load(camera, tmp_path)
    assert dataset.counts["train"]["frames"] == 938
    assert len(dataset.train) == 43
    assert [len(q.frames) + len(g.frames) for q, g in zip(dataset.query, dataset.gallery)] == [
        118,
        200,
        172,
        99,
        251,
        98,
    ]
    reader = pipeline.FrameReader(dataset.root, (64, 32))
    torso = {}
    for half in ("query", "gallery"):
        records = getattr(dataset, half)
        (batch,) = pipeline.test_clips(reader, records, clip_length=6, batch_size=6)
        torso[half] = np.median(batch.frames[:, :, 20:30, 11:21], axis=(1, 2, 3))  # [6, RGB]
    brightness = torso["query"].mean(1)
    assert max(brightness[[1, 2, 3]]) < 40
    assert min(brightness[[0, 4, 5]]) > 80
    np.testing.assert_allclose(torso["query"], torso["gallery"], atol=25)
