"""WebDataset shards: what is read of them, from a disk and from a server, and what `facegan data pack` writes."""

from __future__ import annotations

import io
import json
import logging
import os
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facegan import cli
from facegan.data import download, shards
from facegan.data.faces import FaceData, open_faces
from facegan.data.limits import Limits
from facegan.data.loaders import Catalog, open_catalog
from facegan.errors import FaceganError

pytest.importorskip("braceexpand", reason="needs facegan[webdataset]")


def picture(value: int, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 2 * value, 7)).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, files: dict[str, bytes | str], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files.items():
            member, data = tarfile.TarInfo(name), content.encode() if isinstance(content, str) else content
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACEGAN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def three(tmp_path: Path, cache: Path) -> Path:
    """Shards of four samples each, `people/N.png` and `.json`; N is even: a; N divides by 3: b."""
    (tmp_path / "shards").mkdir()
    for shard in range(3):
        files: dict[str, bytes | str] = {}
        for i in range(4 * shard, 4 * shard + 4):
            files[f"people/{i:02d}.png"] = picture(i)
            files[f"people/{i:02d}.json"] = json.dumps({"a": i % 2 == 0, "b": int(i % 3 == 0), "identity": f"p{i // 2}", "note": "words"})
        write(tmp_path / f"shards/faces-{shard:03d}.tar", files)
    return tmp_path / "shards"


def opened(data: str | Path, **limits: int | bool) -> FaceData:
    return open_faces(data, 8, progress=False, limits=Limits(**{"decoders": 1, **limits}))


def catalog(data: str | Path) -> Catalog:
    return open_catalog(data, progress=False)


def checked(faces: FaceData) -> None:
    """Against how `three` was written."""
    order = [int(name[7:9]) for name in faces.table.ids]
    assert sorted(order) == list(range(12)) and faces.identities == tuple(f"p{i // 2}" for i in order)
    assert set(faces.table.columns) == {"a", "b"}
    np.testing.assert_array_equal(faces.table.column("a"), [i % 2 == 0 for i in order])
    np.testing.assert_array_equal(faces.table.column("b"), [i % 3 == 0 for i in order])
    np.testing.assert_array_equal(faces.images[np.arange(12)][:, 1, 3, 5], [2 * i for i in order])


@pytest.mark.parametrize("form", ["folder", "pattern", "list"])
@pytest.mark.parametrize("stream", [False, True])
def test_labels_travel_with_their_shards(three: Path, form: str, stream: bool) -> None:
    data = {"folder": str(three), "pattern": f"{three}/faces-{{000..002}}.tar", "list": f"{three}/faces-{{002,000,001}}.tar"}[form]
    checked(opened(data, stream=stream))
    assert catalog(data).layout == "WebDataset" and any("note" in note for note in catalog(data).notes)


def test_one_shard_and_headers_of_all_kinds(tmp_path: Path, cache: Path) -> None:
    long = "a folder with a long name/" * 12 + "x"
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        name = "x" if form == tarfile.USTAR_FORMAT else long
        path = write(
            tmp_path / f"{form}.tar", {f"{name}.jpg": picture(9, "JPEG"), f"{name}.cls": "1\n", "./y.jpg": picture(5), "./y.cls": "0"}, form
        )
        found = catalog(path)
        assert set(found.table.ids) == {f"{name}.jpg", "y.jpg"} and found.table.columns == ("label0", "label1")
        assert dict(zip(found.table.ids, found.table.values.tolist(), strict=True)) == {f"{name}.jpg": [0, 1], "y.jpg": [1, 0]}


def test_classes_by_name_nested_attributes_and_samples_without_any(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path / "x.tar", {
        "0.png": picture(0), "0.cls": "bald", "1.png": picture(1), "1.cls": "beard", "2.png": picture(2),
        "2.json": json.dumps({"attributes": {"old": 0.5}, "file_name": "two.png"}), "3.png": picture(3), "3.seg.png": picture(4),
        "3.txt": "caption",
    })  # fmt: skip
    found = catalog(path)
    assert found.table.ids == ("0.png", "1.png", "two.png", "3.png")
    for column, values in {"bald": [1, 0, np.nan, np.nan], "beard": [0, 1, np.nan, np.nan], "old": [np.nan, np.nan, 0.5, np.nan]}.items():
        np.testing.assert_array_equal(found.table.column(column), np.array(values, np.float32))
    assert any("3.seg.png" in note for note in found.notes)


def test_archives_of_other_layouts_are_read_as_those(tmp_path: Path, cache: Path) -> None:
    rows = "".join(f"{i}.png {1 if i % 2 else -1}\n" for i in range(4))
    files: dict[str, bytes | str] = {f"img_align_celeba/{i}.png": picture(i) for i in range(4)}
    assert catalog(write(tmp_path / "c.tar", files | {"list_attr_celeba.txt": f"a\n{rows}"})).layout == "CelebA"
    assert catalog(write(tmp_path / "d.tar", {f"{'ab'[i % 2]}/{i}.png": picture(i) for i in range(4)})).layout == "class folders"


