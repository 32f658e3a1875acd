"""Draws walking people, seen by a visible-light or a near-infrared camera, as small image crops (NumPy only).

Everything is painted on a [T, H, W, C] canvas (T frames, C = 3 colour channels or 1 infrared channel) with
anti-aliased capsules, ellipses and boxes in *body units*: x to the right of the body's axis, y downwards from the
crown (0) to the soles (1). Infrared is another physics, not a grey copy: every material carries a visible colour and
an infrared reflectance that is only weakly related to it, so shape, gait and pattern carry over and colour does not.
"""

from dataclasses import dataclass

import numpy as np

PATTERNS = ("plain", "rings", "pinstripes", "checks", "dots", "diagonal", "band", "yoke", "halves", "patch")
HAIR = ("bald", "short", "long", "bun", "cap", "hood")
TOPS = ("vest", "t-shirt", "long-sleeved", "jacket", "coat")
BOTTOMS = ("trousers", "shorts", "skirt", "long-skirt", "cropped")
BAGS = ("none", "backpack", "shoulder-bag", "handbag", "trolley")
TORSO_TOP, HIP, CHIN = 0.17, 0.50, 0.135  # heights on the body, in body units from the crown


@dataclass(frozen=True)
class Material:
    """Reflectance of one cloth, skin or hair: rgb [3] and ir [1], both in [0, 1]."""

    rgb: np.ndarray
    ir: np.ndarray

    def seen(self, infrared: bool) -> np.ndarray:
        """What a camera of this kind sees of it: [3] or [1]."""
        return self.ir if infrared else self.rgb


@dataclass(frozen=True)
class Cloth:
    """A ground material with a pattern of a second one; period in body units."""

    ground: Material
    figure: Material
    pattern: str
    period: float
    weave: float  # amplitude of the fine relief that both modalities show


@dataclass(frozen=True)
class Person:
    """Everything that stays with one identity."""

    shoulders: float
    hips: float
    depth: float
    leg_length: float
    head: float
    limb: float
    stride: float
    arm_swing: float
    cadence: float
    lean: float
    skin: Material
    hair: str
    hair_material: Material
    top: str
    top_cloth: Cloth
    inner: Material
    bottom: str
    bottom_cloth: Cloth
    shoe: Material
    boots: bool
    bag: str
    bag_cloth: Cloth
    belt: bool


@dataclass(frozen=True)
class Pose:
    """Where and how the body stands in each of T frames; all arrays [T] except the scalar yaw."""

    centre: np.ndarray  # x of the body's axis, pixels
    top: np.ndarray  # y of the crown, pixels
    height: np.ndarray  # crown to soles, pixels
    phase: np.ndarray  # gait phase, radians
    yaw: float  # 0 faces the camera, pi/2 walks to the right, pi shows the back
    squeeze: float  # vertical foreshortening of the legs under a high camera, 0.8 .. 1


def draw_material(rng: np.random.Generator, relation: float = 0.15) -> Material:
    """One random material whose infrared reflectance keeps only `relation` of its visible luminance."""
    # nearly uniform: dark and bright cloth are about as common
    rgb = np.clip(rng.beta(0.9, 1.1) + rng.normal(0.0, 0.22, 3), 0.03, 0.97)
    ir = relation * rgb.mean() + (1.0 - relation) * rng.uniform(0.08, 0.95)
    return Material(rgb.astype(np.float32), np.array([ir], np.float32))


def draw_surface(rng: np.random.Generator) -> Material:
    """A background material: greyer than clothes, as floors and walls are."""
    grey = rng.uniform(0.2, 0.85)
    rgb = np.clip(grey + rng.normal(0.0, 0.06, 3), 0.03, 0.97)
    return Material(rgb.astype(np.float32), np.array([rng.uniform(0.15, 0.85)], np.float32))


def draw_cloth(rng: np.random.Generator, patterns: tuple[str, ...], periods: tuple[float, float]) -> Cloth:
    """A patterned cloth whose two materials differ visibly in both modalities; which is the lighter one may differ."""
    while True:
        ground, figure = draw_material(rng), draw_material(rng)
        visible = np.abs(figure.rgb - ground.rgb).max() > 0.35
        infrared = abs(float(figure.ir[0] - ground.ir[0])) > 0.4
        if visible and infrared:
            break
    return Cloth(ground, figure, str(rng.choice(patterns)), rng.uniform(*periods), rng.uniform(0.0, 0.12))


