"""How data sets are scored: which rows query which, by which frames, and what is left out of the gallery.

The protocols of each data set stand in its file in `data/sets/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from hitpro_jax.data import sampling
from hitpro_jax.data.records import Dataset
from hitpro_jax.types import IR, RGB

CameraRule = Literal["none", "same_person", "same_camera"]
"""What leaves the gallery of a query: nothing; rows of its person and camera; all rows of its camera."""

_RULE_TITLES: dict[CameraRule, str] = {
    "none": "no camera rule",
    "same_person": "camera rule",
    "same_camera": "same-camera gallery left out",
}


class Selection(NamedTuple):
    """Rows of a split: all, those of one modality, or those of some first frames."""

    split: Literal["query", "gallery"]
    modality: int | None = None
    # by their frames and not their positions: rows whose frames are missing may be left out later
    first_frames: frozenset[str] | None = None


Direction = tuple[Selection, Selection]
"""Which rows query which rows."""
Directions = Mapping[str, Direction]
"""By their keys in result.json."""

QUERY, GALLERY = Selection("query"), Selection("gallery")

WHOLE: Directions = {"all": (QUERY, GALLERY)}
# where the query list is infrared and the gallery list is visible
BOTH_WAYS: Directions = {"i2v": (QUERY, GALLERY), "v2i": (GALLERY, QUERY)}
# where both lists hold both modalities; the first two are what is published most
PAIRINGS: Directions = {
    "ir2rgb": (Selection("query", IR), Selection("gallery", RGB)),
    "rgb2ir": (Selection("query", RGB), Selection("gallery", IR)),
    "rgb2rgb": (Selection("query", RGB), Selection("gallery", RGB)),
    "ir2ir": (Selection("query", IR), Selection("gallery", IR)),
    **WHOLE,
}
TITLES: Mapping[str, str] = {
    "i2v": "infrared to visible",
    "v2i": "visible to infrared",
    "ir2rgb": "infrared to visible",
    "rgb2ir": "visible to infrared",
    "rgb2rgb": "visible to visible",
    "ir2ir": "infrared to infrared",
    "all": "query to gallery",
}
"""Names of the directions above, for people."""


@dataclass(frozen=True)
class Protocol:
    """How a data set is scored.

    Attributes:
      name: stands in every result.
      camera_rule: which gallery rows are left out of the ranking of each query.
      directions: key in result.json to (query, gallery). The two are disjoint lists of tracklets, so that no row meets
        itself. MARS's gallery may hold the queries too: there the camera rule keeps them apart.
      trials: where figures are means over several drawn galleries or splits: number of the trial to its directions, of
        the same keys as `directions`, which are those of the first. Empty: there is one set of directions.
      frames: of each tracklet; None where the protocol leaves it open.
      image_size: height and width in pixels, or None.
      choose_frames: (number of frames, `frames`) -> their positions.
      rgb_multiple: the last RGB rows of each split are left out, down to a multiple of this.
      rows_changed: what makes this run's rows other than the published ones; "" for nothing.
      remarks: what else of the rows a figure depends on, a short text each.
    """

    name: str
    camera_rule: CameraRule
    directions: Directions
    frames: int | None = None
    image_size: tuple[int, int] | None = None
    choose_frames: Callable[[int, int], np.ndarray] = sampling.test_frames
    rgb_multiple: int = 1
    rows_changed: str = ""
    trials: Mapping[int, Directions] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def rows(self, dataset: Dataset, selection: Selection) -> np.ndarray:
        """Positions of the selected rows in their split, int [R], ascending."""
        records = getattr(dataset, selection.split)
        modality = np.array([record.modality for record in records], int)
        kept = np.full(len(modality), selection.modality is None) | (modality == selection.modality)
        if selection.first_frames is not None:
            kept &= np.array([record.frames[0] in selection.first_frames for record in records], bool)
        rgb = np.flatnonzero(modality == RGB)
        kept[rgb[len(rgb) // self.rgb_multiple * self.rgb_multiple :]] = False
        return np.flatnonzero(kept)

    def matches(self, dataset: Dataset, direction: Direction) -> bool:
        """Whether any query of a direction has its person in what the camera rule leaves of the gallery."""
        query, gallery = (
            {(r.pid, r.camid) for r in map(getattr(dataset, chosen.split).__getitem__, self.rows(dataset, chosen))}
            for chosen in direction
        )
        cameras: dict[int, set[int]] = {}
        for pid, camid in gallery:
            cameras.setdefault(pid, set()).add(camid)
        # both rules take the query's own person out of the query's own camera
        return any(cameras.get(pid, set()) - (set() if self.camera_rule == "none" else {camid}) for pid, camid in query)

    @property
    def setting(self) -> str:
        """What a figure depends on besides the model, for people.

        >>> Protocol("some", "none", WHOLE, 10, (256, 128), rgb_multiple=64).setting
        '10 frames of 256x128, no camera rule, RGB rows cut to a multiple of 64'
        """
        cut = f", RGB rows cut to a multiple of {self.rgb_multiple}" if self.rgb_multiple > 1 else ""
        trials = f", mean and std over {len(self.trials)} trials" if self.trials else ""
        remarks = "".join(f", {remark}" for remark in self.remarks)
        changed = f", NOT the published rows: {self.rows_changed}" if self.rows_changed else ""
        rule = _RULE_TITLES[self.camera_rule]
        return f"{_size(self.frames, self.image_size)}, {rule}{cut}{trials}{remarks}{changed}"

    def departure(self, frames: int, image_size: tuple[int, int]) -> str | None:
        """A line for a run that scores other frames or another size than the protocol's; None where it does not.

        >>> print(Protocol("some", "none", WHOLE, 10).departure(10, (256, 128)))
        None
        """
        own, used = (self.frames or frames, self.image_size or image_size), (frames, image_size)
        if own == used:
            return None
        return (
            f"note: protocol {self.name} has {_size(*own)}, this run scores {_size(*used)}: not to be compared with "
            "others"
        )


def _size(frames: int | None, image_size: tuple[int, int] | None) -> str:
    height, width = image_size or ("?", "?")
    return f"{frames} {'frame' if frames == 1 else 'frames'} of {height}x{width}"
