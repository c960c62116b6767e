"""Images that are decoded as they are needed: the pixels of the cached form, whatever happens to the processes that decode them."""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from facegan.data import decoders
from facegan.data.decoder import Piece, answer
from facegan.data.faces import FaceData, open_faces
from facegan.data.limits import Limits
from facegan.data.streaming import StreamedImages
from facegan.errors import FaceganError
from facegan.randomness import Randomness, Shard
from facegan.training.batches import AHEAD, DataClock, RealBatches

ROOT = Path(__file__).parents[2]
COUNT = 60
RNG = np.random.default_rng(3)


def picture(i: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(i).integers(0, 256, (9 + i % 5, 12, 3), np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty faces, PNG and JPEG; every third has `a`, every fifth `b`."""
    root = tmp_path / "faces"
    (root / "img_align_celeba").mkdir(parents=True)
    lines = ["a b"]
    for i in range(COUNT):
        name = f"{i:03d}.{'png' if i % 2 else 'jpg'}"
        (root / "img_align_celeba" / name).write_bytes(picture(i, "PNG" if i % 2 else "JPEG"))
        lines.append(f"{name} {1 if i % 3 == 0 else -1} {1 if i % 5 == 0 else -1}")
    (root / "list_attr_celeba.txt").write_text("\n".join(lines))
    return root


def opened(path: Path, **limits: int | bool) -> FaceData:
    return open_faces(path, 8, progress=False, cache_dir=path.parent / "cache", limits=Limits(**{"decoders": 2, **limits}))


def streamed(path: Path) -> StreamedImages:
    images = opened(path, stream=True).images
    assert isinstance(images, StreamedImages)
    return images


def zipped(folder: Path, method: int) -> Path:
    path = folder.parent / f"{method}.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        for file in folder.rglob("*"):
            if file.is_file():
                archive.write(file, file.relative_to(folder))
    return path


@pytest.mark.parametrize("method", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_rows_are_those_of_the_cached_form(folder: Path, method: int | None) -> None:
    path = folder if method is None else zipped(folder, method)
    kept, images = opened(path).images, streamed(path)
    assert images.shape == kept.shape and len(images) == COUNT and images.dtype == kept.dtype and images.nbytes == kept.nbytes
    mask = RNG.random(COUNT) < 0.3
    for index in (7, -1, slice(3, 40, 7), RNG.integers(0, COUNT, 50), mask, np.array([], np.int64), (slice(2, 5), 1, slice(None), 3),
                  (4, 0, 2, 2), np.array([[1, 2], [59, 1]])):  # fmt: skip
        np.testing.assert_array_equal(images[index], kept[index])
    np.testing.assert_array_equal(np.stack(list(images)), kept)
    with pytest.raises(IndexError):
        images[COUNT]
    with pytest.raises(TypeError, match="take some of them"):
        np.asarray(images)


def test_what_passes_the_limit_is_streamed_and_the_log_says_so(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    size = COUNT * 3 * 8 * 8
    with caplog.at_level(logging.INFO, "facegan.data"):
        assert isinstance(opened(folder, cache=size).images, np.ndarray) and not caplog.messages
        assert isinstance(opened(folder, cache=size - 1).images, StreamedImages)
    assert "60 images of 8 px" in caplog.text and "--cache-limit" in caplog.text and "2 process(es)" in caplog.text
    assert not isinstance(open_faces("synthetic", 16, num=3, limits=Limits(stream=True), progress=False).images, StreamedImages)


def test_the_fingerprint_rests_on_the_files_wherever_they_lie(folder: Path) -> None:
    first = opened(folder, stream=True)
    assert first.fingerprint != opened(folder).fingerprint and first.fingerprint.startswith("files-")
    assert opened(zipped(folder, zipfile.ZIP_DEFLATED), stream=True).fingerprint == first.fingerprint
    moved = Path(shutil.copytree(folder, folder.parent / "elsewhere"))
    image = moved / "img_align_celeba/007.png"
    os.utime(image, ns=(1, 1))
    assert opened(moved, stream=True).fingerprint == first.fingerprint
    content = bytearray(image.read_bytes())
    content[60] ^= 1
    image.write_bytes(content)
    os.utime(image, ns=(2, 2))
    assert opened(moved, stream=True).fingerprint != first.fingerprint


def batches(images: np.ndarray | StreamedImages, index: np.ndarray) -> RealBatches:
    return RealBatches(images, index, "reals", Randomness(0, Shard(), torch.device("cpu")), DataClock())


@pytest.mark.parametrize("stride", [1, 3])
def test_batches_are_those_of_the_cached_form_in_any_order_of_steps(folder: Path, stride: int) -> None:
    index = np.arange(5, COUNT, 2)
    kept, other = batches(opened(folder).images, index), batches(streamed(folder), index)
    for step in [*range(0, 12 * stride, stride), 40, 3, 41]:  # onward, and where a resumed run may stand
        for count in (6, 10):
            np.testing.assert_array_equal(other(step, count), kept(step, count))
            started = other.fetch._started[count]
            assert len(started) <= AHEAD  # what waits in memory
        assert min(other.fetch._started[6]) > step
    assert sorted(other.fetch._started) == [6, 10]


def damage(folder: Path, *rows: int) -> None:
    for i in rows:
        path = next((folder / "img_align_celeba").glob(f"{i:03d}.*"))
        path.write_bytes(path.read_bytes()[:70])


def test_a_file_that_is_no_picture_has_the_next_of_its_kind_in_its_place(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    sound = opened(folder).images.copy()
    damage(folder, 21, 24, 30)
    index = np.array([59, 21, 22, 24, 27, 30, 33])  # a alone: 21, 24, 27, 33; a and b: 30
    for _ in range(2):  # a new process finds the same, whichever it meets first
        images = streamed(folder)
        with caplog.at_level(logging.WARNING, "facegan.data"):
            np.testing.assert_array_equal(images.take(np.array([21, 59, 24]), index), sound[[27, 59, 27]])
            np.testing.assert_array_equal(images.take(np.array([24, 21]), index), sound[[27, 27]])
            # no other of that kind: whichever follows
            np.testing.assert_array_equal(images.take(np.array([30]), index), sound[[33]])
            # among the rows of a request where no set is known
            np.testing.assert_array_equal(images[np.array([24, 22, 33])], sound[[33, 22, 33]])
    told = [text.partition(" is no picture")[0][-7:] for text in caplog.messages if "stands in for it" in text]
    assert sorted(told) == sorted(2 * ["021.png", "024.jpg", "030.jpg"])  # each once by each
    with pytest.raises(FaceganError, match="1 image.s. cannot be decoded, such as .*021.png.*check-images"):
        streamed(folder)[21]
    kept = batches(streamed(folder), index)
    walk = [kept(step, 7) for step in range(4)]
    again = batches(streamed(folder), index)
    for step in (3, 1, 0, 2):
        np.testing.assert_array_equal(again(step, 7), walk[step])


def test_a_file_that_is_gone_ends_the_run_in_a_sentence(folder: Path) -> None:
    images = streamed(folder)
    (folder / "img_align_celeba/021.png").unlink()
    with pytest.raises(FaceganError, match="021.png can be read no more .No such file.*same command goes on"):
        images.take(np.arange(COUNT))
    archive = zipped(folder, zipfile.ZIP_STORED)
    images = streamed(archive)
    archive.write_bytes(archive.read_bytes()[: 4 << 10])
    with pytest.raises(FaceganError, match="can be read no more"):
        images.take(np.arange(COUNT - 1))


def pids(images: StreamedImages) -> list[int]:
    """Of the processes that have been started."""
    return [member.child.pid for member in images.decoders.members if member.child is not None]


def test_killed_processes_are_replaced_and_no_image_is_lost(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    kept, images = opened(folder).images, streamed(folder)
    images.take(np.arange(COUNT))
    first = pids(images)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    with caplog.at_level(logging.WARNING, "facegan.data"):
        for _ in range(3):
            np.testing.assert_array_equal(images.take(np.arange(COUNT)), kept)
    assert first and not set(first) & set(pids(images))
    assert "ended by signal 9" in caplog.text and "no image is lost" in caplog.text


def test_processes_that_always_end_or_never_answer_are_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ready = "import os, time; os.write(1, bytes([3, 0, 0, 0, 0])); "
    monkeypatch.setattr(decoders, "DEATHS", 3)
    monkeypatch.setattr(decoders, "STILLBORN", 3)
    monkeypatch.setattr(decoders, "_COMMAND", ready + "raise SystemExit(7)")
    with pytest.raises(FaceganError, match="3 decoding processes ended at .*009.png, the last one with exit status 7"):
        streamed(folder)[9]
    monkeypatch.setattr(decoders, "_COMMAND", "raise SystemExit(7)")
    with pytest.raises(FaceganError, match="3 decoding processes ended before they had begun, the last one with exit status 7"):
        streamed(folder)[9]
    monkeypatch.setattr(decoders, "_COMMAND", ready + "time.sleep(60)")
    monkeypatch.setattr(decoders, "PATIENCE", 0.5)
    with pytest.raises(FaceganError, match="3 decoding processes ended .*by signal 9"):
        streamed(folder)[9]
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FaceganError, match="cannot be started"):
        streamed(folder)[9]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_processes_end_with_their_trainer_however_that_ends(folder: Path) -> None:
    program = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        import numpy as np
        from facegan.data.faces import open_faces
        from facegan.data.limits import Limits
        images = open_faces({str(folder)!r}, 8, progress=False, limits=Limits(stream=True, decoders=2)).images
        images.take(np.arange(60))
        print(*(member.child.pid for member in images.decoders.members), flush=True)
        assert "torch" not in sys.modules
        time.sleep(60)
    """)
    script = folder.parent / "program.py"  # as a user's script does it: without a guard of `__main__`
    script.write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    started = [int(word) for word in child.stdout.readline().split()]
    assert len(started) == 2 and all(map(alive, started))
    child.send_signal(signal.SIGKILL)
    child.wait()
    for _ in range(200):
        if not any(map(alive, started)):
            break
        time.sleep(0.05)
    assert not any(map(alive, started))


def test_ctrl_c_and_sigterm_are_left_to_the_trainer(folder: Path) -> None:
    images = streamed(folder)
    images.take(np.arange(COUNT))
    first = pids(images)
    for pid in first:
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    images.take(np.arange(COUNT))
    assert pids(images) == first or set(pids(images)) == set(first)


def test_modules_of_the_user_hide_none_of_pythons(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.parent / "modules").mkdir()
    for name in ("pickle", "re", "struct"):
        (folder.parent / f"modules/{name}.py").write_text("raise SystemExit(1)")
    monkeypatch.syspath_prepend(folder.parent / "modules")
    assert streamed(folder)[9].shape == (3, 8, 8)


def test_members_of_damaged_archives_are_told_apart(folder: Path) -> None:
    archive = zipped(folder, zipfile.ZIP_DEFLATED)
    images = streamed(archive)
    piece = images._piece("img_align_celeba/001.png")
    assert isinstance(piece, Piece)
    assert answer(piece, 8)[0] == 0
    assert answer(piece._replace(crc=piece.crc ^ 1), 8) == (1, b"ValueError: it is damaged: its checksum is another")
    assert answer(piece._replace(offset=piece.offset + 1), 8)[0] == 1
    assert answer(piece._replace(offset=1 << 40), 8)[0] == 2
    assert answer(piece._replace(path="/nowhere"), 8)[0] == 2
    assert answer(Piece("/dev/zero"), 8)[0] == 1 and answer(b"", 8)[0] == 1
