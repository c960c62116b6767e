"""open_faces end to end, the report of `facegan data inspect`, and the real data where it is at hand."""

from __future__ import annotations

import io
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegan.data.attributes import group, resolve
from facegan.data.faces import open_faces
from facegan.data.inspect import inspect
from facegan.data.loaders import open_catalog
from facegan.data.splits import split
from facegan.errors import FaceganError

SHARED = Path(__file__).parents[3] / "shared" / "data"


def _real(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip(f"{name} is not in ../shared/data beside the repository")
    return SHARED / name


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Forty faces in CelebA's layout, two of them damaged; image i is filled with i; person i // 4."""
    root = tmp_path / "faces"
    (root / "img_align_celeba").mkdir(parents=True)
    lines = ["40", "a b "]
    for i in range(40):
        buffer = io.BytesIO()
        Image.new("L", (8, 8), i).save(buffer, "PNG")
        content = buffer.getvalue()[:30] if i in (5, 17) else buffer.getvalue()
        (root / "img_align_celeba" / f"{i:06d}.png").write_bytes(content)
        lines.append(f"{i:06d}.png {1 if i % 3 == 0 else -1} {1 if i % 5 == 0 else -1}")
    (root / "list_attr_celeba.txt").write_text("\n".join(lines))
    (root / "identity_CelebA.txt").write_text("".join(f"{i:06d}.png {i // 4}\n" for i in range(40)))
    yield root


def test_rows_stay_together_when_images_are_skipped(folder: Path, tmp_path: Path) -> None:
    faces = open_faces(folder, 8, cache_dir=tmp_path / "cache", progress=False)
    kept = [i for i in range(40) if i not in (5, 17)]
    assert faces.table.ids == tuple(f"{i:06d}.png" for i in kept)
    np.testing.assert_array_equal(faces.images, np.array(kept, np.uint8)[:, None, None, None] + np.zeros((3, 8, 8)))
    assert faces.identities == tuple(str(i // 4) for i in kept)
    np.testing.assert_array_equal(faces.table.column("a"), [float(i % 3 == 0) for i in kept])
    assert [Path(name).name for name, _ in faces.skipped] == ["000005.png", "000017.png"]
    assert faces.name == "faces" and len(faces) == 38


def test_fingerprint_is_of_the_content_alone(folder: Path, tmp_path: Path) -> None:
    def fingerprint(path: Path) -> str:
        return open_faces(path, 8, cache_dir=tmp_path / "cache", progress=False).fingerprint

    first = fingerprint(folder)
    archive = Path(shutil.make_archive(str(tmp_path / "elsewhere"), "zip", folder))
    assert fingerprint(archive) == first
    identities = folder / "identity_CelebA.txt"
    identities.write_text(identities.read_text().replace(" 9\n", " 8\n"))
    assert fingerprint(folder) != first


def test_a_changed_image_is_decoded_again(folder: Path, tmp_path: Path) -> None:
    before = open_faces(folder, 8, cache_dir=tmp_path / "cache", progress=False)
    image = folder / "img_align_celeba" / "000000.png"
    Image.new("L", (8, 8), 99).save(image)
    os.utime(image, ns=(1, 1))
    after = open_faces(folder, 8, cache_dir=tmp_path / "cache", progress=False)
    assert before.images[0, 0, 0, 0] == 0 and after.images[0, 0, 0, 0] == 99
    assert before.fingerprint != after.fingerprint


def test_synthetic_faces_are_cached_and_match_their_renderer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from facegan.data import synthetic

    images, attributes = synthetic.render_dataset(6, 32, 3)
    faces = open_faces("synthetic:3", 32, num=6, cache_dir=tmp_path, progress=False)
    np.testing.assert_array_equal(faces.images, images)
    np.testing.assert_array_equal(faces.table.values, attributes)
    assert faces.table.columns == tuple(synthetic.COLUMNS)
    monkeypatch.setattr(synthetic, "render_dataset", None)  # from here on only the cache can answer
    again = open_faces("synthetic", 32, num=6, seed=3, cache_dir=tmp_path, progress=False)
    assert again.fingerprint == faces.fingerprint
    np.testing.assert_array_equal(again.images, images)


def test_bad_arguments(tmp_path: Path) -> None:
    cases: list[tuple[str | Path, int, str]] = [
        ("synthetic:x", 32, "synthetic:SEED"),
        ("synthetic", 0, "resolution"),
        (tmp_path / "none", 32, "no such folder"),
    ]
    for data, resolution, message in cases:
        with pytest.raises(FaceganError, match=message):
            open_faces(data, resolution, num=2, cache_dir=tmp_path, progress=False)


def test_inspect_reports_what_the_selectors_find(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        report = inspect(folder, "a,b", progress=False).text
    lines = [" ".join(line.split()) for line in report.splitlines()]
    a, b = (np.arange(40) % step == 0 for step in (3, 5))
    assert "images 40" in lines and "identities 10" in lines and "layout CelebA" in lines
    assert f"a positive {a.sum()} a" in lines and f"b negative {(~b).sum()} !b" in lines
    assert any(line.startswith(f"X_1 a only {(a & ~b).sum()} ") for line in lines)
    assert any(line.startswith(f"joint {(a & b).sum()} 0 0 ") for line in lines)
    assert f"a {a.sum()} {a.sum()} {(~b).sum()}" in lines  # clause: alone, up to it, left without it
    assert f"!b {(~b).sum()} {(a & ~b).sum()} {a.sum()}" in lines
    assert "unreadable" not in report
    header, *rows = report.split("\n\n")[2].splitlines()
    end = header.index("images") + len("images")
    assert rows and all(row[end - 1].isdigit() and row[end] == " " for row in rows)  # figures stand under their heading


def test_inspect_checks_images_when_asked(folder: Path) -> None:
    report = inspect(folder, "a,b", check_images=True, progress=False).text
    lines = [" ".join(line.split()) for line in report.splitlines()]
    assert "unreadable 2" in lines
    assert any("000005.png: " in line for line in lines) and any("000017.png: " in line for line in lines)


def test_inspect_of_synthetic_faces_agrees_with_rendering_them(tmp_path: Path) -> None:
    report = inspect("synthetic:1", "bald,beard", num=40, progress=False).text
    table = open_faces("synthetic:1", 32, num=40, cache_dir=tmp_path, progress=False).table
    bald = int(table.select("Bald").sum())
    assert f"bald present {bald} Bald" in [" ".join(line.split()) for line in report.splitlines()]


def test_celeba64_gives_the_published_counts() -> None:
    catalog = open_catalog(_real("celeba64.zip"))
    groups = group(catalog.table, resolve("bald,beard", catalog.table))
    assert len(catalog.table) == 13944 and catalog.notes == ()
    assert [len(index) for index in groups.only] == [159, 731]
    assert len(groups.joint) == 116
    parts = split(catalog.identities, groups)
    people = [{catalog.identities[i] for i in side} for side in (parts.train, parts.judge)]
    assert not people[0] & people[1]
    assert not np.isin(groups.joint, np.concatenate([parts.train, parts.judge])).any()


def test_faces512_loads(tmp_path: Path) -> None:
    faces = open_faces(_real("faces512.zip"), 128, cache_dir=tmp_path, progress=False)
    assert faces.images.shape == (12, 3, 128, 128) and faces.skipped == ()
    assert len(faces.table.columns) == 40 and faces.table.ids[0].endswith(".jpg")
    assert 30 < faces.images.mean() < 220
