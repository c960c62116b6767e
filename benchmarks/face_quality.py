"""The figures behind the thresholds for blurred faces and near-duplicates, in docs/data.md:

    python benchmarks/face_quality.py --faces faces512.zip --many celeba64.zip

`--faces`: a few large sharp faces; `--many`: thousands, with CelebA's identities, for a few minutes.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from facegan.data.formats import open_image
from facegan.data.images import upright_square
from facegan.data.loaders import Catalog, open_catalog
from facegan.data.quality import HASH_BITS, Duplicates, perceptual_hash, sharpness

LANCZOS, BICUBIC = Image.Resampling.LANCZOS, Image.Resampling.BICUBIC
SIDES = (128, 256, 512)
DISTANCES = (24, 32, 40, 46, 50, 56)
CHANGED = 1000  # faces that are changed to see whether they are found again
INNER = 0.9  # of a face's width: what is cut out and shifted, so that there is something beyond it


def _faces(path: str) -> tuple[Catalog, list[Image.Image]]:
    catalog = open_catalog(path)
    return catalog, [upright_square(open_image(catalog.source.read(name))) for name in catalog.members]


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def _moved(image: Image.Image) -> Image.Image:
    shifted = [np.roll(np.asarray(image), by, 1) for by in range(-4, 5)]
    return Image.fromarray(np.mean(shifted, 0).astype(np.uint8))


def _noisy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image) + rng.normal(0, 2, (image.height, image.width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _enlarged(times: int) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.resize((image.width // times,) * 2, LANCZOS).resize(image.size, LANCZOS)


def _blurred(radius: float) -> Callable[[Image.Image], Image.Image]:
    return lambda image: image.filter(ImageFilter.GaussianBlur(radius))


def sharpness_table(faces: list[Image.Image]) -> None:
    """Smallest, median and largest of each change at each size."""
    rng = np.random.default_rng(0)
    changes: dict[str, Callable[[Image.Image], Image.Image]] = {
        "as they are": lambda image: image,
        "JPEG of quality 50": lambda image: _jpeg(image, 50),
        "enlarged from half the size": _enlarged(2),
        "Gaussian blur of 1 px": _blurred(1),
        "enlarged from a quarter": _enlarged(4),
        "the same, JPEG of quality 90": lambda image: _jpeg(_enlarged(4)(image), 90),
        "Gaussian blur of 2 px": _blurred(2),
        "moved by 9 px": _moved,
        "Gaussian blur of 4 px": _blurred(4),
        "the same, noise of 2 levels": lambda image: _noisy(_blurred(4)(image), rng),
    }
    print(f"{'sharpness':30}" + "".join(f"{f'{side} px':18}" for side in SIDES))
    for name, change in changes.items():
        cells = []
        for side in SIDES:
            values = [sharpness(change(face.resize((side, side), LANCZOS))) for face in faces]
            cells.append(f"{min(values):.2f} {np.median(values):.2f} {max(values):.2f}".ljust(18))
        print(f"{name:30}" + "".join(cells))


def _shifted(image: Image.Image, rng: np.random.Generator, share: float, degrees: float) -> tuple[Image.Image, Image.Image]:
    """The inner square, and the same shifted and resized by up to `share` of its side and turned by `degrees` either way."""
    width = image.width

    def cut(x: float, y: float, side: float, angle: float) -> Image.Image:
        a, b = np.cos(angle) * side / width, np.sin(angle) * side / width
        affine = (a, -b, x - (a - b) * width / 2, b, a, y - (a + b) * width / 2)
        return image.transform((width, width), Image.Transform.AFFINE, affine, BICUBIC)

    side, (dx, dy, larger) = INNER * width, share * rng.uniform(-1, 1, 3)
    turned = np.radians(degrees) * rng.choice([-1, 1])
    return cut(width / 2, width / 2, side, 0), cut(width / 2 + dx * side, width / 2 + dy * side, side * (1 + larger), turned)


def likeness_table(catalog: Catalog, faces: list[Image.Image]) -> None:
    """Pairs of one and of two persons, and the share of changed faces that are found, at each distance."""
    known, furthest = Duplicates(), max(DISTANCES)
    distances: dict[bool, list[int]] = {True: [], False: []}  # of one person
    for i, face in enumerate(faces):
        code = perceptual_hash(face)
        for index, bits in zip(*known.within(code, furthest), strict=True):
            distances[catalog.identities[index] == catalog.identities[i]].append(int(bits))
        known.add(code)
    rng = np.random.default_rng(0)
    Pair = tuple[Image.Image, Image.Image]
    changes: dict[str, Callable[[Image.Image], Pair]] = {
        "JPEG 50": lambda face: (face, _jpeg(face, 50)),
        "gamma 0.7": lambda face: (face, face.point(lambda v: int(255 * (v / 255) ** 0.7))),
        "gamma 1.5": lambda face: (face, face.point(lambda v: int(255 * (v / 255) ** 1.5))),
        "contrast 1.4": lambda face: (face, ImageEnhance.Contrast(face).enhance(1.4)),
        "70 % size": lambda face: (face, face.resize((face.width * 7 // 10,) * 2, LANCZOS)),
        "blur 1.5 %": lambda face: (face, _blurred(0.015 * face.width)(face)),
        "1.5 %, 1°": lambda face: _shifted(face, rng, 0.015, 1),
        "3 %, 2°": lambda face: _shifted(face, rng, 0.03, 2),
    }
    picked = [faces[i] for i in rng.permutation(len(faces))[:CHANGED]]
    found = {
        name: [(perceptual_hash(a) ^ perceptual_hash(b)).bit_count() for a, b in map(change, picked)] for name, change in changes.items()
    }
    print(f"\n{len(faces):,} faces of {len(set(catalog.identities)):,} persons; pairs, and changed faces found, of {len(picked):,}")
    print(f"{f'bits of {HASH_BITS}':14}{'one person':>12}{'two persons':>13}" + "".join(f"{name:>14}" for name in found))
    for most in DISTANCES:
        pairs = [int((np.array(distances[one]) <= most).sum()) for one in (True, False)]
        shares = "".join(f"{np.mean(np.array(bits) <= most):14.1%}" for bits in found.values())
        print(f"{most:<14}{pairs[0]:>12,}{pairs[1]:>13,}{shares}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", help="data set of large sharp faces")
    parser.add_argument("--many", help="data set of thousands of faces, whose persons are known")
    arguments = parser.parse_args()
    if arguments.faces:
        sharpness_table(_faces(arguments.faces)[1])
    if arguments.many:
        likeness_table(*_faces(arguments.many))


if __name__ == "__main__":
    main()