def draw_person(rng: np.random.Generator) -> Person:
    """One random identity: build, gait, hair, garments and what is carried."""
    tone = rng.uniform(0.25, 0.85)
    skin = Material(
        np.array([tone, 0.78 * tone, 0.64 * tone], np.float32), np.array([rng.uniform(0.5, 0.75)], np.float32)
    )
    return Person(
        shoulders=rng.uniform(0.20, 0.30),
        hips=rng.uniform(0.15, 0.24),
        depth=rng.uniform(0.12, 0.20),
        leg_length=rng.uniform(0.92, 1.08),
        head=rng.uniform(0.052, 0.072),
        limb=rng.uniform(0.028, 0.046),
        stride=rng.uniform(0.25, 0.65),
        arm_swing=rng.uniform(0.05, 0.75),
        cadence=rng.uniform(0.45, 0.85),
        lean=rng.uniform(-0.04, 0.08),
        skin=skin,
        hair=str(rng.choice(HAIR)),
        hair_material=draw_material(rng),
        top=str(rng.choice(TOPS)),
        top_cloth=draw_cloth(rng, PATTERNS, (0.075, 0.16)),
        inner=draw_material(rng),
        bottom=str(rng.choice(BOTTOMS)),
        # named twice: a third is plain
        bottom_cloth=draw_cloth(rng, ("plain", "plain", "rings", "pinstripes", "checks", "yoke"), (0.07, 0.14)),
        shoe=draw_material(rng),
        boots=bool(rng.random() < 0.3),
        bag=str(rng.choice(BAGS)),
        bag_cloth=draw_cloth(rng, ("plain", "rings", "checks", "band"), (0.05, 0.09)),
        belt=bool(rng.random() < 0.4),
    )


class Canvas:
    """A [T, H, W, C] picture with a coordinate grid in body units for one pose."""

    def __init__(self, background: np.ndarray, pose: Pose, infrared: bool):
        self.pixels = background
        self.infrared = infrared
        _, height, width, _ = background.shape
        self.unit = pose.height[:, None, None].astype(np.float32)  # pixels per body unit
        ys = np.arange(height, dtype=np.float32)[None, :, None] + 0.5
        xs = np.arange(width, dtype=np.float32)[None, None, :] + 0.5
        self.x = (xs - pose.centre[:, None, None].astype(np.float32)) / self.unit
        self.y = (ys - pose.top[:, None, None].astype(np.float32)) / self.unit

    def paint(self, distance: np.ndarray, cloth: Cloth | Material, u: np.ndarray | None = None) -> None:
        """Covers where the signed distance (body units, negative inside) is below zero; one-pixel soft edge.

        u [T, 1, W]: the cloth's own horizontal coordinate, where the pattern does not lie on the body's axis.
        """
        # in pixels: the edge is one wide and lies on the outline
        alpha = np.clip(0.5 - distance * self.unit, 0.0, 1.0)
        rows, columns = (np.flatnonzero(alpha.any(axis)) for axis in ((0, 2), (0, 1)))
        if rows.size == 0:
            return
        rows, columns = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        part = (slice(None), rows, columns)
        shade = 1.0 - 0.25 * np.clip(1.0 + distance[part] * 12.0, 0.0, 1.0)[..., None]  # darker towards the outline
        if isinstance(cloth, Material):
            colour = cloth.seen(self.infrared)
        else:
            u = self.x if u is None else u
            colour = _cloth_colour(cloth, u[:, :, columns], self.y[:, rows], self.infrared)
        below = self.pixels[part]
        below += alpha[part][..., None] * (colour * shade - below)

    def capsule(self, a, b, radius_a: float, radius_b: float | None = None) -> np.ndarray:
        """Signed distance to a limb from a to b; points are (x [T], y [T]) in body units."""
        ax, ay, bx, by = (np.asarray(c, np.float32).reshape(-1, 1, 1) for c in (*a, *b))
        dx, dy = bx - ax, by - ay
        # 1e-9, because a hand is a limb of no length
        t = ((self.x - ax) * dx + (self.y - ay) * dy) / (dx * dx + dy * dy + 1e-9)
        t = np.clip(t, 0.0, 1.0)
        radius = radius_a + ((radius_a if radius_b is None else radius_b) - radius_a) * t
        return np.hypot(self.x - ax - t * dx, self.y - ay - t * dy) - radius

    def ellipse(self, x, y, rx: float, ry: float) -> np.ndarray:
        """Signed distance (approximate) to an ellipse about (x [T], y [T]) of half axes rx and ry."""
        x = np.asarray(x, np.float32).reshape(-1, 1, 1)
        return (np.hypot((self.x - x) / rx, (self.y - y) / ry) - 1.0) * min(rx, ry)

    def trunk(self, top: float, bottom: float, half_top: float, half_bottom: float, lean: float) -> np.ndarray:
        """Signed distance (approximate) to a trapezium between two heights, its top shifted by `lean`."""
        t = np.clip((self.y - top) / (bottom - top), 0.0, 1.0)
        side = np.abs(self.x - lean * (1.0 - t)) - (half_top + (half_bottom - half_top) * t)
        return np.maximum(side, np.maximum(top - self.y, self.y - bottom))

    def box(self, x, y, rx: float, ry: float) -> np.ndarray:
        """Signed distance (approximate) to a box about (x [T], y [T]) of half sides rx and ry."""
        x, y = (np.asarray(c, np.float32).reshape(-1, 1, 1) for c in (x, y))
        return np.maximum(np.abs(self.x - x) - rx, np.abs(self.y - y) - ry)


