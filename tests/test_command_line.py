"""The command line: flags of the mode that is asked for, fields of the config, and the default workdir."""

import re
import sys

import pytest
from absl import flags

from hitpro_jax import main
from hitpro_jax import run as runs
from hitpro_jax.command_line import default_workdir, mode_of, open_workdir
from hitpro_jax.commands import COMMANDS
from hitpro_jax.options import FREE_FIELDS
from tests.settings import ROOT, fields, load

SYNTHETIC = f"--config={ROOT}/configs/synthetic.py"


def test_fields_are_set_from_the_command_line(command_line):
    config = command_line(
        SYNTHETIC,
        "--config.within.rule=fixed",
        "--config.seed=3",
        "--config.within.rho=0.7,0.6",
        "--config.across.enabled=false",
        "--workdir=somewhere",
    )
    found = config.within.rule, config.seed, config.within.rho, config.across.enabled
    assert found == ("fixed", 3, (0.7, 0.6), False)
    assert config.across.rule == "both"
    assert main.WORKDIR.value == "somewhere"
    assert main.MODE.value == "train"


def test_an_unknown_field_is_an_error(command_line):
    with pytest.raises(SystemExit, match=r"^error: the config has no such field \('rul' Did you mean \"rule\""):
        command_line(SYNTHETIC, "--config.within.rul=fixed")


def test_each_config_has_a_workdir_of_its_own(command_line):
    config = command_line(SYNTHETIC)
    own = default_workdir(config)
    assert own == default_workdir(load("synthetic"))
    assert re.fullmatch("runs/synthetic-[0-9a-f]{8}", str(own))
    config.data.num_workers, config.train.log_every = 4, 1  # no number changes with them
    assert default_workdir(config) == own
    for field, value in (("root", "elsewhere"), ("seed", 1)):
        other = load("synthetic")
        other.data[field] = value
        assert default_workdir(other) != own


def test_a_field_that_a_later_release_brings_leaves_the_default_workdir_as_it_is(command_line, monkeypatch):
    config, known = command_line(SYNTHETIC), runs.defaults()
    own = default_workdir(config)
    monkeypatch.setattr(runs, "defaults", lambda: {**known, "later": 7})
    for value, same in ((7, True), (8, False)):
        other = load("synthetic")
        other.unlock()
        other.later = value
        assert (default_workdir(other) == own) == same


def test_a_workdir_that_cannot_be_made_is_one_sentence(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as end:
        open_workdir(tmp_path / "file" / "run")
    assert end.value.code == 1
    assert capsys.readouterr().err == (
        f"error: the workdir {tmp_path}/file/run cannot be written (Not a directory): remove the file that stands in "
        "the place of a folder, or choose another --workdir\n"
    )


def test_a_workdir_that_is_opened_names_itself_in_its_log(tmp_path):
    with open_workdir(tmp_path / "run"):
        assert (tmp_path / "run" / "log.txt").read_text() == f"workdir: {tmp_path}/run\n"


def test_only_fields_that_change_no_number_leave_the_default_workdir_as_it_is(command_line):
    config = command_line(SYNTHETIC)
    own, values = default_workdir(config), fields(config)
    for name in FREE_FIELDS:
        other = load("synthetic")
        value = values[name]
        other.update_from_flattened_dict({name: f"{value}x" if isinstance(value, str) else type(value)(not value)})
        assert (default_workdir(other) == own) == (name != "data.root"), name


@pytest.mark.parametrize(
    ("arguments", "mode"),
    [
        ([], "train"),
        (["--mode=eval"], "eval"),
        (["-mode=eval"], "eval"),
        (["--mode", "check", "--workdir=mode"], "check"),
        (["--mode=eval", "--mode=pack"], "pack"),
        (["--config.data.mode=x", "mode=eval"], "train"),
        (["--mode"], ""),
    ],
)
def test_the_mode_is_found_before_flags_are_parsed(arguments, mode):
    assert mode_of(["main", *arguments]) == mode


@pytest.fixture
def measure(tmp_path, monkeypatch):
    """A mode `measure` with a flag `--depth` of its own, whose module nothing has imported yet."""
    (tmp_path / "measure_command.py").write_text(
        "from absl import flags\nDEPTH = flags.DEFINE_integer('depth', 1, 'of the measurement')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "measure", "measure_command")
    monkeypatch.setattr(flags.FLAGS["mode"].parser, "enum_values", list(COMMANDS))
    yield
    if "depth" in flags.FLAGS:
        delattr(flags.FLAGS, "depth")
    sys.modules.pop("measure_command", None)


def test_a_flag_of_another_mode_is_refused_with_its_mode(command_line, measure):
    with pytest.raises(SystemExit, match="^error: --depth belongs to --mode=measure: give that with it, or leave"):
        command_line(SYNTHETIC, "--mode=eval", "--depth=3")


def test_a_mode_has_its_own_flags(command_line, measure):
    command_line(SYNTHETIC, "--mode=train", "--workdir=somewhere")
    assert "depth" not in flags.FLAGS
    command_line(SYNTHETIC, "--mode=measure", "--depth=3")
    assert flags.FLAGS["depth"].value == 3


def test_a_flag_of_no_mode_is_refused_in_one_sentence(command_line):
    with pytest.raises(SystemExit, match="^error: Unknown command line flag 'no_such_flag'.*: --help lists the flags$"):
        command_line(SYNTHETIC, "--no_such_flag=3")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--config.optim.learning_rate=abc", "could not convert string to float: 'abc'"),
        ("--config.train.epochs=2.5", "epochs"),
        ("--config.data.synthetic.camera_seed=x", "camera_seed"),
        ("--nonsense=1", "Unknown command line flag 'nonsense'"),
    ],
)
def test_a_value_of_the_wrong_type_is_one_sentence(command_line, argument, message):
    with pytest.raises(SystemExit, match=f"^error: .*{message}") as error:
        command_line(SYNTHETIC, argument)
    assert "defined twice" not in str(error.value)
