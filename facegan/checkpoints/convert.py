"""`facegan convert`: networks from one form into another."""

from __future__ import annotations

from pathlib import Path

from facegan.checkpoints import rosinality
from facegan.checkpoints.networks import open_networks, save_networks, slimmed
from facegan.checkpoints.pretrained import located
from facegan.checkpoints.restorers import is_restorer, open_restorer, save_restorer
from facegan.checkpoints.starts import is_start, open_start, save_start
from facegan.errors import FaceganError


def convert(source: str, out: str, slim: bool = False, force: bool = False) -> str:
    """Write a network to a folder of ours, or in rosinality's form where `out` ends in .pt, and say what it is.

    Of a run of Method A those that others of its trainings can start from, see `facegan.checkpoints.starts`.

    `force`: see `rosinality.write`.
    """
    if located(source).resolve() == Path(out).resolve():  # the file that is being read would be cut under its reader
        raise FaceganError(f"{out} is what is to be converted: name another folder for the result")
    if is_restorer(source):
        if Path(out).suffix == ".pt":
            raise FaceganError(f"{out}: that format has no restorers; name a folder")
        weights = open_restorer(source)
        save_restorer(weights, out, half=slim)
        return f"{out}: restorer, {weights.config.resolution} px{note(weights.may_have_seen_joint_faces)}"
    if is_start(source):
        if Path(out).suffix == ".pt":
            raise FaceganError(f"{out}: that format has no networks of Method A; name a folder")
        start = open_start(source)
        save_start(start, out, half=slim)
        return f"{out}: start of Method A, {start.describe()}{note(start.may_have_seen_joint_faces)}"
    networks = slimmed(open_networks(source)) if slim else open_networks(source)
    if Path(out).suffix == ".pt":
        if slim:
            raise FaceganError(f"`slim` and {out}: that format is in full precision; name a folder, or omit `slim`.")
        rosinality.write(Path(out), networks.config, networks.states, force)
    else:
        save_networks(networks, out)
    config = networks.config
    return f"{out}: StyleGAN2, {config.resolution} px, {', '.join(networks.states)}{note(networks.may_have_seen_joint_faces)}"


def note(seen: bool) -> str:
    return "; may have seen joint faces in its training" if seen else ""
