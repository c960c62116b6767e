"""Shards of an http(s) address, fetched once into the cache: any of their images is then as near as one of a local shard."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any, TypedDict
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, OpenerDirector, ProxyHandler, Request, build_opener

from tqdm import tqdm

from facegan.errors import FaceganError
from facegan.files import quoted, read_json, write_whole, written
from facegan.schema import checked

log = logging.getLogger("facegan.data")

LIMIT = 200 << 30  # bytes of all shards of a data set
_SPARE = 1 << 30  # bytes that stay free on the disk
_TIMEOUT = 30.0  # seconds without an answer
_PIECE = 1 << 20


class Remote(TypedDict):
    """What a server says of a file; other answers mean another content."""

    url: str
    size: int
    tag: str


class _OnlyHttp(HTTPRedirectHandler):
    """Follows a server to other web addresses alone; urllib would go to ftp too."""

    def redirect_request(self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Request | None:
        if urlsplit(newurl).scheme not in ("http", "https"):
            raise HTTPError(req.full_url, code, f"it leads to {quoted(newurl)}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> OpenerDirector:
    return build_opener(ProxyHandler(), _OnlyHttp())


def shown(url: str) -> str:
    """An address for a message: without what follows `?`, which may be a key."""
    return quoted(url.partition("?")[0], 200)


def fetched(urls: Sequence[str], folder: Path, limit: int | None = None, progress: bool = True) -> list[Path]:
    """Where the files are, after those that are not there have been fetched; `limit` bytes at most in all.

    Raises FaceganError for a server that does not answer or answers otherwise than with a file of known length, for files of more than
    the limit or the disk's room, and where the connection ends early.
    """
    limit = LIMIT if limit is None else limit
    for url in urls:
        parts = urlsplit(url)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise FaceganError(f"`data` is {shown(url)}: expected http://HOST/... or https://HOST/... without a user's name")
    opener = _opener()
    told = [_asked(opener, url, folder) for url in urls]
    paths = [_place(folder, remote["url"]) for remote in told]
    missing = [(remote, path) for remote, path in zip(told, paths, strict=True) if _kept(path) != remote or not _whole(path, remote)]
    total, size = sum(remote["size"] for remote in told), sum(remote["size"] for remote, _ in missing)
    if total > limit:
        raise FaceganError(
            f"`data` is {total / 2**30:.1f} GiB of shards, more than the {limit / 2**30:.1f} GiB of `download_limit`: raise that, or name "
            "fewer shards"
        )
    if not missing:
        return paths
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if size + _SPARE > free:
            raise FaceganError(
                f"{size / 2**30:.1f} GiB of shards are to be fetched, and {folder} has room for {max(0, free - _SPARE) / 2**30:.1f} GiB: "
                "make room, or set FACEGAN_CACHE to another folder"
            )
        log.info("fetching %d of %d shards, %.2f GiB, to %s", len(missing), len(urls), size / 2**30, folder)
        with tqdm(total=size, desc="fetching", unit="B", unit_scale=True, disable=None if progress else True) as bar:
            for remote, path in missing:
                _fetch(opener, remote, path, bar)
    except OSError as error:
        raise FaceganError(f"{folder}: shards cannot be written ({error}); make room, or set FACEGAN_CACHE to another folder") from error
    return paths


def _place(folder: Path, url: str) -> Path:
    name = PurePosixPath(urlsplit(url).path).name
    plain = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name).lstrip(".")[-80:] or "shard.tar"
    return folder / hashlib.sha256(url.encode()).hexdigest()[:16] / plain


def _kept(path: Path) -> Remote | None:
    try:
        return checked(read_json(path.with_name("source.json")), Remote, path)
    except FaceganError:
        return None


def _whole(path: Path, remote: Remote) -> bool:
    return path.is_file() and path.stat().st_size == remote["size"]


def _asked(opener: OpenerDirector, url: str, folder: Path) -> Remote:
    """What the server says of a file now; where it cannot be reached, what it said when the file was fetched."""
    try:
        with opener.open(Request(url, method="HEAD"), timeout=_TIMEOUT) as response:
            length, headers = response.headers.get("Content-Length", ""), response.headers
    except HTTPError as error:
        raise FaceganError(f"{shown(url)}: the server answers {error.code}, {quoted(str(error.reason))}; expected a shard") from None
    except (URLError, OSError, HTTPException, ValueError) as error:
        path = _place(folder, url)
        kept = _kept(path)
        if kept is not None and _whole(path, kept):
            log.warning("%s cannot be reached (%s): the copy that was fetched before is taken", shown(url), quoted(str(error)))
            return kept
        raise FaceganError(f"{shown(url)} cannot be reached ({quoted(str(error))}), and no copy of it was fetched before") from None
    if not length.isdecimal():
        raise FaceganError(f"{shown(url)}: the server does not say how long it is; expected a file")
    return {"url": url, "size": int(length), "tag": headers.get("ETag") or headers.get("Last-Modified") or ""}


def _fetch(opener: OpenerDirector, remote: Remote, path: Path, bar: Any) -> None:
    """Under its name once it is whole."""
    count = 0
    try:
        with opener.open(Request(remote["url"]), timeout=_TIMEOUT) as response, written(path) as aside, open(aside, "wb") as file:
            while piece := response.read(_PIECE):
                count += len(piece)
                if count > remote["size"]:
                    break
                file.write(piece)
                bar.update(len(piece))
            if count != remote["size"]:
                raise HTTPException(f"{count:,} bytes came, {remote['size']:,} were announced")
    except (URLError, HTTPException, TimeoutError, ConnectionError) as error:
        raise FaceganError(
            f"{shown(remote['url'])}: fetching it ended early ({quoted(str(error))}): the same command tries again"
        ) from None
    write_whole(path.with_name("source.json"), json.dumps(remote))
