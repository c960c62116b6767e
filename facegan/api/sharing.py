"""Networks passed on: to folders, and to and from huggingface.co."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facegan.checkpoints.run import RunFolder
from facegan.errors import FaceganError

HUB = "hub:"


def share_run(run: RunFolder, folder: Path) -> Path:
    """Copy a run's finished stages and records to a new or empty folder."""
    if folder.exists() and any(folder.iterdir()):
        raise FaceganError(f"{folder} is not empty: name a new folder")
    if not run.finished_stages():
        raise FaceganError(f"{run.root} has no finished stage to pass on: let the training end first")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("stages", "ids"):
        if (run.root / name).exists():
            shutil.copytree(run.root / name, folder / name)
    shutil.copy2(run.config_file, folder / run.config_file.name)  # last: with it the folder is a run
    return folder


def push_folder(save: Callable[[Path], Any], repo_id: str, private: bool, token: str | None) -> str:
    """Upload what `save` writes to a folder."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "network"
        save(folder)
        api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload a network of facegan")
    return f"https://huggingface.co/{repo_id}"


def fetched(source: str | Path) -> str | Path:
    """`hub:OWNER/NAME` or `hub:OWNER/NAME@REVISION` -> the folder that it was downloaded to; anything else as it is.

    Raises:
        FaceganError: the repository cannot be had.
    """
    if not str(source).startswith(HUB):
        return source
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo_id, _, revision = str(source).removeprefix(HUB).partition("@")
    try:
        return snapshot_download(repo_id, revision=revision or None)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise FaceganError(
            f"{source} cannot be downloaded ({reason[:200]}): expected hub:OWNER/NAME, public or with HF_TOKEN set"
        ) from None
