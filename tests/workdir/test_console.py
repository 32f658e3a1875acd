"""What a run's screen shows: progress, reminders and tables."""

import io
import re
import time

import jax.numpy as jnp
from rich.console import Console

from hitpro_jax.workdir import Workdir, console


def test_the_report_holds_the_result_as_a_table(workdir, result):
    workdir.result(result)
    lines = (workdir.path / "report" / "result.md").read_text().splitlines()
    assert lines[0].startswith("HITSZ-VCM, ")
    assert "step 300" in lines[0]
    assert lines[4].startswith("| infrared to visible | ")
    assert "45.12" in lines[4]
    assert len(lines) == 6
    assert lines[5].count("|") == lines[2].count("|")
    assert " - |" in lines[5]


def test_the_setting_stands_above_every_table(result):
    assert console.table(result).title == "HITSZ-VCM, step 300"
    result.setting = "6 frames of 288x144, camera rule"
    assert console.table(result).title == "HITSZ-VCM (6 frames of 288x144, camera rule), step 300"
    assert console.markdown(result).startswith("HITSZ-VCM, 6 frames of 288x144, camera rule, step 300; in %\n")
    result.setting, result.scores = "", {}
    assert console.markdown(result) == "HITSZ-VCM, nothing to score, step 300; in %\n\n"


def test_waiting_shows_how_far_it_is(workdir, screen):
    with workdir.waiting("embedding", after=0.01) as wait:
        embed = wait.counting(lambda variables, frames: frames[0], total=5)
        assert "the first clips are on their way" in wait.count
        assert embed({}, [7, 8, 9]) == 7
        assert wait.count == ", 3 of 5 clips"
        embed({}, [7, 8, 9])
        assert wait.count == ", 5 of 5 clips"  # the sixth filled up a batch
        while "so far" not in screen.file.getvalue():
            time.sleep(0.01)
    assert re.match(r"embedding ... \d+ s so far, .* clips", screen.file.getvalue())


def test_scored_queries_are_counted():
    wait = console.Wait()
    scored = wait.scoring(200_000)
    scored(4_000)
    scored(8_000)
    assert wait.count == ", scored 12,000 of 200,000 queries"


def test_a_figure_over_several_trials_has_its_deviation(result):
    result.rows = lambda: [("infrared to visible", {"mAP": (45.125, 1.5), "mINP": (float("nan"), 2.0)})]
    assert console.markdown(result).splitlines()[-1] == "| infrared to visible | 45.12 ± 1.50 | - ± 2.00 |"


def test_progress_without_terminal_is_a_line_every_ten_seconds(workdir, screen, clock):
    for step in range(1, 31):
        clock[0] = float(step)
        workdir.progress(step, 30, loss=2.0, clips=64)
    assert screen.file.getvalue().splitlines() == [
        "step 1/30  loss 2.0000",
        "step 11/30  loss 2.0000  64.0 clips/s  ETA 0:00:19",
        "step 21/30  loss 2.0000  64.0 clips/s  ETA 0:00:09",
        "step 30/30  loss 2.0000  64.0 clips/s  ETA 0:00:00",
    ]


def test_progress_speed_is_that_of_the_last_calls(clock, workdir, screen):
    for step in range(1, 201):
        clock[0] += 1.0 if step <= 100 else 0.5
        workdir.progress(step, 7400, loss=jnp.float32(1), clips=10)
    assert screen.file.getvalue().splitlines()[-1].endswith("20.0 clips/s  ETA 1:00:09")


def test_progress_on_a_terminal_stays_in_place_under_what_is_logged(tmp_path, clock):
    screen = Console(file=io.StringIO(), width=100, force_terminal=True, legacy_windows=False)
    with Workdir(tmp_path, screen) as workdir:
        workdir.progress(1, 3, loss=1.0, clips=4)
        clock[0] = 1.0
        workdir.progress(2, 3, loss=1.0, clips=4)
        workdir.log("checkpoint saved")
    shown = screen.file.getvalue()
    assert "step 1/3" in shown
    assert "step 2/3  loss 1.0000  4.0 clips/s" in shown
    assert "\x1b[2K" in shown.split("step 1/3")[1]  # the line is erased before the next is written
    assert "checkpoint saved\n" in shown
    assert (tmp_path / "log.txt").read_text() == "checkpoint saved\n"
