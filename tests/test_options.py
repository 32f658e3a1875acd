"""Options: every field has a type and a range, and every fault of a section is one sentence that names the field."""

import dataclasses
from typing import get_type_hints

import pytest
from ml_collections import ConfigDict

from configs import base
from hitpro_jax.options import FREE_FIELDS, CameraOptions, DataOptions, Options, Range, TrainOptions, plain, read
from hitpro_jax.run import read_options, sections
from tests.settings import NAMES, choices, fields, load


def test_every_field_of_names_is_found():
    counted = {field: sum(f == field for f, _ in choices()) for field, _ in choices()}
    assert counted["across.rule"] == 4
    assert counted["within.weighting"] == 5
    assert counted["loss.ambiguity"] == 3
    assert counted["encoder.aggregator"] == 3
    assert counted["optim.schedule"] == 3
    assert len(counted) >= 15


def numbers(config: ConfigDict) -> list[str]:
    """Dotted names of all fields that hold a number or several, sections of all data sets and methods included."""
    return [
        name
        for name, value in fields(config).items()
        if isinstance(value, int | float | tuple) and not isinstance(value, bool)
    ]


# Nothing but a sign or NaN can be wrong with these.
ANY_NUMBER = {"within.kappa", "across.kappa"}


@pytest.mark.parametrize("field", sorted({field for field, _ in choices()}))
def test_an_unknown_choice_is_refused(field):
    config = load("synthetic")
    config.update_from_flattened_dict({field: "nonsense"})
    with pytest.raises(ValueError, match=f"^{field} is 'nonsense': choose one of "):
        read_options(config)


@pytest.mark.parametrize("field", numbers(base.get_config()))
def test_every_number_has_a_range(field):
    """A number that no run can mean is refused, with the field's name, its value and what to give."""
    config = load("base")
    value = fields(config)[field]
    wrong = float("nan") if field in ANY_NUMBER else -2
    config.unlock()
    section, _, name = field.rpartition(".")
    holder = config[section] if section else config
    with holder.ignore_type():
        holder[name] = (wrong, *value[1:]) if isinstance(value, tuple) else wrong
    with pytest.raises(ValueError, match=rf"^{field} is .*(-2|nan).*: give "):
        read_options(config)


def test_fields_that_a_config_lacks_or_has_besides_are_reported():
    config = load("synthetic")
    config.unlock()
    del config.loss.temperature
    config.loss.temprature = 0.1
    with pytest.raises(ValueError, match="(?s)loss.temperature is missing.*loss.temprature is no field of the config"):
        read_options(config)


def test_an_image_size_is_two_numbers():
    config = load("synthetic")
    config.data.image_size = (64,)
    with pytest.raises(ValueError, match=r"data.image_size is \(64,\): give 2 values, each a whole number at least 1"):
        read_options(config)


def test_fields_free_to_change_exist():
    known = set().union(*(fields(load(name)) for name in NAMES))
    assert set(FREE_FIELDS) <= known


GONE = object()
NAN, INFINITY = float("nan"), float("inf")
YARD = {"video": "yard.mp4", "boxes": "yard.txt", "modality": 0, "camid": 1}


def read_with(**values) -> tuple[Options, list[str]]:
    """The default config with values at dotted names, or without them where they are GONE; and its faults."""
    config, faults = plain(Options()), []
    for name, value in values.items():
        *above, last = name.split(".")
        section = config
        for each in above:
            section = section[each]
        section[last] = value
        if value is GONE:
            del section[last]
    return read(Options, config, "", faults), faults


def test_the_defaults_have_no_fault():
    options, faults = read_with()
    assert faults == []
    assert options == Options()


