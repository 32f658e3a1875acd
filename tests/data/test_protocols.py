"""Protocols: which rows query which, by which frames; BUPTCampus's against public code and published counts."""

import json
from dataclasses import replace

import numpy as np
import pytest

from hitpro_jax.data import pipeline, protocols, sets
from hitpro_jax.data.protocols import Protocol
from hitpro_jax.data.records import Dataset, Record
from hitpro_jax.scoring.scores import score
from hitpro_jax.types import IR, RGB
from tests.reference.scoring import naive_scores

PAIRINGS = {"ir2rgb": (IR, RGB), "rgb2ir": (RGB, IR), "rgb2rgb": (RGB, RGB), "ir2ir": (IR, IR), "all": (None, None)}


def chosen(name):
    return sets.find("buptcampus").choose_protocol(name)


def records(modalities, pids=None, camids=None):
    size = len(modalities)
    return tuple(
        Record(("f.jpg",), int(m), int(c), int(p))
        for m, p, c in zip(
            modalities,
            np.zeros(size) if pids is None else pids,
            np.zeros(size) if camids is None else camids,
            strict=True,
        )
    )


def made(query, gallery):
    return Dataset("made", "nowhere", (), query, gallery, {})


def campus():
    """Lists with the published counts: one query a person, and galleries of both modalities row by row.

    The last 54 rows are the gallery of 18 people, 14 of whom are queried in infrared.
    """
    people = np.arange(1076)
    modality = np.random.default_rng(0).permutation(np.repeat([RGB, IR], [540, 536]))
    last = np.concatenate([np.flatnonzero(modality == IR)[-14:], np.flatnonzero(modality == RGB)[:4]])
    rest = np.setdiff1d(people, last)
    shown = np.concatenate([np.resize(rest, 2422 - 54), np.repeat(last, 3)])
    query = records(modality, people)
    gallery = records(np.tile([RGB, IR], len(shown)), np.repeat(shown, 2), np.ones(2 * len(shown)))
    return made(query, gallery)


RULES = {"none": False, "same_person": True, "same_camera": "place"}  # as `score` has always had them


def scores(dataset, protocol, seed=0):
    """Those of made-up features, which are returned too."""
    rng = np.random.default_rng(seed)
    features = {
        split: rng.normal(size=(len(getattr(dataset, split)), 8)).astype(np.float32) for split in ("query", "gallery")
    }
    found = {}
    for key, direction in protocol.directions.items():
        rows = [protocol.rows(dataset, selection) for selection in direction]
        tracklets = [[getattr(dataset, chosen.split)[i] for i in rows[k]] for k, chosen in enumerate(direction)]
        ids = [np.array([getattr(r, name) for r in side]) for name in ("pid", "camid") for side in tracklets]
        sides = [features[chosen.split][rows[k]] for k, chosen in enumerate(direction)]
        found[key] = score(*sides, *ids, camera_rule=RULES[protocol.camera_rule])
    return found, features


def test_there_are_three_with_five_pairings():
    for name in ("full", "full_no_camera", "auxnet"):
        assert {
            key: (query.modality, gallery.modality) for key, (query, gallery) in chosen(name).directions.items()
        } == PAIRINGS
        assert all(
            (query.split, gallery.split) == ("query", "gallery") for query, gallery in chosen(name).directions.values()
        )


@pytest.mark.parametrize(
    ("name", "frames", "size", "camera_rule", "golden", "key"),
    [
        ("full", 6, (288, 144), "same_person", "M3-ReID__data_dataset.py__VideoVIDataset", "evenly_test_S6"),
        ("full_no_camera", 10, (256, 128), "none", "BUPTCampus__dataloader.py__BUPTCampus_Dataset", "uniform_S10"),
        ("auxnet", 10, (256, 128), "none", "BUPTCampus__dataloader.py__BUPTCampus_Dataset", "uniform_S10"),
    ],
)
def test_frames_size_and_camera_rule(goldens, name, frames, size, camera_rule, golden, key):
    protocol = chosen(name)
    assert (protocol.frames, protocol.image_size, protocol.camera_rule) == (frames, size, camera_rule)
    with np.load(goldens / f"sampling__{golden}.npz") as file:
        expected = file[key]
    assert len(expected) == 150
    for number, row in enumerate(expected, 1):
        np.testing.assert_array_equal(protocol.choose_frames(number, frames), row)


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        (
            "full_no_camera",
            {
                "ir2rgb": (536, 536),
                "rgb2ir": (540, 540),
                "rgb2rgb": (540, 540),
                "ir2ir": (536, 536),
                "all": (1076, 1076),
            },
        ),
        (
            "auxnet",
            {
                "ir2rgb": (522, 536),
                "rgb2ir": (512, 512),
                "rgb2rgb": (508, 512),
                "ir2ir": (536, 536),
                "all": (1048, 1048),
            },
        ),
    ],
)
def test_queries_of_lists_with_the_published_counts(name, valid):
    """As published: 540 and 536 queries, and 512 and 522 under the official sampler."""
    found, _ = scores(campus(), chosen(name))
    assert {key: (int(s["valid"].sum()), len(s["valid"])) for key, s in found.items()} == valid


