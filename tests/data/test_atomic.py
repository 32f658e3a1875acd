"""Drafts: only those that killed processes of this machine left are removed; and processes that help."""

import os
import socket

from hitpro_jax.data import atomic

DEAD = 2**22 + 1  # above the largest pid of Linux


def test_a_draft_lies_beside_its_folder_and_names_its_process(tmp_path):
    name = f"set.partial-{socket.gethostname()}-{os.getpid()}"
    assert atomic.draft_of(tmp_path / "set") == str(tmp_path / name)


def test_drafts_of_processes_that_run_or_of_other_machines_stay(tmp_path):
    host = socket.gethostname()
    gone = [f"set.partial-{DEAD}", f"set.partial-{host}-{DEAD}", f"set.partial-{host}-{os.getpid()}"]
    kept = [
        f"set.partial-{host}-{os.getppid()}",
        f"set.partial-other.{host}-{DEAD}",
        f"other.partial-{host}-{DEAD}",
        "set.partial-mine",
        "set",
    ]
    for name in gone + kept:
        (tmp_path / name / "content").mkdir(parents=True)
    atomic.remove_drafts(tmp_path / "set")
    assert sorted(os.listdir(tmp_path)) == sorted(kept)


def test_a_folder_named_like_a_pattern_loses_its_own_drafts_alone(tmp_path):
    for name in (f"s[e]t.partial-{DEAD}", f"set.partial-{DEAD}"):
        (tmp_path / name).mkdir()
    atomic.remove_drafts(tmp_path / "s[e]t")
    assert os.listdir(tmp_path) == [f"set.partial-{DEAD}"]


def test_workers_are_other_processes():
    with atomic.workers(1) as pool:
        assert pool.submit(os.getpid).result() != os.getpid()
