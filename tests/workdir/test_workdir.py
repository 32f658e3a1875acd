"""A run's folder and screen as callers see them: one object, of process 0 alone."""

import io

import jax
from rich.console import Console

from hitpro_jax.data.records import FrameError
from hitpro_jax.workdir import Workdir


def test_log_reaches_screen_and_file_word_for_word(workdir, screen):
    text = "[bold]warning[/bold]: " + "long " * 40
    workdir.log(text)
    workdir.log("second")
    assert screen.file.getvalue() == (workdir.path / "log.txt").read_text() == f"{text}\nsecond\n"


def test_log_goes_on_where_it_ended(tmp_path):
    for text in ("first run", "second run"):
        with Workdir(tmp_path, Console(file=io.StringIO())) as workdir:
            workdir.log(text)
    assert (tmp_path / "log.txt").read_text() == "first run\nsecond run\n"


def test_table_shows_both_directions_on_screen_and_in_the_log(workdir, screen, result):
    workdir.table(result)
    for text in (screen.file.getvalue(), (workdir.path / "log.txt").read_text()):
        rows = {line.split("│")[1].strip(): line for line in text.splitlines() if line.startswith("│")}
        assert "HITSZ-VCM, step 300" in text
        assert "45.12" in rows["infrared to visible"]
        assert "75.50" in rows["visible to infrared"]
        assert "45.12" not in rows["visible to infrared"]


def test_a_result_without_directions_is_one_line(workdir, screen, result):
    result.scores = {}
    workdir.table(result)
    line = "step 300: nothing to score, the data set has no labelled query and gallery\n"
    assert screen.file.getvalue() == (workdir.path / "log.txt").read_text() == line


def test_other_processes_write_nothing(tmp_path, screen, monkeypatch, result):
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    with Workdir(tmp_path / "run", screen) as workdir, workdir.exclusive(), workdir.waiting("x", after=0.0):
        workdir.log("hello")
        workdir.config({})
        workdir.environment([])
        workdir.rewind(-1)
        workdir.metrics(0, {"a": 1})
        workdir.progress(1, 2, loss=1.0, clips=1)
        workdir.result(result)
        workdir.evaluation(result)
        workdir.table(result)
    assert not (tmp_path / "run").exists()
    assert screen.file.getvalue() == ""


def test_frames_of_an_error_are_listed_once_each_by_process_0_alone(workdir, screen, tmp_path, monkeypatch, capsys):
    error = FrameError("3 listed frames are missing", ["a/1.jpg", "b/2.jpg", "a/1.jpg"])
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    Workdir(tmp_path / "run").error(error)
    assert capsys.readouterr().err == "error on process 1: 3 listed frames are missing\n"
    assert not (workdir.path / "missing.txt").exists()
    workdir.error(error)
    assert (workdir.path / "missing.txt").read_text() == "a/1.jpg\nb/2.jpg\n"
    assert screen.file.getvalue() == (
        f"error: 3 listed frames are missing; {workdir.path / 'missing.txt'} lists all 2 files\n"
    )


def test_the_traceback_of_an_error_is_in_the_log_alone(workdir, screen):
    try:
        raise ValueError("no such folder: make it")
    except ValueError as error:
        workdir.error(error)
    assert screen.file.getvalue() == "error: no such folder: make it\n"
    log = (workdir.path / "log.txt").read_text()
    assert log.startswith("Traceback")
    assert log.endswith("\nerror: no such folder: make it\n")


def test_an_error_is_shown_where_it_cannot_be_written(tmp_path, monkeypatch, capsys):
    """A full disk does not hide what filled it."""
    with Workdir(tmp_path) as workdir:

        def full(path, text):
            raise OSError("no space")

        monkeypatch.setattr("hitpro_jax.workdir.files.append", full)
        workdir.error(ValueError("the sentence"))
    assert "error: the sentence" in capsys.readouterr().out
