"""Builds the compiled libraries, ahead of time and never at import: `python csrc/build_native.py`, or setuptools' commands.

`build(target)` is the whole of it: for each part a recipe (build_parameters.py) becomes a ninja file, the library goes to
`target`, and `_build_info.json` beside it records how it was made, or for what reason it was not. Under FACEGAN_BUILD=auto
an obstacle is told in one box and recorded; under `cpu` and `cuda` it ends the build.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import ClassVar

from build_parameters import (
    PARTS,
    ROOT,
    TARGET,
    WINDOWS,
    Recipe,
    Unbuildable,
    Unwanted,
    find_ninja,
    find_torch,
    library_file,
    recipe,
    requested,
)
from setuptools import Command
from setuptools.command.bdist_wheel import bdist_wheel

OBJECTS = ROOT / "build" / "native"
IN_PLACE = Path("kernels", "facegan_kernels", "lib")  # in the source tree; in a wheel the same without kernels/
INFO = "_build_info.json"
TAIL = 25  # lines shown of a failed compilation


def build(target: Path) -> list[str]:
    """Builds what FACEGAN_BUILD asks for into `target`; the names of the files there."""
    choice = requested()
    made: dict[str, Recipe] = {}
    obstacles: dict[str, Unbuildable] = {}
    for part in PARTS:
        try:
            made[part] = make(part, choice, made)
        except Unbuildable as obstacle:
            obstacles[part] = obstacle
    missed = {part: obstacle for part, obstacle in obstacles.items() if not isinstance(obstacle, Unwanted)}
    if missed and choice != "auto":
        raise SystemExit(f"FACEGAN_BUILD={choice} cannot be done.\n{box(missed)}")
    if missed:
        print(box(missed), file=sys.stderr)
    return install(target, choice, made, obstacles)


def make(part: str, choice: str, made: dict[str, Recipe]) -> Recipe:
    """Compiles and links the library of one part; raises Unbuildable with the reason where that cannot be."""
    if choice == "none" or (choice == "cpu" and part == "cuda"):
        raise Unwanted(f"it was installed with FACEGAN_BUILD={choice}", "install again without it")
    if part == "cuda" and "cpu" not in made:  # which defines the operators
        raise Unwanted("it needs the CPU library, which was not built", "mend that first")
    wanted = recipe(part)
    OBJECTS.mkdir(parents=True, exist_ok=True)
    file = OBJECTS / f"{part}.ninja"
    file.write_text(ninja_file(wanted))
    jobs = [f"-j{os.environ['MAX_JOBS']}"] if os.environ.get("MAX_JOBS") else []
    command = [find_ninja(), "-f", file.name, *jobs]
    ran = subprocess.run(command, cwd=OBJECTS, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode != 0:
        first = re.search(r"\berror\b.*|FAILED.*", ran.stdout)
        raise Unbuildable(f"it does not compile ({first[0] if first else 'ninja failed'})", "please report this", log=ran.stdout)
    print(ran.stdout)  # with the compiler's warnings
    return wanted


def ninja_file(wanted: Recipe) -> str:
    """One rule to compile, one to link; ninja keeps the headers of each source, and commands that change rebuild."""
    gcc_like = not WINDOWS or wanted.part == "cuda"
    inputs, outputs = ("-MD -MF $out.d -c $in -o $out", "-o $out") if gcc_like else ("/showIncludes /c $in /Fo$out", "/Fe$out")
    lines = [
        f"builddir = {wanted.part}",  # ninja's own notes of the two builds stay apart
        "rule compile",
        f"  command = {_command(wanted.compile)} {inputs}",
        *(["  depfile = $out.d", "  deps = gcc"] if gcc_like else ["  deps = msvc"]),
        "  description = $out",
        "rule link",
        "  description = $out",
        f"  command = {_command(wanted.link)} $in {_command(wanted.libraries)} {outputs}",
    ]
    objects = []
    for source in wanted.sources:
        objects.append(f"{wanted.part}/{source.stem}.o")
        lines.append(f"build {objects[-1]}: compile {_path(source)}")
    if wanted.stand_in:
        name = f"lib{wanted.stand_in}.so"
        lines += ["rule stand_in", f"  command = {_command(wanted.link)} -x c++ /dev/null -Xlinker -soname -Xlinker {name} -o $out"]
        lines += [f"build {name}: stand_in"]
    after = f" | lib{wanted.stand_in}.so" if wanted.stand_in else ""
    return "\n".join([*lines, f"build {library_file(wanted.part)}: link {' '.join(objects)}{after}", ""])


def _command(words: tuple[str, ...]) -> str:
    return (subprocess.list2cmdline(words) if WINDOWS else shlex.join(words)).replace("$", "$$")


def _path(path: Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def install(target: Path, choice: str, made: dict[str, Recipe], obstacles: dict[str, Unbuildable]) -> list[str]:
    """Puts the libraries and the record in place, whole or not at all, and removes those of an earlier build."""
    target.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        file = target / library_file(part)
        if part in made:
            shutil.copy(OBJECTS / file.name, target / f"{file.name}.new")
            os.replace(target / f"{file.name}.new", file)  # a process that has the old one open keeps it
        else:
            file.unlink(missing_ok=True)
    info = {
        "requested": choice,
        "commit": commit(),
        "torch": find_torch().version if made else None,
        "target": "{}.{}".format(*TARGET),
        "libraries": {part: {"file": library_file(part), **wanted.record} for part, wanted in made.items()},
        "reasons": {part: str(obstacle) for part, obstacle in obstacles.items()},
    }
    (target / INFO).write_text(json.dumps(info, indent=2) + "\n")
    return [*map(library_file, made), INFO]


def commit() -> str | None:
    """The commit that was built, "-dirty" after it where files differ from it; None outside of a clone."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or None


