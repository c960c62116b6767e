"""The synthetic faces: the same face everywhere, and labels that the pixels bear out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from facegan.data.synthetic import BEARDS, COLUMNS, HAIRS, render, render_dataset, sample_parameters, write_celeba_layout
from facegan.errors import FaceganError

# A sharp, upright, centred face without accessories: pixel zones then mean the same in every face.
PLAIN = dict(
    male=True, bald=False, beard="none", sideburns=False, hat="none", glasses="none", hair="short", blur=0.0,
    yaw=0.0, pitch=0.0, roll=0.0, scale=1.0, shift=(0.0, 0.0), smile=0.0, mouth_open=0.0,
)  # fmt: skip
FACES = range(24)


def paint(index: int, resolution: int = 64, **forced: object) -> np.ndarray:
    return render(sample_parameters(7, index, **(PLAIN | forced)), resolution).astype(np.float64)


def difference(index: int, **forced: object) -> np.ndarray:
    """Mean absolute change of each pixel [64, 64] when the plain face gets ``forced``."""
    return np.abs(paint(index, **forced) - paint(index)).mean(axis=2)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float64) - b.astype(np.float64)) ** 2)))


# -- the same face everywhere ----------------------------------------------------------------------------------------


def test_a_face_does_not_depend_on_batch_or_process() -> None:
    images, attributes = render_dataset(600, 16, seed=3, workers=1)
    spread_images, spread_attributes = render_dataset(600, 16, seed=3, workers=2)
    few_images, few_attributes = render_dataset(5, 16, seed=3)
    assert np.array_equal(images, spread_images) and np.array_equal(attributes, spread_attributes)
    assert np.array_equal(images[:5], few_images) and np.array_equal(attributes[:5], few_attributes)
    params = sample_parameters(3, 599)
    assert np.array_equal(images[599], render(params, 16).transpose(2, 0, 1))
    assert attributes[599].tolist() == [params.attributes()[column] for column in COLUMNS]
    assert images.dtype == np.uint8 and attributes.dtype == np.float32 and images.shape == (600, 3, 16, 16)


def test_seeds_and_indices_give_different_faces() -> None:
    faces = [render(sample_parameters(seed, index), 16).tobytes() for seed in range(4) for index in range(20)]
    assert len(set(faces)) == len(faces)
    assert sample_parameters(0, 1) != sample_parameters(1, 0)


@pytest.mark.parametrize("index", range(6))
def test_the_same_face_at_every_resolution(index: int) -> None:
    params, other = sample_parameters(11, index, blur=0.0), sample_parameters(11, index + 1, blur=0.0)
    large = Image.fromarray(render(params, 256))
    for resolution, least in ((64, 34.0), (32, 31.0), (16, 28.0)):
        small = np.asarray(large.reduce(256 // resolution))
        assert psnr(small, render(params, resolution)) > least
        assert psnr(small, render(other, resolution)) < 22


def test_an_override_leaves_the_rest_of_the_face() -> None:
    for index in range(40):
        plain, glasses = sample_parameters(5, index, glasses="none"), sample_parameters(5, index, glasses="round")
        assert {k for k, v in vars(plain).items() if v != vars(glasses)[k]} == {"glasses"}


@pytest.mark.parametrize("resolution", [8, 13, 24, 37, 100])
def test_odd_resolutions(resolution: int) -> None:
    image = render(sample_parameters(2, 3), resolution)
    assert image.shape == (resolution, resolution, 3) and image.dtype == np.uint8 and image.std() > 10


@pytest.mark.parametrize("hair, beard", [*itertools.product(HAIRS, ["none"]), *itertools.product(["short"], BEARDS)])
def test_every_style_paints(hair: str, beard: str) -> None:
    for accessory in ({}, {"hat": "brim"}, {"hat": "cap"}, {"hat": "beanie"}, {"glasses": "sun"}):
        forced = PLAIN | {"hair": hair, "beard": beard, "sideburns": True} | accessory
        assert render(sample_parameters(1, 1, **forced), 32).std() > 10


# -- what the labels say is in the pixels ----------------------------------------------------------------------------


def test_baldness_is_in_the_top_half_and_visible_at_32_pixels() -> None:
    for index in FACES:
        change = difference(index, bald=True, horseshoe=False)
        assert change[:32].sum() > 0.93 * change.sum()
    crowns = []
    for index in FACES:
        hairy, bare = paint(index, 32), paint(index, 32, bald=True, horseshoe=False)
        crowns.append(np.abs(hairy - bare)[3:8, 11:21].mean())
    assert np.min(crowns) > 12 and np.mean(crowns) > 40  # of 255 levels


@pytest.mark.parametrize("beard, strength", [("full", 20.0), ("circle", 8.0), ("goatee", 4.0), ("mustache", 3.0)])
def test_a_beard_is_in_the_bottom_half_and_visible_at_32_pixels(beard: str, strength: float) -> None:
    for index in FACES:
        change = difference(index, beard=beard)
        assert change[32:].sum() > 0.95 * change.sum()
    zone = [np.abs(paint(i, 32, beard=beard) - paint(i, 32))[18:27, 8:24].mean() for i in FACES]
    assert np.mean(zone) > strength


def test_a_beard_has_the_texture_of_hair_not_of_shadow() -> None:
    """On the chin neighbouring pixels differ several times as much as on the shaved chin."""
    rough = lambda image: np.abs(np.diff(image[100:108, 54:74].mean(axis=2), axis=1)).mean()  # noqa: E731
    bearded = [rough(paint(i, 128, beard="full", hair_colour="brown")) for i in FACES]
    shaved = [rough(paint(i, 128)) for i in FACES]
    assert np.mean(bearded) > 1.8 * np.mean(shaved)


def test_sideburns_show_beside_a_full_beard() -> None:
    """Beside the eyes and cheeks; a full beard without them begins lower."""
    for index in FACES:
        change = np.abs(paint(index, beard="full", sideburns=True) - paint(index, beard="full")).mean(axis=2)
        assert change[26:42].sum() > 0.95 * change.sum() and change[:, 24:40].sum() < 0.1 * change.sum()
        assert change[30:36].max() > 8


def test_the_outline_of_straight_hair_has_no_teeth() -> None:
    """From row to row the edge of black hair before a white wall moves by less than a hundredth of the picture."""
    for index in FACES:
        forced = dict(male=False, hair="long", hair_rgb=(0.05,) * 3, background="plain", backdrop=((0.9,) * 3,) * 2, light=(0.0, 0.0, 1.0))
        image = paint(index, 256, **forced).mean(axis=2)
        edges = (image[60:200, :128] < 120).argmax(axis=1)
        assert edges.min() > 10 and np.abs(np.diff(edges)).max() <= 2


def test_eyes_have_a_dark_pupil_a_coloured_iris_and_a_catch_light() -> None:
    for index in FACES:
        face = sample_parameters(7, index, **(PLAIN | dict(iris_rgb=(0.2, 0.4, 0.6), exposure=1.0, warmth=0.0)))
        image = render(face, 256).astype(np.float64)
        column, row = round((0.5 + face.eye_gap) * 256), round(0.45 * 256)
        eye = image[row - 7 : row + 6, column - 7 : column + 8]
        assert eye.mean(axis=2).min() < 30 and eye.mean(axis=2).max() > 200
        blue = (eye[..., 2] > eye[..., 0] + 25).mean()
        assert 0.15 < blue < 0.9


def test_hat_and_glasses_stay_in_their_zones() -> None:
    for index in FACES:
        hat = difference(index, hat="beanie")
        assert hat[:33].sum() > 0.97 * hat.sum()  # a hat also hides the hair down to the ears
        assert hat[4:20, 20:44].mean() > 8
        glasses = difference(index, glasses="sun")
        assert glasses[24:36].sum() > 0.97 * glasses.sum() and glasses[27:31, 18:46].mean() > 8


def test_women_have_longer_hair() -> None:
    for index in FACES:
        change = difference(index, male=False, hair="long")
        assert change[32:56, :16].sum() + change[32:56, 48:].sum() > change[32:56, 26:38].sum()


def test_a_blurry_face_has_fewer_edges() -> None:
    edges = lambda image: np.abs(np.diff(image, axis=0)).mean()  # noqa: E731
    for index in FACES:
        assert edges(paint(index, blur=0.03)) < 0.8 * edges(paint(index))


def test_skin_tone_is_what_the_tone_says() -> None:
    cheeks = [paint(1, tone=tone)[36:40, 24:40].mean() for tone in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert all(a + 8 < b for a, b in itertools.pairwise(cheeks))


def test_edges_are_anti_aliased() -> None:
    """Across the outline of a dark shoulder before a white wall some pixels lie in between, none jumps."""
    forced = dict(
        bald=True, horseshoe=False, skin_rgb=(0.2, 0.1, 0.1), background="plain", backdrop=((0.9,) * 3,) * 2,
        clothes_rgb=(0.05,) * 3, light=(0.0, 0.0, 1.0), exposure=1.0, warmth=0.0,
    )  # fmt: skip
    image = paint(3, 128, **forced).mean(axis=2)
    dark, bright = image[124, 60:68].mean(), image[100, 4:8].mean()
    rows = image[104:, 8:120]
    between = (rows > dark + 0.25 * (bright - dark)) & (rows < dark + 0.75 * (bright - dark))
    crossing = (rows[0] > 0.8 * bright) & (rows[-1] < dark + 0.2 * (bright - dark))
    assert crossing.sum() > 20
    assert between[:, crossing].any(axis=0).mean() > 0.35  # half of them, were edges uniformly placed


# -- attributes and their distribution -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labels() -> dict[str, np.ndarray]:
    table = np.array([list(sample_parameters(0, index).attributes().values()) for index in range(6000)]) == 1
    return dict(zip(COLUMNS, table.T, strict=True))


def test_distribution(labels: dict[str, np.ndarray]) -> None:
    men, bald, bearded = labels["Male"], labels["Bald"], ~labels["No_Beard"]
    sharp = ~labels["Blurry"] & ~labels["Wearing_Hat"]
    clean = ~labels["5_o_Clock_Shadow"] & ~labels["Sideburns"] & ~labels["Goatee"] & ~labels["Mustache"]
    assert (bald & ~bearded & clean & sharp).sum() >= 350
    hair_on_face = labels["Goatee"] | labels["Mustache"] | labels["Sideburns"]
    assert (men & bearded & hair_on_face & ~bald & ~labels["Receding_Hairline"] & sharp).sum() >= 700
    assert (bald & bearded).sum() >= 150
    shares = {"Male": (0.5, 0.03), "Wearing_Hat": (0.06, 0.012), "Eyeglasses": (0.15, 0.02), "Blurry": (0.03, 0.01)}
    for column, (share, tolerance) in shares.items():
        assert abs(labels[column].mean() - share) < tolerance, column
    assert abs(labels["5_o_Clock_Shadow"][men & ~bearded].mean() - 0.05) < 0.02
    assert abs(labels["Receding_Hairline"][men].mean() - 0.05) < 0.015
    for column, values in labels.items():
        assert 0.005 < values.mean() < 0.95, f"{column} hardly varies"


def test_labels_do_not_contradict_each_other(labels: dict[str, np.ndarray]) -> None:
    bald, bearded = labels["Bald"], ~labels["No_Beard"]
    assert np.array_equal(bearded, labels["Goatee"] | labels["Mustache"])
    assert not (bald & (labels["Wearing_Hat"] | labels["Bangs"] | labels["Receding_Hairline"] | ~labels["Male"])).any()
    assert not (bearded & (labels["5_o_Clock_Shadow"] | ~labels["Male"])).any()
    colours = sum(labels[f"{name}_Hair"].astype(int) for name in ("Black", "Blond", "Brown", "Gray"))
    assert colours.max() == 1 and colours[bald].max() == 0


def test_skin_tone_and_background_tell_nothing_about_the_attributes() -> None:
    params = [sample_parameters(1, index) for index in range(4000)]
    tone, wall = np.array([p.tone for p in params]), np.array([p.backdrop[0][0] for p in params])
    for column in ("Bald", "No_Beard", "Male", "Wearing_Hat", "Black_Hair", "Eyeglasses"):
        truth = np.array([p.attributes()[column] for p in params])
        assert abs(np.corrcoef(tone, truth)[0, 1]) < 0.06 and abs(np.corrcoef(wall, truth)[0, 1]) < 0.06


# -- CelebA's layout -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image_format", ["jpg", "png"])
def test_celeba_layout(tmp_path, image_format: str) -> None:
    write_celeba_layout(tmp_path, 7, 32, seed=9, image_format=image_format)
    images, attributes = render_dataset(7, 32, seed=9)
    count, names, *rows = (tmp_path / "list_attr_celeba.txt").read_text().splitlines()
    assert int(count) == len(rows) == 7 and names.endswith(" ") and tuple(names.split()) == COLUMNS
    for index, row in enumerate(rows):
        name, *values = row.split()
        assert name == f"{index + 1:06d}.{image_format}"
        assert len(row) == len(name) + 3 * len(COLUMNS)  # CelebA pads " 1" to the width of "-1"
        assert [(int(value) + 1) / 2 for value in values] == attributes[index].tolist()
        stored = np.asarray(Image.open(tmp_path / "img_align_celeba" / name)).transpose(2, 0, 1)
        assert np.array_equal(stored, images[index]) if image_format == "png" else psnr(stored, images[index]) > 25
    people = [line.split() for line in (tmp_path / "identity_CelebA.txt").read_text().splitlines()]
    assert len({person for _, person in people}) == 7 and [name for name, _ in people] == [r.split()[0] for r in rows]


def test_no_faces_at_all(tmp_path) -> None:
    images, attributes = render_dataset(0, 16, seed=0)
    assert images.shape == (0, 3, 16, 16) and attributes.shape == (0, len(COLUMNS))
    write_celeba_layout(tmp_path, 0, 16, seed=0)
    assert (tmp_path / "list_attr_celeba.txt").read_text().splitlines()[0] == "0"


# -- wrong arguments -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: render(sample_parameters(0, 0), 7), "resolution"),
        (lambda: render(sample_parameters(0, 0), 64.0), "resolution"),
        (lambda: sample_parameters(-1, 0), "seed"),
        (lambda: sample_parameters(0, True), "index"),
        (lambda: sample_parameters(0, 0, bread="full"), "bread"),
        (lambda: sample_parameters(0, 0, beard="long"), "beard"),
        (lambda: sample_parameters(0, 0, beard=["full"]), "beard"),
        (lambda: sample_parameters(0, 0, bald=True, hat="cap"), "bald"),
        (lambda: render_dataset(-1, 32, 0), "num"),
        (lambda: render_dataset(1, 4096, 0), "resolution"),
        (lambda: render_dataset(1, 32, 2**64), "seed"),
        (lambda: render_dataset(1, 32, 0, workers=0), "workers"),
        (lambda: write_celeba_layout("unused", 1, 32, 0, image_format="bmp"), "image_format"),
    ],
)
def test_a_wrong_argument_gets_one_sentence(call, named: str) -> None:
    with pytest.raises(FaceganError, match=named) as caught:
        call()
    assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