def draw_body(canvas: Canvas, person: Person, pose: Pose) -> None:
    """Paints the person back to front: far limbs, legs, trunk, near arm, head, and what is carried."""
    side, facing = np.sin(pose.yaw), np.cos(pose.yaw)
    # the trunk is an ellipse from above, seen under the yaw
    half = 0.5 * np.hypot(person.shoulders * facing, person.depth * side)
    hip_half = 0.5 * np.hypot(person.hips * facing, person.depth * 0.95 * side)
    lean = person.lean * side
    swing = np.sin(pose.phase)
    if person.bag == "backpack" and facing > -0.3:  # behind the body, so painted before it
        _backpack(canvas, person, side, facing, lean)
    _arm(canvas, person, pose, half, lean, -swing, near=False)
    for sign in (-1.0, 1.0):
        _leg(canvas, person, pose, sign * facing * 0.25 * person.hips, sign * swing, sign)
    _skirt(canvas, person, pose, hip_half)
    _trunk(canvas, person, half, hip_half, lean, side, facing)
    if person.bag == "backpack" and facing <= -0.3:
        _backpack(canvas, person, side, facing, lean)
    _carried(canvas, person, pose, half, side, swing)
    _arm(canvas, person, pose, half, lean, swing, near=True)
    _head(canvas, person, side, facing, lean)


def _trunk(canvas, person, half, hip_half, lean, side, facing) -> None:
    hem = {"vest": HIP, "t-shirt": HIP + 0.02, "long-sleeved": HIP, "jacket": HIP + 0.04, "coat": 0.70}[person.top]
    flare = 1.25 if person.top == "coat" else 1.0
    u = canvas.x + 0.25 * person.depth * side  # the pattern turns with the body
    body = canvas.trunk(TORSO_TOP, hem, half, hip_half * flare, lean)
    canvas.paint(body, person.top_cloth, u=_fold(u, person, facing))
    if person.top in ("jacket", "coat") and facing > 0.1:
        canvas.paint(canvas.trunk(TORSO_TOP, hem, half * 0.30, hip_half * 0.35, lean), person.inner)
    if person.belt:
        canvas.paint(canvas.box(0.0, HIP - 0.03, hip_half * 1.02, 0.014), person.shoe)


def _fold(u, person, facing):
    """Seen from behind, left and right of a pattern are exchanged."""
    return u if facing >= 0.0 else -u


