"""A sweep prints commands that run, refuses what would change nothing, and goes on where it was stopped."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags
from ml_collections import config_flags

from experiments import records, sweeps
from hitpro_jax.options import flat
from hitpro_jax.run import read_options

ROOT = Path(__file__).parents[2]


def fields_of(words: list[str], monkeypatch) -> dict:
    """All fields of the config that a run's flags give, as the run reads them."""
    monkeypatch.setattr("sys.argv", words)  # ml_collections finds the overrides there
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    assert values(words)[1:] == []
    read_options(values.config)
    return flat(values.config.to_dict())


# Imports once what every command needs, then gives each a process of its own.
FORKS = """
import importlib, json, os, runpy, sys
import hitpro_jax.commands.train, experiments.fields
parse_alone, *calls = json.loads(sys.argv[1])

def run(module, words):
    if not parse_alone:
        sys.argv = [module, *words]
        return runpy.run_module(module, run_name="__main__", alter_sys=True)
    from absl import flags
    found = importlib.import_module(module)
    sys.argv = getattr(found, "with_config", list)([module, *words])
    assert flags.FLAGS(sys.argv)[1:] == []

for number, (module, *words) in enumerate(calls):
    if os.fork():
        code = os.waitstatus_to_exitcode(os.wait()[1])
        print(json.dumps([code, *(open(f"{name}{number}").read() for name in ("out", "err"))]), flush=True)
        continue
    for stream, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}{number}", os.O_CREAT | os.O_WRONLY), stream)
    try:
        os.chdir(os.environ["PYTHONPATH"])
        run(module, words)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        print("" if isinstance(error.code, int | None) else error.code, file=sys.stderr)
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(code)
"""