def test_auxnet_drops_the_last_rgb_rows_and_nothing_else():
    dataset, protocol = campus(), chosen("auxnet")
    for split, kept, infrared in (("query", 512, 536), ("gallery", 2368, 2422)):
        rows = protocol.rows(dataset, protocols.Selection(split))
        modality = np.array([r.modality for r in getattr(dataset, split)])
        assert (modality[rows] == RGB).sum() == kept
        assert (modality[rows] == IR).sum() == infrared
        gone = np.setdiff1d(np.arange(len(modality)), rows)
        assert (modality[gone] == RGB).all()
        assert gone.min() > rows[modality[rows] == RGB].max()


@pytest.mark.parametrize("split", ["query", "gallery"])
@pytest.mark.parametrize("multiple", [2, 3, 4, 64])
def test_rows_are_those_of_the_official_sampler(goldens, split, multiple):
    golden = json.loads((goldens / "loader__BUPTCampus__BUPTCampus.json").read_text())
    tracklets = records([{"RGB": RGB, "IR": IR}[t["mod"]] for t in golden[split]])
    protocol = replace(chosen("auxnet"), rgb_multiple=multiple)
    rows = protocol.rows(made(tracklets, tracklets), protocols.Selection(split)).tolist()
    expected = sorted(golden[f"sampler_{split}_bs{multiple}"])
    if split == "query" and multiple == 3:  # whole batches: the official slice [:-0] drops every RGB row, ours none
        assert expected == [1, 3]
        assert rows == [0, 1, 2, 3, 4]
        return
    assert rows == expected


@pytest.mark.parametrize("name", ["full", "full_no_camera", "auxnet"])
def test_scores_of_every_pairing_equal_naive(name):
    rng = np.random.default_rng(5)
    query, gallery = (
        records(
            rng.permutation(np.repeat([RGB, IR], (rgb, infrared))),
            *(rng.integers(0, most, rgb + infrared) for most in (9, 3)),
        )
        for rgb, infrared in ((11, 9), (31, 29))
    )
    dataset, protocol = made(query, gallery), chosen(name)
    if name == "auxnet":
        protocol = replace(protocol, rgb_multiple=4)
    found, features = scores(dataset, protocol)
    assert list(found) == list(PAIRINGS)
    kept = {}
    for split, tracklets in (("query", query), ("gallery", gallery)):
        rgb = [i for i, r in enumerate(tracklets) if r.modality == RGB]
        dropped = rgb[-3:] if name == "auxnet" else []  # of 11 and of 31
        kept[split] = [i for i in range(len(tracklets)) if i not in dropped]
    for key, (of_query, of_gallery) in PAIRINGS.items():
        q = [i for i in kept["query"] if of_query in (None, query[i].modality)]
        g = [i for i in kept["gallery"] if of_gallery in (None, gallery[i].modality)]
        expected = naive_scores(
            features["query"][q],
            features["gallery"][g],
            *(
                np.array([getattr(side[i], field) for i in rows])
                for field in ("pid", "camid")
                for side, rows in ((query, q), (gallery, g))
            ),
            camera_rule=name == "full",
        )
        for figure in ("mAP", "mINP"):
            assert found[key][figure] / 100 == pytest.approx(expected[figure], abs=1e-6), key
        np.testing.assert_array_equal(found[key]["valid"], expected["valid"])


class Numbers:
    """Reads frame "17" as a picture of one pixel that is 17."""

    image_size = (1, 1)

    def clip(self, paths):
        values = np.array([int(path) for path in paths], np.uint8)
        return np.broadcast_to(values[:, None, None, None], (len(paths), 1, 1, 3)), np.ones(len(paths), bool)