def _leg(canvas, person, pose, x_hip, swing, sign) -> None:
    side = np.sin(pose.yaw)
    length = person.leg_length * pose.squeeze
    upper, lower = 0.235 * length, 0.225 * length
    thigh = person.stride * swing * side
    bend = 0.9 * person.stride * np.clip(np.cos(pose.phase) * sign, 0.0, None)
    shin = thigh - bend * side
    lift = 0.03 * np.clip(np.cos(pose.phase) * sign, 0.0, None) * (1.0 - abs(side))
    hip = (np.full_like(pose.phase, x_hip), np.full_like(pose.phase, HIP))
    knee = (hip[0] + upper * np.sin(thigh), hip[1] + upper * np.cos(thigh) - lift)
    foot = (knee[0] + lower * np.sin(shin), knee[1] + lower * np.cos(shin) - lift)
    radius = 1.15 * person.limb
    canvas.paint(canvas.capsule(knee, foot, radius * 0.85, radius * 0.6), person.skin)
    if person.bottom in ("trousers", "cropped"):
        end = 1.0 if person.bottom == "trousers" else 0.45
        cuff = (knee[0] + end * (foot[0] - knee[0]), knee[1] + end * (foot[1] - knee[1]))
        canvas.paint(canvas.capsule(knee, cuff, radius, radius * 0.85), person.bottom_cloth, u=canvas.x - x_hip)
    covered = person.bottom in ("trousers", "cropped", "shorts")
    thigh_cover = person.bottom_cloth if covered else person.skin
    canvas.paint(canvas.capsule(hip, knee, radius * 1.3, radius), thigh_cover, u=canvas.x - x_hip)
    toe = (foot[0] + 0.05 * side, foot[1] + 0.008)
    canvas.paint(canvas.capsule(foot, toe, 0.026), person.shoe)
    if person.boots:
        shaft = (foot[0] + 0.4 * (knee[0] - foot[0]), foot[1] + 0.4 * (knee[1] - foot[1]))
        canvas.paint(canvas.capsule(foot, shaft, radius * 0.95), person.shoe)


def _skirt(canvas, person, pose, hip_half) -> None:
    if person.bottom in ("skirt", "long-skirt"):
        hem = HIP + (0.20 if person.bottom == "skirt" else 0.36) * pose.squeeze
        canvas.paint(canvas.trunk(HIP - 0.04, hem, hip_half, hip_half * 1.45, 0.0), person.bottom_cloth)


def _arm(canvas, person, pose, half, lean, swing, near: bool) -> None:
    side, facing = np.sin(pose.yaw), np.cos(pose.yaw)
    outward = (1.0 if near else -1.0) * (half - 0.015) * (abs(facing) if abs(facing) > 0.3 else 0.15)
    angle = person.arm_swing * swing * side + (0.12 * np.sign(outward)) * abs(facing)
    shoulder = (np.full_like(pose.phase, outward + lean), np.full_like(pose.phase, TORSO_TOP + 0.03))
    elbow = (shoulder[0] + 0.16 * np.sin(angle), shoulder[1] + 0.16 * np.cos(angle))
    fore = angle + 0.3 * person.arm_swing * side
    hand = (elbow[0] + 0.15 * np.sin(fore), elbow[1] + 0.15 * np.cos(fore))
    radius = 0.9 * person.limb
    bare = person.top in ("vest", "t-shirt")
    canvas.paint(
        canvas.capsule(elbow, hand, radius * 0.85, radius * 0.7),
        person.skin if bare else person.top_cloth,
        u=canvas.x - outward,
    )
    sleeve = person.skin if person.top == "vest" else person.top_cloth
    canvas.paint(canvas.capsule(shoulder, elbow, radius * 1.1, radius), sleeve, u=canvas.x - outward)
    canvas.paint(canvas.capsule(hand, hand, radius * 0.75), person.skin)
    if near and person.bag == "handbag":
        canvas.paint(canvas.box(hand[0], hand[1] + 0.07, 0.065, 0.055), person.bag_cloth)


