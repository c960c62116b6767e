"""A training on streamed images is the training on the decoded ones, bit for bit, also when it is stopped and resumed."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from facegan.data.packing import pack
from facegan.data.streaming import StreamedImages
from facegan.errors import FaceganError
from facegan.options import DataPack
from facegan.training import loop

FLAGS = {
    "a": dict(phase1_epochs=4, epochs=4, phase2_epochs=4, conditional=True, stream=True, decoders=1),
    "b": dict(method="b", kimg=4 * 8 / 1000, phase2_epochs=4, stream=True, decoders=1),
    "restore": dict(method="restore", kimg=4 * 8 / 1000, stream=True, decoders=1),
}
Rows = Callable[[Path], list[dict]]


def identical(run: Path, other: Path) -> None:
    files = sorted(
        file.relative_to(run) for file in [*run.glob("stages/*/model.safetensors"), *run.glob("ids/*.txt"), *run.glob("samples/*")]
    )
    assert len(files) > 3 and all((run / file).read_bytes() == (other / file).read_bytes() for file in files)


@pytest.mark.parametrize("method", FLAGS)
def test_streamed_trainings_end_in_the_same_bits(
    method: str, train: Callable[..., Path], rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = FLAGS[method]
    kept = train(**{**flags, "stream": False})
    timed = loop.StageRun._timed_step
    stopped: list[str] = []

    def stopping(self: loop.StageRun, step: int) -> None:
        assert isinstance(self.context.data.images, StreamedImages)
        timed(self, step)
        if step == 1 and self.stage.name not in stopped:
            stopped.append(self.stage.name)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loop.StageRun, "_timed_step", stopping)
    for _ in range(9):
        try:
            run = train(tmp_path / "run", **flags)
            break
        except loop.Interrupted:
            pass
    assert stopped
    identical(kept, run)
    assert rows(run) == rows(kept)


def test_packed_faces_train_the_same_network(faces: Path, train: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    shards = pack(DataPack(data=str(faces), out=str(tmp_path / "shards"), decoders=1), progress=False)
    flags = FLAGS["restore"]
    of_folder, of_shards = train(**flags), train(**flags, data=shards.pattern)
    identical(of_folder, of_shards)
    records = [json.loads((run / "config.json").read_text())["data_fingerprint"] for run in (of_folder, of_shards)]
    assert records[0] == records[1]


def test_a_run_stays_with_the_form_of_its_data(train: Callable[..., Path], tmp_path: Path) -> None:
    train(tmp_path / "run", **FLAGS["restore"])
    train(tmp_path / "run", **{**FLAGS["restore"], "decoders": 2, "cache_limit": "1GB"})  # changes no pixel
    with pytest.raises(FaceganError, match="its images are streamed there, kept decoded here: `stream` and `cache_limit` say which"):
        train(tmp_path / "run", **{**FLAGS["restore"], "stream": False})


def test_the_limit_decides(train: Callable[..., Path], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        train(**{**FLAGS["restore"], "stream": False, "cache_limit": "100KiB"})
    assert "more than the" in caplog.text and "waiting for data" in caplog.text


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("16GiB", 16 << 30), ("16g", 16 << 30), ("500 MB", 500_000_000), ("1.5KiB", 1536), ("7B", 7)]
)
def test_sizes(text: str, size: int, configure: Callable) -> None:
    from facegan.config import size_of

    assert size_of(text, "cache_limit") == size
    configure(out="-", cache_limit=text).check()


@pytest.mark.parametrize("text", ["", "many", "-1", "1e9", "16PiB", "1.GB", "٣"])
def test_what_is_no_size_is_refused(text: str, configure: Callable) -> None:
    with pytest.raises(FaceganError, match="`download_limit` is .*expected a size"):
        configure(out="-", download_limit=text).check()
