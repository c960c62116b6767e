"""The command line: a user's mistake is one sentence and exit status 2, and costs nothing that was there before."""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest
import torch

from facegan import cli
from facegan.checkpoints import checkpoint
from facegan.checkpoints.run import RunFolder
from facegan.cli.messages import fields_of, with_flags
from facegan.cli.parser import add_arguments, finite
from facegan.errors import FaceganError
from facegan.training import loop

SHORT = dict(phase1_epochs=4, phase2_epochs=2, epochs=2, snapshot_every=2)


@pytest.fixture
def words(configure: Callable, tmp_path: Path) -> Callable[..., list[str]]:
    """The command `facegan train` for the smallest run, with some flags changed; None leaves a flag away."""

    def words(**flags: object) -> list[str]:
        config = configure(out=str(tmp_path / "run"), **{**SHORT, **flags})
        plain = {name: getattr(config, name) for name in {"out", "data", "recipe", "resolution", "width", "batch", "device",
                 "minimum_images", "images_per_epoch", "harvest_every", "log_every", *SHORT, *flags}}  # fmt: skip
        switch = {True: "--{}", False: "--no-{}"}
        text = [("train",)]
        for name, value in plain.items():
            flag = name.replace("_", "-")
            text.append((switch[value].format(flag),) if isinstance(value, bool) else (f"--{flag}={value}",))
        return [word for part in text for word in part]

    return words


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture) -> Callable[[list[str]], str]:
    """Runs a command that must fail; returns the one sentence that it said."""

    def refusal(arguments: list[str]) -> str:
        capsys.readouterr()
        assert cli.main(arguments) == 2
        errors = capsys.readouterr().err
        assert "Traceback" not in errors
        said = [line for line in errors.splitlines() if line.startswith("facegan: ")]
        assert len(said) == 1, errors
        return errors[errors.index("facegan: ") :]

    return refusal


def help_of(words: Sequence[str], capsys: pytest.CaptureFixture) -> str:
    """What --help prints, on one line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "--help"])
    assert left.value.code == 0
    return " ".join(capsys.readouterr().out.split())


def test_help_names_every_command_and_family(capsys: pytest.CaptureFixture) -> None:
    text = help_of([], capsys)
    assert all(f" {name} {sentence} " in f"{text} " for name, (_, sentence) in cli.COMMANDS.items() if " " not in name)
    for family, sentence in cli.FAMILIES.items():
        assert f" {family} {sentence} " in f"{text} "
        below = help_of([family], capsys)
        members = {name: text for name, (_, text) in cli.COMMANDS.items() if name.startswith(f"{family} ")}
        assert len(members) > 1 and all(f" {name.split()[1]} {text} " in f"{below} " for name, text in members.items())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_every_command_has_all_its_options(name: str, capsys: pytest.CaptureFixture) -> None:
    words = name.split()
    text = help_of(words, capsys)
    command = import_module(cli.COMMANDS[name][0]).COMMANDS[name]
    options = [item for each in command.options_for(words) for item in fields(each)]
    assert options and not [item.name for item in options if f"`{item.name}`" in text]
    for item in options:
        if "place" in item.metadata:
            assert item.metadata["place"] in text
        else:
            flag = f"--{item.name.rstrip('_').replace('_', '-')} "
            assert flag in text and (f"[{flag}" in text) is not item.metadata.get("required", False), item.name


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("train", "(default: regional; thesis: full; plain: full; conditional: full)"),
        ("train", "--epochs INT"),
        ("train", "--device TEXT"),
        ("train --method b", "--kimg FLOAT"),
        ("generate", "one seed, one face (default: 0-15)"),
        ("mix", "a weight per layer, e.g. 4:0.5,5-7:1, instead of --layers"),
        ("project", "instead of --target: --attribute NAME"),
        ("walk", "from each style to the next (default: 30)"),
        ("walk", "frames a second (default: 24)"),
        ("project", "steps of the optimiser (default: 1000)"),
        ("ablate", "seeds of every row, counted from --seed (default: 3)"),
    ],
)
def test_help_shows_the_defaults_in_force(words: str, shown: str, capsys: pytest.CaptureFixture) -> None:
    assert shown in help_of(words.split(), capsys)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("`out` is missing", "--out is missing"),
        ("`out=x y` or `r1_gamma=5`, `r1_gamma`", "--out x y or --r1-gamma 5, --r1-gamma"),
        ("`from_` and `from_run`", "--from and `from_run`"),
        ("`seeds` of `facegan train --out`, `Out`, `out-2`, out=3", "`seeds` of `facegan train --out`, `Out`, `out-2`, out=3"),
    ],
)
def test_fields_in_backticks_are_written_as_flags(text: str, said: str) -> None:
    assert with_flags(text, {"out", "r1_gamma", "from_"}) == said


def test_the_fields_are_those_of_the_command_that_is_typed() -> None:
    assert {"rows", "noise_mode", "out"} <= fields_of(cli.parser(["mix"]))
    assert {"sources", "out"} <= fields_of(cli.parser(["styles", "average"])) and "rows" not in fields_of(cli.parser(["train"]))


def test_debugging_keeps_the_traceback(refusal: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = ["data", "inspect", str(tmp_path / "nowhere")]
    assert "no such folder or file" in refusal(line)
    monkeypatch.setenv("FACEGAN_DEBUG", "1")
    with pytest.raises(FaceganError, match="no such folder or file"):
        cli.main(line)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EEXIST])
def test_what_cannot_be_written_asks_for_room(code: int, refusal: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), "faces/a.png")

    monkeypatch.setattr("facegan.data.synthetic.write_celeba_layout", full)
    said = refusal(["data", "synth", "--out", "faces"])
    assert said == f"facegan: faces/a.png: {os.strerror(code)}; make room, or name a place where you may write\n"


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "gone"), ConnectionResetError(errno.ECONNRESET, "reset"), OSError("odd")]
)
def test_any_other_error_of_the_system_keeps_its_traceback(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("facegan.data.synthetic.write_celeba_layout", broken)
    with pytest.raises(OSError) as raised:
        cli.main(["data", "synth", "--out", "faces"])
    assert raised.value is error


HEAVY = ("torch", "numpy", "accelerate", "PIL", "safetensors", "tqdm")
ALL_HELP = """
import argparse, contextlib, io, json, sys
import facegan
from facegan import cli