@pytest.mark.parametrize("name", ["full", "full_no_camera"])
def test_tracklets_are_read_by_the_frames_of_the_protocol(name):
    protocol, lengths = chosen(name), (1, 9, 37, 100)
    tracklets = tuple(Record(tuple(map(str, range(n))), modality, 1, 0) for n in lengths for modality in (IR, RGB))
    batches = pipeline.test_clips(
        Numbers(), tracklets, clip_length=protocol.frames, batch_size=4, frames=protocol.choose_frames
    )
    expected = [protocol.choose_frames(n, protocol.frames).tolist() for n in lengths]
    assert [batch.frames[:, :, 0, 0, 0].tolist() for batch in batches] == [expected] * 2  # RGB and infrared


@pytest.mark.parametrize(("rule", "found"), [("none", True), ("same_person", False), ("same_camera", False)])
def test_matches_of_the_own_camera_count_without_a_rule_alone(rule, found):
    query, gallery = records([IR], [7], [1]), records([RGB, RGB], [7, 8], [1, 2])
    protocol = Protocol("made", rule, protocols.BOTH_WAYS)
    assert protocol.matches(made(query, gallery), protocol.directions["i2v"]) == found
    elsewhere = records([RGB, RGB], [7, 7], [1, 2])
    assert protocol.matches(made(query, elsewhere), protocol.directions["i2v"])
    assert protocol.matches(made(query, elsewhere), protocol.directions["v2i"])


def test_the_setting_names_every_rule():
    settings = {
        rule: Protocol("made", rule, protocols.WHOLE, 6, (288, 144)).setting
        for rule in ("none", "same_person", "same_camera")
    }
    assert settings == {
        "none": "6 frames of 288x144, no camera rule",
        "same_person": "6 frames of 288x144, camera rule",
        "same_camera": "6 frames of 288x144, same-camera gallery left out",
    }


def test_the_setting_has_frames_size_and_camera_rule():
    assert chosen("full").setting == "6 frames of 288x144, camera rule"
    assert chosen("full_no_camera").setting == "10 frames of 256x128, no camera rule"
    assert chosen("auxnet").setting.endswith("no camera rule, RGB rows cut to a multiple of 64")


def test_other_frames_or_another_size_are_reported():
    assert chosen("full").departure(6, (288, 144)) is None
    for frames, size in ((6, (256, 128)), (10, (288, 144))):
        line = chosen("full").departure(frames, size)
        assert "6 frames of 288x144" in line
        assert f"{frames} frames of {size[0]}x{size[1]}" in line
    assert sets.find("synthetic").choose_protocol("").departure(2, (64, 32)) is None
    assert "6 frames of 288x144" in sets.find("hitsz_vcm").choose_protocol("").departure(2, (64, 32))


@pytest.mark.parametrize(
    ("dataset", "name", "message"),
    [
        ("buptcampus", "", "unknown data.protocol '' of buptcampus; choose one of full, full_no_camera, auxnet"),
        ("buptcampus", "official", "unknown data.protocol 'official'"),
        ("hitsz_vcm", "auxnet", "unknown data.protocol 'auxnet' of hitsz_vcm; choose one of hitsz_vcm"),
    ],
)
def test_an_unknown_protocol_is_refused(dataset, name, message):
    with pytest.raises(ValueError, match=message):
        sets.find(dataset).choose_protocol(name)
    with pytest.raises(ValueError, match="unknown data.name 'market'"):
        sets.find("market")


def test_a_selection_by_first_frames_outlives_rows_that_are_left_out():
    records = tuple(Record((f"{n}.jpg", "x.jpg"), n % 2, 1, 0) for n in range(6))
    chosen = protocols.Selection("gallery", None, frozenset({"1.jpg", "4.jpg", "5.jpg"}))
    made = Protocol("made", "none", {"x": (protocols.QUERY, chosen)})
    assert made.rows(Dataset("made", "", (), (), records, {}), chosen).tolist() == [1, 4, 5]
    assert made.rows(Dataset("made", "", (), (), records[2:], {}), chosen).tolist() == [2, 3]
    assert made.rows(Dataset("made", "", (), (), records, {}), chosen._replace(modality=1)).tolist() == [1, 5]