@pytest.fixture
def called(tmp_path):
    """Calls modules as `python -m` does; gives the exit code, standard output and standard error of each."""

    def call(*calls: list[str], parse_alone: bool = False) -> list[tuple[int, str, str]]:
        words = json.dumps([parse_alone, *calls])
        done = subprocess.run(
            [sys.executable, "-c", FORKS, words],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        return [tuple(json.loads(line)) for line in done.stdout.splitlines()]

    return call


@pytest.fixture
def dry(called):
    """Standard output and standard error of dry runs of sweeps, as lines."""

    def run(*calls: list[str], code: int = 0) -> list[list[str]]:
        found = called(*[["experiments.sweep", "--dry_run", *words] for words in calls])
        assert [each[0] for each in found] == [code] * len(calls), found
        return [(out if code == 0 else err).strip().splitlines() for _, out, err in found]

    return run


def printed_runs(lines: list[str]) -> list[list[str]]:
    """The words of each printed run from the module on, as a shell splits them, without the bars to be read."""
    runs = [shlex.split(re.sub(r"^bars=\$\(.*?\) && (.*) \$bars$", r"\1", line)) for line in lines]
    assert all(words[:3] == [sys.executable, "-m", "hitpro_jax.main"] for words in runs)
    return [words[2:] for words in runs]


def test_a_dry_run_prints_one_command_a_run_that_a_shell_and_a_run_take(dry, monkeypatch):
    """The values need quotes: `settings` has a pair, and the path a space."""
    names = ["components", "settings", "thresholds"]
    given = ["--seeds=3,4", "--config.init.weights=/my data", "--config.train.epochs=2"]
    monkeypatch.chdir(ROOT)
    for name, lines in zip(names, dry(*[[f"--sweep={name}", *given] for name in names]), strict=True):
        runs, variants = printed_runs(lines), dict(getattr(sweeps, name)())
        assert len(runs) == 2 * len(variants)
        for words in runs:
            found = fields_of(words, monkeypatch)
            *_, sweep_name, folder, seed = next(w for w in words if w.startswith("--workdir=")).split("/")
            assert sweep_name == name
            overrides = next(fields for variant, fields in variants.items() if records.folder_of(variant) == folder)
            wanted = {"data.seed": int(seed.removeprefix("seed")), "init.weights": "/my data", "train.epochs": 2} | {
                field: value for field, value in overrides.items() if not isinstance(value, sweeps.BarOf)
            }
            assert {field: found[field] for field in wanted} == wanted
        assert len({tuple(words) for words in runs}) == len(runs)


def test_bars_are_read_by_the_shell_and_after_the_runs_that_have_them(dry):
    (lines,) = dry(["--sweep=thresholds", "--seeds=3,4"])
    pattern = r"^bars=\$\(\S+ -m experiments.thresholds --workdir=(\S+)\) && .* \$bars$"
    sources = [re.search(pattern, line) for line in lines]
    assert sum(map(bool, sources)) == 8
    for number, source in enumerate(sources):
        above = [line for line in lines[:number] if source and f"--workdir={source[1]} " in line]
        assert not source or len(above) == 1


def test_a_printed_run_begins_with_its_bars_or_not_at_all(dry, tmp_path):
    """In a shell, where both modules only print."""
    (lines,) = dry(["--sweep=thresholds", "--seeds=3", f"--root={tmp_path}", "--only=bars of equal recall"])
    begins = lines[0].replace("-m hitpro_jax.main", "-c 'import sys; print(sys.argv[-2:])'")
    for reader, code, printed in (("print(1, 2)", 0, "['1', '2']\n"), ("raise SystemExit(3)", 3, "")):
        line = begins.replace("-m experiments.thresholds", f"-c '{reader}'")
        assert line.count(" -c ") == 2
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (code, printed)


def test_the_seed_of_each_data_set_is_one_that_changes_something(dry, monkeypatch):
    wanted = {
        "--config=configs/synthetic.py": (0, 7),
        "--config=configs/own_video.py": (7, 0),
        "--config.data.name=mars": (7, 0),
        "--seed_field=seed": (7, 0),
    }
    monkeypatch.chdir(ROOT)
    printed = dry(*[["--sweep=frames", "--only=HiTPro", "--seeds=7", more] for more in wanted])
    found = [fields_of(words, monkeypatch) for lines in printed for words in printed_runs(lines)]
    assert [(each["seed"], each["data.seed"]) for each in found] == list(wanted.values())


def test_what_cannot_be_swept_is_refused_in_one_sentence(dry):
    wanted = {
        "sweep components has no variant level 7": ["--only=level 7"],
        "data.seed draws the people of the synthetic world": ["--config=configs/vcm.py", "--seed_field=data.seed"],
        "the config has no such field ('foo')": ["--config.foo=3"],
    }
    for sentence, lines in zip(wanted, dry(*wanted.values(), code=1), strict=True):
        assert len(lines) == 1
        assert lines[0].startswith("error: ")
        assert sentence in lines[0]


def test_a_config_that_is_asked_for_something_has_a_folder_of_its_own(dry):
    asked = "--config=configs/buptcampus.py:full", "--config.data.root=/data"
    bupt, longer = dry([*asked, "--only=level 1"], ["--name=longer", "--only=level 1"])
    assert "--workdir=runs/sweeps/buptcampus_full/components/level_1/seed0" in bupt[0]
    assert "--workdir=runs/sweeps/longer/components/level_1/seed0" in longer[0]


COMMAND = re.compile(r"""python -m (experiments[\w.]+)((?: --\w(?:"[^"]*"|[^\s`#)"])*)*)""")
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
MODULES = [*(ROOT / "configs").glob("*.py"), *(ROOT / "experiments").glob("*.py")]


def test_the_commands_of_the_documents_are_taken(called):
    """Each is parsed by its own module, and each sweep that a page names prints its runs."""
    texts = [page.read_text() for page in PAGES]
    texts += [ast.get_docstring(ast.parse(module.read_text())) or "" for module in MODULES]
    commands = sorted({(module, *shlex.split(words)) for text in texts for module, words in COMMAND.findall(text)})
    assert ("experiments.sweep", "--config=configs/evidence.py", "--sweep=tuned") in commands
    # other modules have no flags of absl
    flagged = [c for c in commands if "absl" in Path(ROOT, *c[0].split(".")).with_suffix(".py").read_text()]
    sweeps_alone = [(*c, "--dry_run") for c in commands if c[0] == "experiments.sweep"]
    for calls, alone in ((flagged, True), (sweeps_alone, False)):
        for words, (code, out, err) in zip(calls, called(*calls, parse_alone=alone), strict=True):
            assert code == 0, (words, err)
            assert alone or "hitpro_jax.main" in out


STUB = """
import json, pathlib, sys
folder, fate = pathlib.Path(sys.argv[1]), sys.argv[2]
print(sys.argv[3:], flush=True)
folder.joinpath("checkpoints").mkdir(parents=True, exist_ok=True)
if fate == "waits":
    print("waiting", flush=True)
    import time
    time.sleep(60)
if fate == "ends":
    metrics = [{"step": step, "eval/i2v/mAP": 20.0} for step in (0, 40)]
    folder.joinpath("metrics.jsonl").write_text("".join(json.dumps(m) + "\\n" for m in metrics))
    folder.joinpath("config.json").write_text(
        '{"seed": 0, "data": {"seed": 3}, "within": {"fixed": 0.125}, "across": {"fixed": 0.75}}'
    )
    folder.joinpath("env.json").write_text('{"git": "abc", "devices": {"cpu": 1}, "cores": 2}')
    folder.joinpath("result.json").write_text('{"step": 40, "i2v": {"mAP": 30.0}}')
sys.exit(fate == "fails")
"""
SWEEP_STUB = """
import sys
from absl import app
from experiments import sweep
fates = dict(word.split("=") for word in sys.argv.pop(1).split(","))
sweep.SWEEPS["frames"] = lambda: iter([(name, {}) for name in fates])
sweep.command = lambda overrides, seed, workdir: [sys.executable, "-c", STUB, str(workdir), fates[workdir.parent.name]]
# more
app.run(sweep.main, argv=sweep.with_config(sys.argv))
"""


@pytest.fixture
def begun(tmp_path):
    """Begins a sweep whose runs fail, leave (end without a result), end or wait, as `fates` says."""

    def begin(fates: str, *more: str, stub: str = ""):
        code = f"STUB = {STUB!r}\n{SWEEP_STUB.replace('# more', stub)}"
        return subprocess.Popen(
            [
                sys.executable,
                "-c",
                code,
                fates,
                f"--config={ROOT}/configs/synthetic.py",
                "--sweep=frames",
                "--seeds=0",
                "--jobs=1",
                *more,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    return begin


def rows_of(folder):
    path = folder / "experiments/results/synthetic/frames.json"
    return {row["variant"]: row for row in json.loads(path.read_text())} if path.exists() else {}


@pytest.mark.parametrize("fate", ["fails", "leaves"])
def test_a_sweep_goes_on_where_a_run_ended_without_a_result(begun, tmp_path, fate):
    process = begun(f"one=ends,two={fate},three=ends")
    output, _ = process.communicate(timeout=180)
    assert process.returncode
    assert "two, seed 0, ended with code" in output
    assert "no result" in output
    assert set(rows_of(tmp_path)) == {"one"}  # three had not begun
    minutes = rows_of(tmp_path)["one"]["minutes"]
    process = begun("one=ends,two=ends,three=ends")
    assert process.wait(timeout=180) == 0
    rows = rows_of(tmp_path)
    assert set(rows) == {"one", "two", "three"}
    assert rows["one"]["minutes"] == minutes is not None
    assert rows["two"]["minutes"] is None
    assert rows["three"]["minutes"] is not None


def test_a_sweep_that_is_asked_to_stop_stops_its_runs(begun, tmp_path):
    process = begun("one=ends,two=waits,three=ends")
    assert any("waiting" in line for line in process.stdout)
    process.terminate()
    output, _ = process.communicate(timeout=180)
    assert process.returncode
    assert "asked to stop" in output
    assert set(rows_of(tmp_path)) == {"one"}


def test_rows_say_what_was_given_and_other_rows_are_not_replaced(begun, tmp_path):
    process = begun("one=ends", "--config.train.epochs=2", "--config.data.cache=False")
    assert process.wait(timeout=180) == 0
    row = rows_of(tmp_path)["one"]
    assert row["seed field"] == "data.seed"
    assert row["given"] == {"train.epochs": 2, "data.cache": False}
    for more in ((), ("--config.train.epochs=2", "--seed_field=seed")):
        process = begun("one=ends", *more)
        output, _ = process.communicate(timeout=180)
        assert process.returncode
        assert "has rows with other fields (one): give another --name" in output
    process = begun("one=ends", "--config.train.epochs=2")  # data.cache changes no figure
    assert process.wait(timeout=180) == 0
    process = begun("one=ends", "--name=plain")
    assert process.wait(timeout=180) == 0
    rows = json.loads((tmp_path / "experiments/results/plain/frames.json").read_text())
    assert rows[0]["given"] == {}


BARS_STUB = """
bar = sweep.BarOf("one")
sweep.SWEEPS["frames"] = lambda: iter([("reads", {"within.fixed": bar, "across.fixed": bar}), ("one", {})])
source = '''import pathlib, sys
assert pathlib.Path(sys.argv[1], "result.json").exists()
print("--config.within.fixed=0.25", "--config.across.fixed=0.5")'''
words = lambda seed: [sys.executable, "-c", source, str(sweep.workdir_of("one", seed))]
sweep.reader = lambda overrides, seed: words(seed) if overrides else []
"""


def test_bars_are_read_from_the_finished_run_and_kept_by_the_run_that_has_them(begun, tmp_path):
    process = begun("reads=ends,one=ends", stub=BARS_STUB)
    output, _ = process.communicate(timeout=180)
    assert process.returncode == 0, output
    assert "'--config.within.fixed=0.25', '--config.across.fixed=0.5'" in output  # what the stub was started with
    assert set(rows_of(tmp_path)) == {"reads", "one"}
    process = begun("reads=ends,one=ends", stub=BARS_STUB)  # the stub's config.json has others
    output, _ = process.communicate(timeout=180)
    assert "'--config.within.fixed=0.125', '--config.across.fixed=0.75'" in output


def test_bars_of_a_run_that_is_not_finished_are_refused(begun, tmp_path):
    process = begun("reads=ends,one=ends", "--only=reads", stub=BARS_STUB)
    output, _ = process.communicate(timeout=180)
    assert process.returncode
    assert "no bars for runs/sweeps/synthetic/frames/reads/seed0" in output
    assert rows_of(tmp_path) == {}
