"""FFHQ's square by complex numbers, crops of drawn photos, padding by brute force, and what is pasted back."""

import math

import numpy as np
import pytest
from PIL import Image

from facegan.alignment import geometry
from facegan.alignment.geometry import Square, central, crop, paste, square_of
from facegan.errors import FaceganError

FACE = np.array([(-20, -8), (21, -6), (1, 4), (-14, 22), (15, 24)], float)  # eyes, nose, corners of the mouth; of no symmetry
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)]


def turned(points, degrees, scale=1.0, to=(0.0, 0.0)):
    """As (x, y) by the rotation matrix of coordinates whose y points down."""
    angle = math.radians(degrees)
    matrix = np.array([(math.cos(angle), -math.sin(angle)), (math.sin(angle), math.cos(angle))])
    return scale * points @ matrix.T + to


def restated(points):
    """(centre, half) as complex numbers: x' = e - i m, c = eyes + 0.1 m, the larger of 2 |e| and 1.8 |m|."""
    left, right, _, low, high = points @ np.array([1, 1j])
    eyes, mouth, across = (left + right) / 2, (low + high) / 2, right - left
    along = mouth - eyes
    axis = across - 1j * along
    return eyes + 0.1 * along, axis / abs(axis) * max(2 * abs(across), 1.8 * abs(along))


def drawn(size, points, radius=5.0):
    """A grey photo with a soft-edged disc of its own colour at each point."""
    width, height = size
    y, x = np.mgrid[:height, :width] + 0.5
    picture = np.full((height, width, 3), 90.0)
    for (px, py), colour in zip(points, COLOURS, strict=True):
        weight = np.clip(radius + 0.5 - np.hypot(x - px, y - py), 0, 1)[..., None]
        picture += weight * (np.array(colour) - picture)
    return Image.fromarray(np.round(picture).astype(np.uint8))


def centroid(picture, colour):
    """Of the disc of that colour, by how much more of it than of the grey each pixel has."""
    pixels, way = np.asarray(picture, float) - 90, np.array(colour, float) - 90
    weight = np.clip(pixels @ way / (way @ way), 0, 1)
    weight[np.abs(pixels - weight[..., None] * way).max(2) > 40] = 0
    weight[weight < 0.3] = 0
    y, x = np.mgrid[: picture.height, : picture.width] + 0.5
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


def noise(width, height, seed=0, channels=3):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8))


def smooth_photo(width, height):
    y, x = np.mgrid[:height, :width]
    waves = [128 + 90 * np.sin(x / 23 + c) * np.cos(y / (17 + 3 * c)) for c in range(3)]
    return Image.fromarray(np.stack(waves, 2).astype(np.uint8))


def distances(square, width, height):
    """How far inside of the square the middle of each pixel is, as a share of its side; negative outside: by the four edges."""
    y, x = np.mgrid[:height, :width] + 0.5
    corners = square.corners()
    inside = np.full((height, width), np.inf)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, 0), strict=True):
        inside = np.minimum(inside, ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / math.hypot(bx - ax, by - ay))
    return inside / math.dist(*corners[:2])


def of_roll(centre, side, degrees):
    angle = math.radians(degrees)
    return Square(centre, (side / 2 * math.cos(angle), side / 2 * math.sin(angle)))


def test_the_square_of_an_upright_face():
    square = square_of(np.array([(40, 50), (60, 50), (50, 60), (44, 74), (56, 74)]))
    assert square.centre == pytest.approx((50, 52.4)) and square.half == pytest.approx((43.2, 0))
    assert square.side == pytest.approx(86.4) and square.roll == 0
    wide = square_of(np.array([(30, 50), (70, 50), (50, 60), (44, 74), (56, 74)]))
    assert wide.side == pytest.approx(160)  # 2 x 2.0 |e|


@pytest.mark.parametrize("degrees", [0, 20, 90, 180, 217, -45])
def test_the_square_by_complex_numbers(degrees):
    points = turned(FACE, degrees, 1.7, (300, 200))
    square, (centre, half) = square_of(points), restated(points)
    assert complex(*square.centre) == pytest.approx(centre) and complex(*square.half) == pytest.approx(half)
    upright = square_of(FACE)
    assert (square.roll - upright.roll - degrees) % 360 == pytest.approx(0, abs=1e-9) or (
        square.roll - upright.roll - degrees
    ) % 360 > 359.9
    assert square.corners() == pytest.approx(turned(upright.corners(), degrees, 1.7, (300, 200)))


def test_a_face_from_the_side_still_has_an_axis():
    square = square_of(np.array([(50, 50), (50, 50), (60, 60), (52, 80), (52, 80)], float))
    assert square.side == pytest.approx(3.6 * math.hypot(2, 30)) and abs(square.roll) < 5