ODD = [
    # the second of two values
    ("within.rho", (0.5, 1.5), "give 2 values, each a number at least 0 and at most 1"),
    ("within.kappa", (0.5, NAN), "give 2 values, each a number"),
    ("data.image_size", (288, 0), "give 2 values, each a whole number at least 1"),
    ("data.image_size", (288, True), "give 2 values, each a whole number at least 1"),
    ("data.image_size", (288, 144, 3), "give 2 values, each a whole number at least 1"),
    ("across.rho", 0.5, "give 2 values, each a number at least 0 and at most 1"),
    ("across.rho", "ab", "give 2 values, each a number at least 0 and at most 1"),
    # upper ends, open ones too
    ("augment.flip", 1.0001, "give a number at least 0 and at most 1"),
    ("augment.pad", 1.0, "give a number at least 0 and below 1"),
    ("batch.partner_share", 1.0, "give a number at least 0 and below 1"),
    ("within.fixed", 1.5, "give a number at least -1 and at most 1"),
    ("data.packed_quality", 101, "give a whole number at least 0 and at most 100"),
    ("train.epochs", 2**31, "give a whole number at least 1 and at most 2147483647"),
    # numbers that are none
    ("loss.temperature", NAN, "give a number above 0"),
    ("loss.temperature", INFINITY, "give a number above 0"),
    ("loss.temperature", 0, "give a number above 0"),
    ("optim.clip_norm", -0.5, "give a number at least 0"),
    # of another type
    ("train.epochs", True, "give a whole number at least 1"),
    ("seed", False, "give a whole number at least 0"),
    ("loss.intra", True, "give a number at least 0"),
    ("train.epochs", "3", "give a whole number at least 1"),
    ("train.epochs", 3.0, "give a whole number at least 1"),
    ("loss.temperature", "0.05", "give a number above 0"),
    ("loss.temperature", None, "give a number above 0"),
    ("across.cycle", 1, "give True or False"),
    ("across.cycle", "true", "give True or False"),
    ("data.root", 3, "give a text"),
    ("data.root", None, "give a text"),
    ("optim.name", 3, "choose one of adam, adamw, sgd"),
    ("optim.name", None, "choose one of adam, adamw, sgd"),
    # whole numbers that no float and no array holds
    ("train.epochs", 10**400, "give a whole number at least 1"),
    ("loss.temperature", 10**400, "give a number above 0"),
    ("within.kappa", (10**400, 0.0), "give 2 values, each a number"),
    # sections that are none
    *[
        (name, value, "give a section of fields, as configs/base.py makes it")
        for name in ("within", "data", "method")
        for value in (3, [], None, "linear", True)
    ],
    # one's own cameras
    *[("data.cameras", value, "give a section for each, by its name") for value in (3, [YARD], None, "yard")],
    (
        "data.cameras",
        {"yard": YARD | {"modality": 2}},
        "data.cameras.yard.modality is 2: give a whole number at least 0",
    ),
    (
        "data.cameras",
        {"yard": YARD | {"camid": True}},
        "data.cameras.yard.camid is True: give a whole number at least 0",
    ),
    ("data.cameras", {"yard": YARD | {"camid": -1}}, "data.cameras.yard.camid is -1: give a whole number at least 0"),
    ("data.cameras", {"yard": YARD | {"video": 3}}, "data.cameras.yard.video is 3: give a text"),
]


@pytest.mark.parametrize(("name", "value", "remedy"), ODD, ids=lambda value: str(value)[:40])
def test_an_odd_value_is_one_sentence_with_its_field_and_a_remedy(name, value, remedy):
    options, faults = read_with(**{name: value})
    (fault,) = faults
    assert fault.startswith(remedy if remedy.startswith("data.cameras.") else f"{name} is {value!r}: {remedy}")
    assert "\n" not in fault
    assert options == Options()  # with the default instead


SECTIONS = [
    field.name for field in dataclasses.fields(Options) if dataclasses.is_dataclass(getattr(Options(), field.name))
]


@pytest.mark.parametrize("name", [*SECTIONS, "seed", "within.rho", "data.cameras", "data.image_size"])
def test_what_is_missing_is_one_sentence(name):
    options, faults = read_with(**{name: GONE})
    assert faults == [f"{name} is missing: give it a value, such as that of configs/base.py"]
    assert options == Options()


@pytest.mark.parametrize(
    ("fields", "has"),
    [
        ({key: value for key, value in YARD.items() if key != "camid"}, "video, boxes, modality"),
        (YARD | {"name": "yard"}, "video, boxes, modality, camid, name"),
        ({}, "none"),
        (3, "none"),
        (None, "none"),
    ],
    ids=["missing", "extra", "empty", "number", "none"],
)
def test_a_camera_has_its_four_fields(fields, has):
    options, faults = read_with(**{"data.cameras": {"gate": YARD, "yard": fields}})
    assert faults == [f"data.cameras.yard has the fields {has}: give video, boxes, modality, camid"]
    assert options.data.cameras == {}