def test_equal_names_in_two_shards_are_told_apart_by_the_shard(tmp_path: Path, cache: Path) -> None:
    for shard in "uv":
        write(tmp_path / f"{shard}.tar", {f"{i}.png": picture(i) for i in range(2)} | {f"{i}.cls": "yes" for i in range(2)})
    assert catalog(f"{tmp_path}/{{u,v}}.tar").table.ids == ("u/0.png", "u/1.png", "v/0.png", "v/1.png")
    with pytest.raises(FaceganError, match="is there twice"):
        catalog(f"{tmp_path}/{{u,u}}.tar")
    with pytest.raises(FaceganError, match="0.png.* is there twice"):
        catalog(write_twice(tmp_path / "w.tar"))


def write_twice(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("0.png"))
    return path


def test_an_index_is_kept_until_its_shard_changes(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, indexed, made = catalog(three), shards.indexed, []
    monkeypatch.setattr(shards, "indexed", lambda path: made.append(path.name) or indexed(path))
    assert catalog(three).members == first.members and not made
    os.utime(three / "faces-001.tar", ns=(5, 5))
    assert catalog(three).members == first.members and made == ["faces-001.tar"]
    for kept in (three.parent / "cache/shards").iterdir():
        kept.write_text("{}")  # damaged
    assert catalog(three).members == first.members and len(made) == 4


def test_only_files_count(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as archive:
        for name, content in {
            "0.png": picture(1),
            "0.cls": b"a",
            "/../1.png": picture(2),
            "1.cls": b"b",
            ".hidden/2.png": picture(3),
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
            member = tarfile.TarInfo(f"{kind!r}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
    assert catalog(path).table.ids == ("0.png", "1.png")


@pytest.mark.parametrize("cut", [0, 100, 1024, 1500, 2048, 2500, 5000])
def test_a_shard_that_was_cut_off_is_named(three: Path, cut: int) -> None:
    path = three / "faces-001.tar"
    content = path.read_bytes()
    assert len(content) > 5000
    path.write_bytes(content[:cut])
    with pytest.raises(FaceganError, match="faces-001.tar: expected a shard, a .tar archive, but it is damaged or none"):
        catalog(three)


def test_damaged_and_hostile_shards_are_refused_in_a_sentence(tmp_path: Path, cache: Path) -> None:
    cases = {"expected a shard, a .tar archive": b"\0" * 300 + b"no tar" * 500, "damaged or none": huge_header()}
    for message, content in cases.items():
        (tmp_path / "x.tar").write_bytes(content)
        with pytest.raises(FaceganError, match=message):
            catalog(tmp_path / "x.tar")
    for name, content, message in (
        ("0.json", "[1]", "expected an object of labels"), ("0.json", "{", "0.json is not valid JSON"),
        ("0.json", " " * 70_000, "expected at most 65,536 of labels"), ("0.txt", "no label", "nothing tells the attributes"),
        ("0.json", "{}", "none of 1 samples has labels"),
    ):  # fmt: skip
        with pytest.raises(FaceganError, match=message):
            catalog(write(tmp_path / "y.tar", {"0.png": picture(1), name: content}))


def huge_header() -> bytes:
    """A pax header that claims a gigabyte, which a sparse file would have."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 30
    return member.tobuf(tarfile.USTAR_FORMAT) + b"\0" * 4096


@pytest.mark.parametrize(("data", "message"), [
    ("pipe:cat /etc/passwd", "expected a path, or the http"), ("s3://bucket/x.tar", "expected a path, or the http"),
    ("file:///etc/x.tar", "expected a path, or the http"), ("ftp://host/x.tar", "expected a path, or the http"),
    ("/nowhere/x.tar.gz", "expected shards that end in .tar; a compressed one"), ("/nowhere/x.tar", "cannot be read: No such file"),
    ("/nowhere/x-{0..3}.tar", "x-0.tar cannot be read"), ("/nowhere/x-{0..999999}.tar", "at most 100,000 shards"),
    ("http://user:key@127.0.0.1/x.tar", "without a user's name"), ("http:///x.tar", "expected http://HOST"),
    ("http://127.0.0.1/x.tgz?key=1", "expected shards that end in .tar"),
])  # fmt: skip
def test_what_means_no_shards_is_refused(cache: Path, data: str, message: str) -> None:
    with pytest.raises(FaceganError, match=message):
        catalog(data)


# --- from a server


class Server(BaseHTTPRequestHandler):
    """Serves `folder`; notes what was asked; `broken` cuts answers short, `tag` is every file's."""

    folder: Path
    asked: list[str]
    tag = '"1"'
    broken = False

    def _answer(self, body: bool) -> None:
        self.asked.append(f"{self.command} {self.path}")
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", {"/moved.tar": "/faces-000.tar"}.get(self.path, "file:///etc/passwd"))
            self.end_headers()
            return
        path = self.folder / self.path.lstrip("/").partition("?")[0]
        if not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", self.tag)
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if self.broken else content)

    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(three: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, type[Server]]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = type("Handler", (Server,), {"folder": three, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=partial(server.serve_forever, 0.02))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("stream", [False, True])
def test_shards_of_a_server_are_fetched_once(server: tuple[str, type[Server]], three: Path, stream: bool) -> None:
    address, handler = server
    checked(opened(f"{address}/faces-{{000..002}}.tar", stream=stream))
    names = [f"/faces-{i:03d}.tar" for i in range(3)]
    assert sorted(handler.asked) == sorted([f"HEAD {name}" for name in names] + [f"GET {name}" for name in names])
    handler.asked.clear()
    checked(opened(f"{address}/faces-{{000..002}}.tar", stream=stream))
    assert handler.asked == [f"HEAD {name}" for name in names]
    assert opened(f"{address}/faces-{{000..002}}.tar", stream=True).fingerprint == opened(three, stream=True).fingerprint
    handler.tag = '"2"'  # they have changed
    handler.asked.clear()
    catalog(f"{address}/faces-000.tar")
    assert handler.asked == ["HEAD /faces-000.tar", "GET /faces-000.tar"]


def test_without_the_server_what_was_fetched_is_taken(
    server: tuple[str, type[Server]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    address, _ = server
    before = catalog(f"{address}/faces-000.tar").members
    unreached = address.rpartition(":")[0] + ":1"
    with pytest.raises(FaceganError, match="cannot be reached .*and no copy"):
        catalog(f"{unreached}/faces-000.tar")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setattr(download, "_opener", lambda: download.build_opener(download.ProxyHandler({"http": "http://127.0.0.1:1"})))
    with caplog.at_level(logging.WARNING, "facegan.data"):
        assert catalog(f"{address}/faces-000.tar?key=secret".partition("?")[0]).members == before
    assert "the copy that was fetched before is taken" in caplog.text


def test_what_a_server_may_not_do(server: tuple[str, type[Server]], cache: Path) -> None:
    address, handler = server
    assert len(catalog(f"{address}/moved.tar").members) == 4
    for name, message in (("moved-away.tar", "answers 302|cannot be reached"), ("none.tar?key=secret", "answers 404")):
        with pytest.raises(FaceganError, match=message) as refused:
            catalog(f"{address}/{name}")
        assert "secret" not in str(refused.value)
    with pytest.raises(FaceganError, match="more than the 0.0 GiB of `download_limit`"):
        opened(f"{address}/faces-{{000..002}}.tar", download=1000)
    handler.broken = True
    with pytest.raises(FaceganError, match="ended early .*the same command tries again"):
        catalog(f"{address}/faces-001.tar")
    assert not [path for path in (cache / "shards").rglob("*001*") if path.is_file()]
    handler.broken = False
    assert len(catalog(f"{address}/faces-001.tar").members) == 4


# --- written


def test_packed_shards_are_the_same_data(faces: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("webdataset")
    assert cli.main(["data", "pack", str(faces), "--out", str(tmp_path / "packed")]) == 0
    pattern = capsys.readouterr().out.splitlines()[-1]
    before, after = opened(faces, stream=True), opened(pattern, stream=True)
    assert before.fingerprint == after.fingerprint and before.table.ids == after.table.ids
    np.testing.assert_array_equal(after.images[::7], before.images[::7])
    again = tmp_path / "again"
    assert cli.main(["data", "pack", str(tmp_path / "packed"), "--out", str(again)]) == 0
    assert [path.read_bytes() for path in again.iterdir()] == [path.read_bytes() for path in (tmp_path / "packed").iterdir()]


def test_packing_leaves_out_what_cannot_be_decoded(tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("webdataset")
    root = tmp_path / "data"
    for i in range(40):
        (root / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(i).integers(0, 256, (200, 200, 3), np.uint8)
        Image.fromarray(noise).save(root / "ab"[i % 2] / f"x.{i}.png")
    bad = root / "a/x.6.png"
    bad.write_bytes(bad.read_bytes()[:5000])
    assert cli.main(["data", "pack", str(root), "--out", str(tmp_path / "%d out"), "--shard-size", "1MiB"]) == 0
    told = capsys.readouterr().out
    assert "39 images in " in told and "left out a/x.6.png" in told and "OSError" in told
    packed = catalog(told.splitlines()[-1])
    assert set(packed.table.ids) == {f"{'ab'[i % 2]}/x.{i}.png" for i in range(40) if i != 6}
    assert len(list((tmp_path / "%d out").iterdir())) > 2
    capsys.readouterr()
    for arguments, message in (
        ([str(root), "--out", str(root)], "something already"), ([str(root), "--out", "x", "--shard-size", "3"], "1MiB or more"),
        ([str(root), "--out", "x", "--shard-size", "many"], "expected a size"), (["synthetic", "--out", "x"], "data synth"),
    ):  # fmt: skip
        assert cli.main(["data", "pack", *arguments]) == 2
        assert message in capsys.readouterr().err