@pytest.mark.parametrize("bad", [np.zeros((5, 2)), np.full((5, 2), np.nan), np.zeros((4, 2)), np.full((5, 2), 1e9)])
def test_no_landmarks(bad):
    with pytest.raises(FaceganError, match="landmarks"):
        square_of(bad)


@pytest.mark.parametrize("degrees", [0, 20, 90, 180, 217])
@pytest.mark.parametrize("scale, size", [(3.0, 128), (3.0, 400), (1.1, 256)])
def test_the_eyes_are_where_the_formula_says(degrees, scale, size):
    points = turned(FACE, degrees, scale, (310.4, 290.7))
    picture = crop(drawn((620, 600), points), square_of(points), size)
    assert picture.size == (size, size) and picture.mode == "RGB"
    centre, half = restated(points)
    for (x, y), colour in zip(points, COLOURS, strict=True):
        away = (complex(x, y) - centre) / half  # in the square's own axes, from -1 to 1
        expected = (np.array([away.real, away.imag]) + 1) * size / 2
        assert np.abs(centroid(picture, colour) - expected).max() < 0.5
        assert square_of(points).placed(np.array([x, y]), size) == pytest.approx(expected)


@pytest.mark.parametrize("photo", [noise(90, 70), noise(90, 70, channels=4), noise(90, 70).convert("L"), noise(90, 70).convert("P")])
def test_an_upright_square_of_whole_pixels_is_these_pixels(photo):
    on_white = Image.new("RGBA", photo.size, "white")
    on_white.alpha_composite(photo.convert("RGBA"))
    expected = np.asarray(on_white.convert("RGB"))[13:45, 21:53]
    assert (np.asarray(crop(photo, Square((37, 29), (16, 0)), 32)) == expected).all()