def names(parser):
    "The words of every command below a parser."
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield [name]
                yield from ([name, *more] for more in names(below))

methods = [[name, "--method", method] for name in ("train", "ablate") for method in ("b", "restore")]
for words in [[], *names(cli.parser()), *methods]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        cli.main([*words, "--help"])
    loaded = [name for name in json.loads(sys.argv[1]) if name in sys.modules]
    print(json.dumps([words, "usage: facegan" in said.getvalue(), loaded]))
"""


def test_help_of_every_command_imports_nothing_that_computes() -> None:
    """So that it is there at once: to import PyTorch takes seconds."""
    lines = subprocess.check_output([sys.executable, "-c", ALL_HELP, json.dumps(HEAVY)], text=True).splitlines()
    found = [json.loads(line) for line in lines]
    assert [] in [words for words, *_ in found] and ["data", "synth"] in [words for words, *_ in found] and len(found) > 18
    assert [line for line in found if line[1:] != [True, []]] == []


REFUSED = [
    "train --data /no/faces --out x", "train --method restore --prior no/prior --out x", "train --resolution 33 --out x", "train",
    "tune --resolution 33", "generate no/run --out x", "evaluate no/run", "restore no.png --out x", "convert no.pkl x",
    "mix --rows no/styles --cols 1 --out x", "mix-search --rows 1 --cols no.npz --out x", "walk --rows no/styles --out x.gif",
    "project --target no.png --out x", "edit no.png --add beard --out x", "styles average no.npz --out x.npz",
    "styles collect no.npz --out x.npz", "styles direction --positive no.npz --out x.npz", "styles list no/folder",
    "data align no/photos --out x", "data inspect no/faces",
    "data label no/faces", "data synth --num -1 --out x", "app no/run",
]  # fmt: skip
ALL_REFUSED = """
import contextlib, io, json, sys
from facegan import cli
for text in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            status = cli.main(text.split())
        except SystemExit as end:
            status = end.code
    print(json.dumps([text, status, said.getvalue(), [name for name in ("torch", "accelerate", "gradio") if name in sys.modules]]))