def test_every_faulty_field_of_a_camera_is_reported():
    _, faults = read_with(**{"data.cameras": {"yard": YARD | {"video": 3, "camid": -1}}})
    assert [fault.split()[0] for fault in faults] == ["data.cameras.yard.video", "data.cameras.yard.camid"]


def test_cameras_become_options():
    options, faults = read_with(**{"data.cameras": {"yard": YARD}})
    assert faults == []
    assert options.data.cameras == {"yard": CameraOptions("yard.mp4", "yard.txt", 0, 1)}


def test_quality_without_a_packed_cache_is_refused():
    _, faults = read_with(**{"data.packed_quality": 90})
    assert faults == ["data.packed_quality is 90 but packed is not set: name the folder of the packed cache"]
    assert read_with(**{"data.packed_quality": 90, "data.packed": "cache"})[1] == []


@pytest.mark.parametrize("stage", ["within", "across"])
@pytest.mark.parametrize("name", ["reciprocity", "positives"])
def test_no_more_can_be_taken_than_neighbours_are_kept(stage, name):
    _, faults = read_with(**{f"{stage}.{name}": 65})
    assert faults == [f"{stage}.{name} is 65: give at most the 64 neighbours that are kept"]
    assert read_with(**{f"{stage}.{name}": 64})[1] == []


def test_fields_are_compared_only_where_each_is_right():
    """Else a wrong number of neighbours would be two faults more."""
    _, faults = read_with(**{"within.neighbours": -1})
    assert [fault.split()[0] for fault in faults] == ["within.neighbours"]


def test_lists_become_tuples_so_that_options_are_hashable():
    options, faults = read_with(**{"within.rho": [0.9, 0.8]})
    assert faults == []
    assert options.within.rho == (0.9, 0.8)
    hash(options)


def test_ends_that_belong_to_a_range_are_taken():
    values = {
        "augment.flip": 1,
        "within.fixed": -1.0,
        "data.packed_quality": 0,
        "optim.clip_norm": 0,
        "train.epochs": 1,
    }
    assert read_with(**values)[1] == []
    assert read_with(**{"train.epochs": 2**31 - 1})[1] == []


def test_further_sections_are_known_by_their_dotted_names():
    section = {**plain(DataOptions()), "regdb": {"trial": 3}, "market": {}}
    faults = []
    read(DataOptions, section, "data", faults, known=frozenset({"regdb"}))
    assert faults == ["data.market is no field of the config: see hitpro_jax/options.py"]


def whole_numbers() -> list[tuple[type, str]]:
    """(dataclass, field) of every field that is a whole number, those of single data sets and methods included."""
    kinds = [type(value) for value in vars(Options()).values() if dataclasses.is_dataclass(value)]
    return [
        (kind, name)
        for kind in [*kinds, *sections().values()]
        for name, hint in get_type_hints(kind).items()
        if hint is int
    ]


@pytest.mark.parametrize(("kind", "name"), whole_numbers(), ids=lambda value: getattr(value, "__name__", value))
def test_a_whole_number_fits_into_an_array(kind, name):
    """int32: a larger one would fail in the middle of a run, or wrap around."""
    faults = []
    read(kind, {**plain(kind()), name: 2**31}, "section", faults)
    assert [fault.split(":")[0] for fault in faults] == [f"section.{name} is {2**31}"]


@pytest.mark.parametrize(
    ("allowed", "text", "inside", "outside"),
    [
        (Range(0), "at least 0", [0, 1e300], [-1e-9, NAN]),
        (Range(0, open_low=True), "above 0", [1e-9], [0, NAN]),
        (Range(0, 1, open_high=True), "at least 0 and below 1", [0, 0.999], [1, -1]),
        (Range(-1, 1), "at least -1 and at most 1", [-1, 1], [1.001, -INFINITY]),
    ],
    ids=str,
)
def test_a_range_holds_its_ends_unless_they_are_open(allowed, text, inside, outside):
    assert str(allowed) == text
    assert all(value in allowed for value in inside)
    assert not any(value in allowed for value in outside)


def test_lengths_that_follow_from_fields():
    assert TrainOptions(epochs=3, steps_per_epoch=7).steps == 21
    assert dataclasses.replace(Options().batch, tracklets_per_modality=3, clips_per_tracklet=5).clips == 30


def test_plain_is_what_read_reads():
    mapping = plain(Options())
    assert "more" not in mapping
    assert mapping["data"]["image_size"] == (288, 144)
    assert read(Options, mapping, "", []) == Options()
