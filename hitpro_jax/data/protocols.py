"""How data sets are scored: which rows query which, by which frames, and what is left out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from hitpro_jax.data import sampling
from hitpro_jax.data.records import Dataset
from hitpro_jax.data.sets import mot
from hitpro_jax.types import IR, RGB


class Selection(NamedTuple):
    """Rows of a split: all, or those of one modality."""

    split: str  # query | gallery
    modality: int | None = None


@dataclass(frozen=True)
class Protocol:
    """How a data set is scored.

    Attributes:
      name: stands in every result.
      camera_rule: of `scoring.score`; True: gallery rows of the query's person and camera are left out.
      directions: key in result.json to (query, gallery). The two are disjoint lists of tracklets, so that no row
        meets itself (but MARS's gallery, which holds the queries too: there the camera rule keeps them apart).
      frames: of each tracklet; None where the protocol does not say.
      image_size: height and width in pixels, or None.
      choose_frames: (number of frames, `frames`) -> their places.
      rows_changed: what makes this run's rows other than the published ones; "" for nothing.
      rgb_multiple: the last RGB rows of each split are left out, down to a multiple of this.
    """

    name: str
    camera_rule: bool | str
    directions: Mapping[str, tuple[Selection, Selection]]
    frames: int | None = None
    image_size: tuple[int, int] | None = None
    choose_frames: Callable[[int, int], np.ndarray] = sampling.test_frames
    rgb_multiple: int = 1
    rows_changed: str = ""

    def rows(self, dataset: Dataset, selection: Selection) -> np.ndarray:
        """Places of the selected rows in their split, int [R], ascending."""
        modality = np.array([record.modality for record in getattr(dataset, selection.split)], int)
        kept = np.full(len(modality), selection.modality is None) | (modality == selection.modality)
        rgb = np.flatnonzero(modality == RGB)
        kept[rgb[len(rgb) // self.rgb_multiple * self.rgb_multiple :]] = False
        return np.flatnonzero(kept)

    def matches(self, dataset: Dataset, pair: tuple[Selection, Selection]) -> bool:
        """Whether any query of a direction has its person in the gallery, in another camera where the rule asks for it."""
        query, gallery = (
            {(r.pid, r.camid) for r in map(getattr(dataset, chosen.split).__getitem__, self.rows(dataset, chosen))}
            for chosen in pair
        )
        cameras: dict[int, set[int]] = {}
        for pid, camid in gallery:
            cameras.setdefault(pid, set()).add(camid)
        return any(cameras.get(pid, set()) - ({camid} if self.camera_rule else set()) for pid, camid in query)

    @property
    def setting(self) -> str:
        """What a figure depends on besides the model, for people.

        >>> AUXNET.setting
        '10 frames of 256x128, no camera rule, RGB rows cut to a multiple of 64'
        """
        height, width = self.image_size
        cut = f", RGB rows cut to a multiple of {self.rgb_multiple}" if self.rgb_multiple > 1 else ""
        changed = f", NOT the published rows: {self.rows_changed}" if self.rows_changed else ""
        return f"{self.frames} frames of {height}x{width}, {'' if self.camera_rule else 'no '}camera rule{cut}{changed}"

    def departure(self, frames: int, image_size: tuple[int, int]) -> str | None:
        """A line for a run that scores with other frames or another size than the protocol's; None where it does not.

        >>> print(AUXNET.departure(10, (256, 128)))
        None
        """
        own = (self.frames or frames, self.image_size or image_size)
        if own == (frames, image_size):
            return None
        told = [f"{number} frames of {height}x{width}" for number, (height, width) in (own, (frames, image_size))]
        return f"note: protocol {self.name} has {told[0]}, this run scores {told[1]}: not to be compared with others"


_QUERY, _GALLERY = Selection("query"), Selection("gallery")
# "RGB and IR of both lists" and its parts; the first two are what is published most.
_PAIRINGS = {
    "ir2rgb": (Selection("query", IR), Selection("gallery", RGB)),
    "rgb2ir": (Selection("query", RGB), Selection("gallery", IR)),
    "rgb2rgb": (Selection("query", RGB), Selection("gallery", RGB)),
    "ir2ir": (Selection("query", IR), Selection("gallery", IR)),
    "all": (_QUERY, _GALLERY),
}

HITSZ_VCM = Protocol("hitsz_vcm", True, {"i2v": (_QUERY, _GALLERY), "v2i": (_GALLERY, _QUERY)}, 6, (288, 144))
# pictures as large as the config has them drawn
SYNTHETIC = replace(HITSZ_VCM, name="synthetic", frames=None, image_size=None)
HALVES = Protocol(mot.PROTOCOL, False, {"halves": (_QUERY, _GALLERY)})

FULL = Protocol("full", True, _PAIRINGS, 6, (288, 144))  # from M3-ReID
FULL_NO_CAMERA = Protocol("full_no_camera", False, _PAIRINGS, 10, (256, 128), sampling.uniform_frames)
# From the data set's own code (AuxNet), whose sampler fills whole batches of 64 RGB tracklets and drops the rest: left
# are 512 of 540 queries and 2,368 of 2,422 gallery rows, so that 14 of the 536 infrared queries have no match.
AUXNET = replace(FULL_NO_CAMERA, name="auxnet", rgb_multiple=64)

NOTHING = Protocol("none", False, {})  # no labelled query and gallery
OWN = Protocol("folder", True, {"all": (_QUERY, _GALLERY)})
MARS = Protocol("mars", True, {"all": (_QUERY, _GALLERY)})
SYSU_MM01 = Protocol("sysu_mm01", "place", {"i2v": (_QUERY, _GALLERY)})
REGDB = Protocol("regdb", False, HITSZ_VCM.directions)
LLCM = {
    "ir": Protocol("llcm", True, {"i2v": (_QUERY, _GALLERY)}),
    "rgb": Protocol("llcm", True, {"v2i": (_QUERY, _GALLERY)}),
}

PROTOCOLS = {
    "hitsz_vcm": (HITSZ_VCM,),
    "buptcampus": (FULL, FULL_NO_CAMERA, AUXNET),
    "synthetic": (SYNTHETIC,),
    "mot": (HALVES,),
    "folder": (OWN,),
    "mars": (MARS,),
    "sysu_mm01": (SYSU_MM01,),
    "regdb": (REGDB,),
    "llcm": (LLCM["ir"],),
}
"""Of each data set, by its name in `data.name`."""


def choose(dataset: str, name: str) -> Protocol:
    """The protocol `name` of a data set; "" is that of a data set that has but one.

    Raises:
      ValueError: unknown data set or protocol.
    """
    if dataset not in PROTOCOLS:
        raise ValueError(f"unknown data.name {dataset!r}; choose one of {', '.join(PROTOCOLS)}")
    known = {protocol.name: protocol for protocol in PROTOCOLS[dataset]}
    if not name and len(known) == 1:
        return PROTOCOLS[dataset][0]
    if name not in known:
        raise ValueError(f"unknown data.protocol {name!r} of {dataset}; choose one of {', '.join(known)}")
    return known[name]


def of_folder(dataset: Dataset) -> Protocol:
    """Own tracklets: HITSZ-VCM's two directions where the query is infrared and the gallery visible, every pairing of
    modalities that has rows where a list holds both, else one direction; none where nothing is labelled.
    """
    query, gallery = ({record.modality for record in split} for split in (dataset.query, dataset.gallery))
    if not query | gallery:
        return NOTHING
    if (query, gallery) == ({IR}, {RGB}):
        return replace(OWN, directions=HITSZ_VCM.directions)
    if len(query) == len(gallery) == 1:
        return OWN
    there = {
        key: pair
        for key, pair in _PAIRINGS.items()
        if all(pick.modality in (None, *kinds) for pick, kinds in zip(pair, (query, gallery), strict=True))
    }
    return replace(OWN, directions=there)