"""


def test_what_is_missing_or_wrong_is_refused_before_pytorch_is_imported() -> None:
    lines = subprocess.check_output([sys.executable, "-c", ALL_REFUSED, json.dumps(REFUSED)], text=True).splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == len(REFUSED)
    assert [line for line in found if line[1] != 2 or not line[2].startswith("facegan") or line[3]] == []


def test_the_first_help_imports_nothing_that_computes() -> None:
    line = [sys.executable, "-X", "importtime", "-m", "facegan.cli", "--help"]
    ended = subprocess.run(line, capture_output=True, text=True, check=True)
    imported = {row.rpartition("|")[2].strip().partition(".")[0] for row in ended.stderr.splitlines()}
    assert "argparse" in imported and imported.isdisjoint(HEAVY) and ended.stdout.startswith("usage: facegan")


def test_every_command_that_computes_has_the_same_device_flag() -> None:
    required = {
        "generate": "RUN --out x", "evaluate": "RUN", "restore": "--out x", "edit": "PHOTO", "walk": "--rows 0-1 --out x",
        "mix": "--rows 0 --cols 1 --out x", "mix-search": "--rows 0 --cols 1 --out x",
    }  # fmt: skip
    for command in ("train", "tune", "ablate", "demo", "project", *required):
        line = [command, *required.get(command, "").split()]
        given = vars(cli.parser(line).parse_args([*line, "--device", "cuda:3"]))
        assert given["device"] == "cuda:3"
        assert vars(cli.parser(line).parse_args(line)).get("device", "auto") == "auto"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "the following arguments are required: COMMAND"),
        ("styles", "the following arguments are required: COMMAND"),
        ("train --no-such-flag", "unrecognized arguments: --no-such-flag"),
        ("train --batch many", "argument --batch: 'many' is no whole number"),
        ("train --merge blend", "argument --merge: invalid choice: 'blend'"),
        ("train --width nan", "argument --width: 'nan' is no number"),
        ("mix --mode sum", "argument --mode: invalid choice: 'sum'"),
    ],
)
def test_words_that_do_not_parse(line: str, said: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(line.split())
    error = capsys.readouterr().err
    assert left.value.code == 2 and error.startswith("usage: facegan") and said in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (["--data=/no/such/place"], "no such folder or file"),
        (["--attributes=bald,wings"], "'wings' is neither a built-in nor a column"),
        (["--attributes=bald,x=Bald &/!Bald"], "Bald &"),
        (["--attributes=bald"], "expected at least two"),
        (["--attributes=bald,bald"], "more than once"),
        (["--minimum-images=5000"], "at least 5000 are needed"),
        (["--d-loss-weights=1,2"], "--d-loss-weights is '1,2': expected 3 numbers, got 2"),
        (["--g-loss-weights=a,b"], "--g-loss-weights is 'a,b': expected numbers"),
        (["--z-shape=4,x"], "--z-shape is '4,x': expected numbers"),
        (["--resolution=20"], "--resolution is 20"), (["--d-loss-weights=1,-1,1"], "--d-loss-weights"),
        (["--batch=12"], "--batch is 12: expected a multiple of 8"), (["--out="], "--out is missing"), (["--width=-1"], "--width is -1"),
        (["--phase1-from=/no/such/run"], "is not a run"),
        (["--discriminators=regional", "--masks=halves", "--attributes=bald,Young", "--merge=none"], "knows no region"),
    ],
)  # fmt: skip
def test_mistakes_in_flags(extra: list[str], said: str, words: Callable, refusal: Callable) -> None:
    assert said in refusal([*words(), *extra])


def test_data_without_faces(words: Callable, refusal: Callable, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "contains no image" in refusal([*words(), f"--data={tmp_path / 'empty'}"])
    (tmp_path / "text.zip").write_text("no archive")
    assert "no readable zip" in refusal([*words(), f"--data={tmp_path / 'text.zip'}"])
    assert not (tmp_path / "run/config.json").exists()


def test_an_out_folder_of_another_configuration_says_what_differs(words: Callable, refusal: Callable, tmp_path: Path) -> None:
    assert cli.main(words()) == 0
    before = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    said = refusal(words(width=0.5, epochs=3))
    assert "--width 0.25 there, 0.5 here" in said and "--epochs 2 there, 3 here" in said and "--batch" not in said
    assert before == {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert cli.main(words(keep_checkpoints=5)) == 0  # what changes nothing that is computed is free
    record = json.loads((tmp_path / "run/config.json").read_text())
    (tmp_path / "run/config.json").write_text(json.dumps({**record, "data_fingerprint": "other"}))
    assert "the images or labels under --data changed" in refusal(words())


@pytest.mark.parametrize("content", [None, "{", "[]", '{"model_type": "bert"}'])
def test_an_out_folder_that_is_no_run(content: str | None, words: Callable, refusal: Callable, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    file = tmp_path / "run" / ("thesis.tex" if content is None else "config.json")
    file.write_text(content or "years of work")
    said = refusal(words())
    assert ("holds other files" if content is None else "is not a run") in said
    assert [path.name for path in (tmp_path / "run").iterdir()] == [file.name] and file.read_text() == (content or "years of work")


def test_an_out_folder_below_a_file(words: Callable, refusal: Callable, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be written" in refusal([*words(), f"--out={tmp_path / 'file/run'}"])


def failing(error: OSError, after: int, function: Callable) -> Callable:
    calls = 0

    def method(*arguments: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls > after:
            raise error
        return function(*arguments, **options)

    return method


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), PermissionError(errno.EROFS, "Read-only file system")])
@pytest.mark.parametrize("what", ["checkpoint", "metrics", "picture", "ids"])
def test_a_full_or_readonly_disk_costs_nothing_saved_before(
    what: str, error: OSError, words: Callable, refusal: Callable, tmp_path: Path, train: Callable
) -> None:
    owner, name, after = {
        "checkpoint": (checkpoint, "save_file", 1), "metrics": (RunFolder, "append_metrics", 1),
        "picture": (loop, "save_png", 1), "ids": (RunFolder, "write_ids", 1),
    }[what]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, name, failing(error, after, getattr(owner, name)))
        said = refusal(words())
    assert error.strerror in said and "what was saved before is whole" in said and "run the same command again" in said
    saved = [*tmp_path.glob("run/checkpoints/*"), *tmp_path.glob("run/stages/*")]
    assert saved
    for folder in saved:
        tensors, _ = checkpoint.load(folder)
        assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())
    assert cli.main(words()) == 0
    undisturbed = train(**SHORT)
    for file in undisturbed.glob("stages/*/model.safetensors"):
        assert file.read_bytes() == (tmp_path / "run" / file.relative_to(undisturbed)).read_bytes()


def test_a_loss_that_breaks_stops_the_run_and_spares_the_last_good_state(
    words: Callable, refusal: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from facegan.methods.a import adversarial

    monkeypatch.setattr(adversarial, "generator_loss", breaking_after(5, adversarial.generator_loss))
    said = refusal(words(phase1_epochs=20, snapshot_every=2, log_every=50))
    assert "phase1: G/loss became nan by step 6" in said and "--lr" in said
    kept = sorted(tmp_path.glob("run/checkpoints/*"))
    assert kept[-1].name == "phase1-0000004"
    for tensor in checkpoint.load(kept[-1])[0].values():
        assert not tensor.is_floating_point() or tensor.isfinite().all()


def breaking_after(steps: int, function: Callable) -> Callable:
    calls = 0

    def loss(*arguments: object) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return function(*arguments) * (math.nan if calls > steps else 1.0)

    return loss


def test_generate_and_inspect_and_synth(
    words: Callable, refusal: Callable, tmp_path: Path, faces: Path, capsys: pytest.CaptureFixture
) -> None:
    assert cli.main(words()) == 0
    run, out = str(tmp_path / "run"), tmp_path / "faces"
    assert cli.main(["generate", run, "--seeds", "3,5", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["grid.png", "seed0003.png", "seed0005.png"]
    assert cli.main(["generate", run, "--seeds", "5", "--out", str(tmp_path / "one")]) == 0
    assert (tmp_path / "one/seed0005.png").read_bytes() == (out / "seed0005.png").read_bytes()
    assert "is no run, network or checkpoint" in refusal(["generate", str(faces), "--out", str(out)])
    assert "no finished stage 'phase9'" in refusal(["generate", run, "--stage", "phase9", "--out", str(out)])
    assert "--seeds" in refusal(["generate", run, "--seeds", "a-b", "--out", str(out)])
    capsys.readouterr()
    assert cli.main(["data", "inspect", str(faces), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "bald" in capsys.readouterr().out
    assert cli.main(["data", "synth", "--num", "3", "--resolution", "16", "--out", str(tmp_path / "drawn")]) == 0
    assert len(list((tmp_path / "drawn/img_align_celeba").iterdir())) == 3
    assert "resolution" in refusal(["data", "synth", "--num", "3", "--resolution", "-1", "--out", str(tmp_path / "drawn2")])


def test_phase_1_of_another_run_is_taken_over(words: Callable, refusal: Callable, tmp_path: Path) -> None:
    first = str(tmp_path / "first")
    assert cli.main([*words(), f"--out={first}"]) == 0
    second = [*words(merge="none"), f"--out={tmp_path / 'second'}", f"--phase1-from={first}"]
    assert cli.main(second) == 0 and cli.main(second) == 0
    one, two = (checkpoint.load(tmp_path / name / "stages/phase1")[0] for name in ("first", "second"))
    assert one.keys() == two.keys() and all(torch.equal(two[name], tensor) for name, tensor in one.items())
    third = [*words(width=0.5), f"--out={tmp_path / 'third'}", f"--phase1-from={first}"]
    assert "--width 0.25, this run 0.5: they must agree" in refusal(third)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    (unfinished / "config.json").write_bytes((tmp_path / "first/config.json").read_bytes())
    fourth = [*words(), f"--out={tmp_path / 'fourth'}", f"--phase1-from={unfinished}"]
    assert "has not finished its phase 1" in refusal(fourth)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e308", "1e999", "x"])
@pytest.mark.parametrize(
    "words",
    [
        ["generate", "synthetic64", "--out=o", "--truncation=VALUE"],
        ["mix", "--rows=0", "--cols=1", "--out=o", "--truncation=VALUE"],
        ["mix", "--rows=0", "--cols=1", "--out=o", "--weight=VALUE"],
        ["walk", "--rows=0-1", "--out=o.gif", "--fps=VALUE"],
        ["edit", "photo.png", "--add=beard", "--strength=VALUE"],
    ],
)
def test_numbers_that_are_none_are_refused_in_every_flag(
    words: list[str], value: str, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main([word.replace("VALUE", value) for word in words])
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended.value.code == 2 and f"{value!r} is no number from -1e+09 to 1e+09" in said
    assert not list(tmp_path.iterdir())


def test_no_flag_takes_a_plain_number() -> None:
    for name, (module, _) in cli.COMMANDS.items():
        parser, options = argparse.ArgumentParser(), import_module(module).COMMANDS[name].options_for(name.split())
        for each in options:
            add_arguments(parser, each)
        assert not [action.dest for action in parser._actions if action.type in (float, int)], name
    assert {action.dest for action in parser._actions if action.type is finite} >= {"lr", "width", "r1_gamma"}  # of tune


@pytest.mark.parametrize("label", ["nan,1", "1,inf", "1,1e308"])
def test_labels_that_are_no_numbers(label: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["generate", "synthetic64", "--label", label, "--out", "faces"]) == 2
    assert "--label" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["generate", "nosuch", "--out", "faces"], "nosuch does not exist; expected a run of `facegan train`"),
        (["mix", "--network", "nosuch", "--rows", "0", "--cols", "1", "--out", "mixes"], "nosuch does not exist; expected"),
        (["evaluate", "nosuch"], "nosuch does not exist; expected a run of `facegan train`"),
        (["convert", "nosuch", "net"], "nosuch does not exist; expected a checkpoint: NVIDIA's .pkl, "),
        (["styles", "mask", "--network", "nosuch"], "nosuch does not exist; expected a run of `train --method b`"),
        (["styles", "channels", "--network", "nosuch"], "nosuch does not exist; expected a run of `train --method b`"),
        (["styles", "list", "st", "--network", "nosuch"], "nosuch does not exist; expected a run of `train --method b`"),
    ],
)
def test_a_bare_name_of_nothing_is_refused_before_pytorch_is_imported(words: list[str], said: str, tmp_path: Path) -> None:
    script = "import sys; from facegan import cli; status = cli.main(sys.argv[1:]); assert 'torch' not in sys.modules; sys.exit(status)"
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and said in done.stderr