def _carried(canvas, person, pose, half, side, swing) -> None:
    still = np.zeros_like(pose.phase)
    if person.bag == "shoulder-bag":
        strap = canvas.capsule((still - half * 0.7, still + TORSO_TOP), (still + half, still + HIP), 0.014)
        canvas.paint(strap, person.bag_cloth.ground)
        canvas.paint(canvas.box(still + half + 0.01, still + HIP + 0.03, 0.06, 0.055), person.bag_cloth)
    if person.bag == "trolley":
        behind = still - 0.20 * (np.sign(side) if abs(side) > 0.2 else 0.9)
        canvas.paint(
            canvas.capsule((behind, still + 0.85), (behind * 0.7, still + 0.55), 0.010), person.bag_cloth.ground
        )
        canvas.paint(canvas.box(behind, still + 0.85 + 0.005 * swing, 0.075, 0.11), person.bag_cloth)


def _backpack(canvas, person, side, facing, lean) -> None:
    x = lean - side * (0.5 * person.depth + 0.045)
    rx = 0.075 + 0.03 * max(0.0, -facing)
    if facing > 0.5:  # from the front only the straps and a rim show
        rx = 0.5 * person.shoulders + 0.012
    canvas.paint(canvas.box(x, TORSO_TOP + 0.13, rx, 0.12), person.bag_cloth)


def _head(canvas, person, side, facing, lean) -> None:
    x, r = lean * 1.3, person.head
    hair = person.top_cloth.ground if person.hair == "hood" else person.hair_material
    canvas.paint(canvas.box(x, CHIN + 0.02, 0.028, 0.03), person.skin)
    if person.hair == "long":
        canvas.paint(canvas.box(x - 0.3 * r * side, 0.12, r * 1.15, 0.10), hair)
    if person.hair == "bun":
        canvas.paint(canvas.ellipse(x - side * r, 0.03, r * 0.6, r * 0.55), hair)
    if person.hair == "hood":
        canvas.paint(canvas.ellipse(x, 0.085, r * 1.35, 0.095), hair)
    canvas.paint(canvas.ellipse(x, 0.075, r, 0.07), person.skin)
    if person.hair == "bald":
        return
    cover = 0.02 if facing > 0.0 else 0.075 - 0.04 * facing
    crown = np.maximum(canvas.ellipse(x, 0.072, r * 1.08, 0.075), canvas.y - (0.045 + max(0.0, cover - 0.02)))
    canvas.paint(crown, hair)
    if person.hair == "cap":
        canvas.paint(canvas.box(x + side * r * 0.9, 0.047, r * (0.6 + 0.5 * abs(side)), 0.011), person.shoe)


def _cloth_colour(cloth: Cloth, u: np.ndarray, v: np.ndarray, infrared: bool) -> np.ndarray:
    share = _pattern(cloth.pattern, u, v, cloth.period)[..., None]
    ground, figure = cloth.ground.seen(infrared), cloth.figure.seen(infrared)
    # about 30 threads a body height
    relief = 1.0 + cloth.weave * np.sin(u * 190.0)[..., None] * np.sin(v * 170.0)[..., None]
    return (ground + share * (figure - ground)) * relief


def _pattern(kind: str, u: np.ndarray, v: np.ndarray, period: float) -> np.ndarray:
    """Share of the figure material at body coordinates (u, v); edges are softened over about a pixel."""

    def wave(t):
        return np.clip(0.5 + 1.2 * np.sin(2.0 * np.pi * t / period), 0.0, 1.0)

    def step(t):
        return np.clip(0.5 + t * 50.0, 0.0, 1.0)  # over a fiftieth of the body height

    match kind:
        case "plain":
            return np.zeros_like(u)
        case "rings":
            return wave(v)
        case "pinstripes":
            return wave(u)
        case "checks":
            return np.abs(wave(u) - wave(v))
        case "dots":
            return np.clip(2.5 * np.sin(2 * np.pi * u / period) * np.sin(2 * np.pi * v / period), 0.0, 1.0)
        case "diagonal":
            return wave((u + v) * 0.75)
        case "band":
            return step(0.5 * period - np.abs(v - 0.30))
        case "yoke":
            return step(0.24 + period - v)
        case "halves":
            return step(u)
        case "patch":
            return step(0.75 * period - np.hypot(u, v - 0.30))
    raise ValueError(f"unknown pattern {kind!r}; choose one of {PATTERNS}")
