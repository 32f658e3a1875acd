"""What a run leaves in its workdir, and what its screen shows."""

import io
import json
import re
import time

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from hitpro_jax.data.records import FrameError
from hitpro_jax.workdir import writer as writers

SCORES = {"rank1": 50.0, "rank5": 75.5, "rank10": 80.0, "rank20": 90.0, "mAP": 45.123, "mINP": 30.0}
RESULT = {"protocol": "HITSZ-VCM", "step": 300, "i2v": SCORES, "v2i": SCORES | {"mAP": float("nan")}}


@pytest.fixture(name="screen")
def screen_fixture():
    return Console(file=io.StringIO(), width=100)


@pytest.fixture(name="writer")
def writer_fixture(tmp_path, screen):
    with writers.Writer(tmp_path / "run", screen) as writer:
        yield writer


@pytest.fixture(name="clock")
def clock_fixture(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(writers.time, "monotonic", lambda: clock[0])
    return clock


def lines_of(writer: writers.Writer) -> list[dict]:
    return [json.loads(line) for line in (writer.path / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_plain_json_at_once(writer):
    writer.metrics(3, {"train/loss": jnp.float32(0.5), "train/rows": np.int32(7), "a/nan": np.nan, "a/inf": -np.inf})
    assert lines_of(writer) == [{"step": 3, "train/loss": 0.5, "train/rows": 7, "a/nan": None, "a/inf": None}]


def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    with writers.Writer(tmp_path / "straight") as straight:
        for step in range(6):
            straight.metrics(step, {"train/loss": 1 / (step + 1)})
    killed = writers.Writer(tmp_path / "killed")
    for step in range(5):
        killed.metrics(step, {"train/loss": 1 / (step + 1)})
    with open(tmp_path / "killed/metrics.jsonl", "a") as file:
        file.write('{"step": 2, "train/lo')
    with writers.Writer(tmp_path / "killed") as resumed:
        resumed.rewind(2)
        for step in range(3, 6):
            resumed.metrics(step, {"train/loss": 1 / (step + 1)})
    files = [(tmp_path / run / "metrics.jsonl").read_bytes() for run in ("straight", "killed")]
    assert files[0] == files[1]
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == ["metrics.jsonl"]


def test_rewind_from_scratch_drops_everything_and_needs_no_file(writer):
    writer.rewind(-1)
    writer.metrics(0, {"a": 1})
    writer.rewind(-1)
    assert lines_of(writer) == []


def test_say_reaches_screen_and_log_word_for_word(writer, screen):
    text = "[bold]warning[/bold]: " + "long " * 40
    writer.say(text)
    writer.say("second")
    assert screen.file.getvalue() == (writer.path / "log.txt").read_text() == f"{text}\nsecond\n"


def test_log_goes_on_where_it_ended(tmp_path):
    for text in ("first run", "second run"):
        with writers.Writer(tmp_path, Console(file=io.StringIO())) as writer:
            writer.say(text)
    assert (tmp_path / "log.txt").read_text() == "first run\nsecond run\n"


def test_environment_hides_secrets(writer):
    writer.environment(["main.py", "--config=configs/vcm.py", "--api_token=abc123", "--config.train.tokens=5"])
    environment = json.loads((writer.path / "env.json").read_text())
    assert environment["command"][:3] == ["main.py", "--config=configs/vcm.py", "--api_token=***"]
    assert environment["packages"]["jax"]
    assert environment["devices"] == {"cpu": 1}
    assert {"python", "git", "processes"} <= environment.keys()
    assert environment["processor"]


def test_config_and_result_are_files_of_valid_json(writer):
    writer.config({"seed": 1, "size": (288, 144)})
    writer.result(RESULT | {"step": np.int64(300)})
    assert json.loads((writer.path / "config.json").read_text()) == {"seed": 1, "size": [288, 144]}
    assert json.loads((writer.path / "result.json").read_text()) == RESULT | {"v2i": SCORES | {"mAP": None}}


def test_a_crash_while_writing_leaves_the_old_result(writer, monkeypatch):
    writer.result(RESULT | {"step": 1})

    def die(*_):
        raise OSError("disk full")

    monkeypatch.setattr(writers.os, "replace", die)
    with pytest.raises(OSError, match="disk full"):
        writer.result(RESULT | {"step": 2})
    assert json.loads((writer.path / "result.json").read_text())["step"] == 1


def test_the_report_holds_the_result_as_a_table(writer):
    writer.result(RESULT)
    lines = (writer.path / "report" / "result.md").read_text().splitlines()
    assert lines[0].startswith("HITSZ-VCM, ")
    assert "step 300" in lines[0]
    assert lines[4].startswith("| infrared to visible | ")
    assert "45.12" in lines[4]
    assert len(lines) == 6
    assert lines[5].count("|") == lines[2].count("|")
    assert " - |" in lines[5]


def test_waiting_tells_how_far_it_is(writer, screen):
    with writer.waiting("embedding", after=0.01) as wait:
        embed = wait.counting(lambda variables, frames: frames[0], total=5)
        assert "the first clips are on their way" in wait.count
        assert embed({}, [7, 8, 9]) == 7
        assert wait.count == ", 3 of 5 clips"
        embed({}, [7, 8, 9])
        assert wait.count == ", 5 of 5 clips"  # the sixth filled up a batch
        while "so far" not in screen.file.getvalue():
            time.sleep(0.01)
    assert re.match(r"embedding ... \d+ s so far, .* clips", screen.file.getvalue())


def test_table_shows_both_directions_on_screen_and_in_the_log(writer, screen):
    writer.table(RESULT)
    for text in (screen.file.getvalue(), (writer.path / "log.txt").read_text()):
        rows = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
        assert "HITSZ-VCM, step 300" in text
        assert "45.12" in rows["infrared to visible"]
        assert "75.50" in rows["visible to infrared"]
        assert "45.12" not in rows["visible to infrared"]


def test_progress_without_terminal_is_a_line_every_ten_seconds(writer, screen, clock):
    for step in range(1, 31):
        clock[0] = float(step)
        writer.progress(step, 30, loss=2.0, clips=64)
    assert screen.file.getvalue().splitlines() == [
        "step 1/30  loss 2.0000",
        "step 11/30  loss 2.0000  64.0 clips/s  ETA 0:00:19",
        "step 21/30  loss 2.0000  64.0 clips/s  ETA 0:00:09",
        "step 30/30  loss 2.0000  64.0 clips/s  ETA 0:00:00",
    ]


def test_progress_speed_is_that_of_the_last_calls(clock, writer, screen):
    for step in range(1, 201):
        clock[0] += 1.0 if step <= 100 else 0.5
        writer.progress(step, 7400, loss=jnp.float32(1), clips=10)
    assert screen.file.getvalue().splitlines()[-1].endswith("20.0 clips/s  ETA 1:00:09")


def test_progress_on_a_terminal_stays_in_place_under_what_is_said(tmp_path, clock):
    screen = Console(file=io.StringIO(), width=100, force_terminal=True, legacy_windows=False)
    with writers.Writer(tmp_path, screen) as writer:
        writer.progress(1, 3, loss=1.0, clips=4)
        clock[0] = 1.0
        writer.progress(2, 3, loss=1.0, clips=4)
        writer.say("checkpoint saved")
    shown = screen.file.getvalue()
    assert "step 1/3" in shown
    assert "step 2/3  loss 1.0000  4.0 clips/s" in shown
    assert "\x1b[2K" in shown.split("step 1/3")[1]  # the line is erased before the next is written
    assert "checkpoint saved\n" in shown
    assert (tmp_path / "log.txt").read_text() == "checkpoint saved\n"


def test_other_processes_write_nothing(tmp_path, screen, monkeypatch):
    monkeypatch.setattr(writers.jax, "process_index", lambda: 1)
    with writers.Writer(tmp_path / "run", screen) as writer:
        writer.say("hello")
        writer.config({})
        writer.environment([])
        writer.rewind(-1)
        writer.metrics(0, {"a": 1})
        writer.progress(1, 2, loss=1.0, clips=1)
        writer.result(RESULT)
        writer.table(RESULT)
    assert not (tmp_path / "run").exists()
    assert screen.file.getvalue() == ""


def test_two_trainings_cannot_share_a_workdir(tmp_path):
    first, second = writers.Writer(tmp_path), writers.Writer(tmp_path)
    with first.exclusive(), pytest.raises(ValueError, match="another process is training in"), second.exclusive():
        pass
    with second.exclusive():
        pass


def test_frames_of_an_error_are_listed_once_each_by_process_0_alone(writer, screen, tmp_path, monkeypatch):
    error = FrameError("3 listed frames are missing", ["a/1.jpg", "b/2.jpg", "a/1.jpg"])
    monkeypatch.setattr(writers.jax, "process_index", lambda: 1)
    writers.Writer(tmp_path / "run").error(error)
    assert not (writer.path / "missing.txt").exists()
    writer.error(error)
    assert (writer.path / "missing.txt").read_text() == "a/1.jpg\nb/2.jpg\n"
    assert screen.file.getvalue() == (
        f"error: 3 listed frames are missing; {writer.path / 'missing.txt'} lists all 2 files\n"
    )