def test_quarter_turns_are_these_pixels_too():
    photo = noise(90, 70)
    pixels = np.asarray(photo)[13:45, 21:53]
    for degrees, half in ((90, (0, 16)), (180, (-16, 0)), (270, (0, -16))):
        assert (np.asarray(crop(photo, Square((37, 29), half), 32)) == np.rot90(pixels, degrees // 90)).all()


@pytest.mark.parametrize("degrees", [0, 33, 90])
def test_shrinking_averages(degrees):
    """Of noise of deviation 74 a mean of 100 pixels has 7.4; a sharper filter has somewhat more, point sampling all of it."""
    small = np.asarray(crop(noise(900, 900), of_roll((450.3, 449.2), 600, degrees), 60), float)
    assert 5 < small.std() < 14 and abs(small.mean() - 127.5) < 1


def test_shrinking_is_near_the_mean_of_areas():
    photo = smooth_photo(700, 640)
    means = np.asarray(photo, float)[20:620, 40:640].reshape(60, 10, 60, 10, 3).mean((1, 3))
    assert np.abs(np.asarray(crop(photo, Square((340, 320), (300, 0)), 60)) - means).max() < 6
    quarter = np.asarray(crop(photo, Square((340, 320), (0, 300)), 60), float)
    assert np.abs(quarter - np.rot90(means)).max() < 6


@pytest.mark.parametrize("degrees", [0, 10])
def test_enlarging_has_no_steps(degrees):
    ramp = Image.fromarray(np.repeat(np.tile(np.arange(0, 240, 8, dtype=np.uint8), (30, 1))[..., None], 3, 2))
    large = np.asarray(crop(ramp, of_roll((15, 15), 16, degrees), 256), int)
    assert np.abs(np.diff(large, axis=1)).max() <= 2 and np.abs(np.diff(large, axis=0)).max() <= 2


@pytest.mark.parametrize(
    "square",
    [
        Square((50, 40), (30, 0)),
        of_roll((5, 70), 60, 25),
        of_roll((50, 40), 500, 45),
        of_roll((300, 40), 60, 10),
        Square((100, 40), (20, 0)),
    ],
)
def test_the_share_beyond_the_photo_by_counting(square):
    steps = (np.arange(500) + 0.5) / 500 * 2 - 1
    u, v = np.meshgrid(steps, steps)
    x = square.centre[0] + u * square.half[0] - v * square.half[1]
    y = square.centre[1] + u * square.half[1] + v * square.half[0]
    counted = 1 - ((x >= 0) & (x < 100) & (y >= 0) & (y < 80)).mean()
    assert square.outside(100, 80) == pytest.approx(counted, abs=3e-3)


def test_beyond_the_edge_is_the_mirror_image_growing_soft():
    photo = smooth_photo(200, 200)
    pixels = np.asarray(photo, int)
    picture = np.asarray(crop(photo, Square((0, 100), (100, 0)), 200), int)  # half of it to the left of the photo
    assert (picture[:, 100:] == pixels[:, :100]).all()
    assert np.abs(picture[:, 98:100] - pixels[:, 1::-1]).max() <= 3
    assert np.abs(np.diff(picture[:, 97:103], axis=1)).max() < 12  # no seam
    median = np.median(pixels[:, :100].reshape(-1, 3), 0)
    assert np.abs(picture[:, :5] - median).mean() < 0.35 * np.abs(pixels[:, 94:99] - median).mean()
    grain = np.asarray(crop(noise(200, 200), Square((0, 100), (100, 0)), 200), float)
    assert grain[:, 60:80].std() < 0.3 * grain[:, 105:].std()


@pytest.mark.parametrize("degrees", [0, 30])
@pytest.mark.parametrize(
    "width, height, centre, side",
    [(8, 8, (4, 4), 800), (8, 8, (4, 4), 30), (8, 8, (4, 4), 3), (300, 200, (150, 100), 30_000), (300, 200, (1e6, -1e6), 100),
     (300, 200, (1e6, -1e6), 1e8), (4000, 8, (2000, 4), 4000), (8, 4000, (4, 10), 9000), (1, 1, (0.5, 0.5), 1), (50, 40, (25, 20), 0.01)],
)  # fmt: skip
def test_strange_squares(width, height, centre, side, degrees):
    photo = noise(width, height)
    picture = crop(photo, of_roll(centre, side, degrees), 64)
    assert picture.size == (64, 64) and picture.mode == "RGB"
    assert paste(photo, picture, Image.new("RGB", (64, 64), "red"), of_roll(centre, side, degrees)).size == photo.size


@pytest.mark.parametrize("square", [Square((4, 4), (0, 0)), Square((math.nan, 4), (3, 0)), Square((4, 4), (math.inf, 0))])
def test_no_square(square):
    with pytest.raises(FaceganError, match="expected sizes above 0"):
        crop(noise(8, 8), square, 64)


def test_central():
    assert central(100, 61) == Square((49.5, 30.5), (30.5, 0.0))
    photo = noise(100, 61)
    assert (np.asarray(crop(photo, central(100, 61), 61)) == np.asarray(photo)[:, 19:80]).all()


# --- paste


SQUARES = [Square((110, 90), (50, 0)), of_roll((110.3, 90.8), 101.7, 25), of_roll((110, 90), 90, 217), of_roll((10, 170), 120, -70)]


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("size", [16, 100, 333])
def test_an_unchanged_face_changes_nothing(square, size):
    photo = noise(220, 180)
    face = crop(photo, square, size)
    assert (np.asarray(paste(photo, face, face.copy(), square)) == np.asarray(photo)).all()


@pytest.mark.parametrize("square", SQUARES)
@pytest.mark.parametrize("size", [40, 100, 333])
def test_a_change_arrives_inside_and_nowhere_else(square, size):
    photo = smooth_photo(220, 180)
    before = crop(photo, square, size)
    after = Image.fromarray((np.asarray(before, int) * 0.6 + 60).astype(np.uint8))
    pasted = paste(photo, before, after, square, feather=0.1)
    old, new, inside = np.asarray(photo, float), np.asarray(pasted, float), distances(square, 220, 180)
    assert (new[inside <= 0] == old[inside <= 0]).all()
    within = inside > 0.1 + 1.5 / size
    assert within.sum() > 500
    assert np.abs(new - (old * 0.6 + 60))[within].max() < 6 and np.abs(new - (old * 0.6 + 60))[within].mean() < 1
    again = np.asarray(crop(pasted, square, size), float)
    middle = slice(round(0.13 * size), round(0.87 * size))
    if square.outside(220, 180) == 0:
        assert np.abs(again - np.asarray(after, float))[middle, middle].mean() < 2


def test_a_white_photo_is_white_beyond_its_edges():
    for square in (Square((110, 90), (300, 0)), of_roll((0, 0), 90, 30)):
        assert np.asarray(crop(Image.new("RGB", (220, 180), "white"), square, 32)).min() == 255


def test_the_change_fades_from_the_edge_on():
    photo = Image.new("RGB", (200, 200))
    pasted = np.asarray(paste(photo, photo, Image.new("RGB", (200, 200), "white"), Square((100, 100), (100, 0)), feather=0.2), int)
    row = pasted[100, :100, 0]
    assert row[0] < 3 and (np.diff(row) >= 0).all() and np.diff(row).max() < 12 and (row[40:] == 255).all()
    assert row[20] == pytest.approx(255 * (0.5125**2 * (3 - 2 * 0.5125)), abs=1)  # the middle of pixel 20 of 40


def test_the_photos_own_detail_stays():
    """A face worked with at a tenth of the resolution: what is pasted is its change, not its blur."""
    photo = noise(400, 400)
    square = of_roll((200, 200), 300, 12)
    before = crop(photo, square, 30)
    after = Image.fromarray(np.clip(np.asarray(before, int) + 20, 0, 255).astype(np.uint8))
    inside = distances(square, 400, 400) > 0.2
    old, new = np.asarray(photo, int)[inside], np.asarray(paste(photo, before, after, square), int)[inside]
    assert np.abs(new - np.clip(old + 20, 0, 255)).max() <= 1


def test_a_face_larger_than_its_square_is_pasted_antialiased():
    photo = Image.new("RGB", (100, 100), (128, 128, 128))
    square = Square((50, 50), (30, 0))
    change = np.random.default_rng(3).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    pasted = np.asarray(paste(photo, Image.new("RGB", (600, 600), (128, 128, 128)), Image.fromarray(change), square), float)
    assert pasted[30:70, 30:70].std() < 14


def test_alpha_and_modes_are_kept():
    photo = noise(120, 100, channels=4)
    square = of_roll((60, 50), 60, 40)
    before = crop(photo, square, 64)
    pasted = paste(photo, before, Image.new("RGB", (64, 64), "red"), square)
    assert pasted.mode == "RGBA" and (np.asarray(pasted)[..., 3] == np.asarray(photo)[..., 3]).all()
    assert (np.asarray(pasted)[45:55, 55:65, :3] != np.asarray(photo)[45:55, 55:65, :3]).any()
    for mode, kept in (("L", "RGB"), ("P", "RGB"), ("LA", "RGBA"), ("I;16", "RGB")):
        other = noise(120, 100).convert("L").convert(mode)
        assert paste(other, before, before, square).mode == kept


def test_a_photo_enlarged():
    photo = smooth_photo(150, 130)
    square = of_roll((70, 60), 70, 15)
    before = crop(photo, square, 96)
    after = Image.fromarray(255 - np.asarray(before))
    large = photo.resize((450, 390), Image.Resampling.LANCZOS)
    pasted = paste(large, before, after, square.scaled(3))
    inside = distances(square.scaled(3), 450, 390)
    old, new = np.asarray(large, int), np.asarray(pasted, int)
    assert (new[inside <= 0] == old[inside <= 0]).all()
    assert np.abs(new - (255 - old))[inside > 0.15].mean() < 2
    back = np.asarray(crop(pasted, square.scaled(3), 96), int)[16:80, 16:80]
    assert np.abs(back - np.asarray(after, int)[16:80, 16:80]).mean() < 2


def test_bands_leave_no_seam(monkeypatch):
    photo, square = smooth_photo(150, 130), of_roll((70, 60), 90, 15)
    before = crop(photo, square, 50)
    whole = paste(photo, before, Image.fromarray(255 - np.asarray(before)), square)
    monkeypatch.setattr(geometry, "BAND", 7)
    assert (
        np.abs(np.asarray(paste(photo, before, Image.fromarray(255 - np.asarray(before)), square), int) - np.asarray(whole, int)).max() <= 1
    )


def test_what_cannot_be_pasted():
    photo, face = noise(60, 60), noise(20, 20)
    with pytest.raises(FaceganError, match="two squares of one size"):
        paste(photo, face, noise(21, 21), Square((30, 30), (10, 0)))
    for feather in (0, 0.6, -1):
        with pytest.raises(FaceganError, match="feather"):
            paste(photo, face, face, Square((30, 30), (10, 0)), feather=feather)


def test_changes_of_neighbours_count_as_one():
    """Two overlapping squares, each to become 40 levels lighter: together no pixel does so by more, and the middles wholly."""
    photo = smooth_photo(200, 120)
    squares = [Square((70, 60), (40, 0)), of_roll((105, 60), 80, 30)]
    result = photo.copy()
    for square in squares:
        before = crop(photo, square, 80)
        after = Image.fromarray(np.clip(np.asarray(before, int) + 40, 0, 255).astype(np.uint8))
        geometry.paste_into(result, before, after, square, others=[other for other in squares if other is not square])
    added = np.asarray(result, int) - np.asarray(photo, int)
    unclipped = (np.asarray(photo) < 200).all(2)
    first, second = (distances(square, 200, 120) for square in squares)
    assert added.max() <= 42 and added.min() >= -2
    both = (first > 0.13) & (second > 0.13) & unclipped
    assert both.sum() > 200 and np.abs(added[both] - 40).max() <= 4
    assert (added[(first <= 0) & (second <= 0)] == 0).all()
    alone = (first > 0.13) & (second <= 0) & unclipped
    assert np.abs(added[alone] - 40).max() <= 3