def box(obstacles: dict[str, Unbuildable]) -> str:
    """What is not built, why, and what to do: the one message of a build that went without."""
    lines = ["facegan works without its compiled kernels, in plain PyTorch or Triton, and this build goes without:"]
    for part, obstacle in obstacles.items():
        lines += ["", *textwrap.wrap(f"{part.upper()} library: {obstacle}.", 96)]
        lines += [line[:96] for line in obstacle.log.splitlines()[-TAIL:]]
    width = max(map(len, lines))
    edge = "+" + "-" * (width + 2) + "+"
    return "\n".join([edge, *(f"| {line:{width}} |" for line in lines), edge])


class BuildNative(Command):
    """setuptools' build step for the libraries: into the wheel, or in place for an editable install."""

    description = "compile the CPU and CUDA libraries"
    user_options: ClassVar[list[tuple[str, str, str]]] = []

    def initialize_options(self) -> None:
        self.build_lib = ""
        self.editable_mode = False
        self.files: list[str] = []

    def finalize_options(self) -> None:
        self.build_lib = self.get_finalized_command("build").build_lib

    @property
    def wheel_folder(self) -> Path:
        return Path(self.build_lib, *IN_PLACE.parts[1:])

    def run(self) -> None:
        self.files = build(ROOT / IN_PLACE if self.editable_mode else self.wheel_folder)

    def get_source_files(self) -> list[str]:
        return []  # MANIFEST.in has the whole of csrc/

    def get_outputs(self) -> list[str]:
        return [str(self.wheel_folder / name) for name in self.files]

    def get_output_mapping(self) -> dict[str, str]:
        return {str(self.wheel_folder / name): str(IN_PLACE / name) for name in self.files} if self.editable_mode else {}


class Wheel(bdist_wheel):
    """Tagged py3-none-<platform> when a library is inside: those are C interfaces, the same for every Python."""

    def get_tag(self) -> tuple[str, str, str]:
        native = self.get_finalized_command("build_native")
        if native.files in ([], [INFO]):
            return super().get_tag()
        self.root_is_pure = False
        return ("py3", "none", super().get_tag()[2])


if __name__ == "__main__":
    print(*build(ROOT / IN_PLACE), f"-> {IN_PLACE}")
