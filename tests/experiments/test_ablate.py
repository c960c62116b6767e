"""`facegan ablate` from the words to the report, its commands run in this process on a few steps."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from facegan import cli
from facegan.checkpoints.run import RunFolder
from facegan.evaluation.judge import judge as judge_module
from facegan.evaluation.judge.network import JudgeConfig
from facegan.experiments.ablation import curve, report, run, schedule
from facegan.experiments.ablation.tasks import TRAIN, Settings, studies_of
from facegan.methods import config_of

FLAGS = [
    "--resolution=16", "--width=0.25", "--batch=8", "--minimum-images=4", "--images-per-epoch=8", "--phase2-epochs=2", "--phase1-epochs=2",
    "--epochs=4", "--harvest-every=1", "--log-every=1", "--snapshot-every=2", "--device=cpu", "--samples=8",
]  # fmt: skip
FLAGS_B = [
    "--method=b", "--resolution=16", "--width=0.25", "--batch=8", "--minimum-images=4", "--images-per-epoch=8", "--phase2-epochs=2",
    "--kimg=0.016", "--device=cpu", "--samples=8", "--styles=4", "--projection-steps=2",
]  # fmt: skip


class InProcess:
    """Stands in for `subprocess.Popen`."""

    ran: list[list[str]] = []
    fails: Callable[[list[str]], bool] = staticmethod(lambda words: False)

    def __init__(self, arguments: list[str], **_: Any) -> None:
        module, words = arguments[2], arguments[3:]
        InProcess.ran.append(words)
        if InProcess.fails(words):
            self.returncode = 1
        elif module == "facegan.cli":
            self.returncode = cli.main(words)
        else:
            curve.curve(Path(words[0]))
            self.returncode = 0

    def poll(self) -> int:
        return self.returncode


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Judges of a few steps, and children in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACEGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(judge_module, "JudgeConfig", partial(JudgeConfig, steps=6, batch=20, width=4, checks=1))
        patch.setattr(schedule, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": InProcess}))  # there only
        patch.setattr(schedule, "POLL", 0.0)
        patch.setattr(schedule, "reap", lambda process: (process.returncode, 1.5))
        yield


@pytest.fixture(scope="module")
def words(faces: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = str(tmp_path_factory.mktemp("ablation"))
    return ["ablate", "--data", str(faces), "--out", out, "--rows", "best-merge", "--seeds", "2", *FLAGS]


@pytest.fixture(scope="module")
def out(words: list[str], one_thread: None) -> Path:
    """An ablation of which one task fails at first."""
    out = Path(words[words.index("--out") + 1])
    InProcess.ran.clear()
    InProcess.fails = staticmethod(lambda line: "best-merge/seed1" in " ".join(line))
    assert cli.main(words) == 2
    record = json.loads((out / "report.json").read_text())
    assert list(record["failed"]) == [str(out / "best-merge/seed1")]
    assert {name: list(row["seeds"]) for name, row in record["rows"].items()} == {"phase1": ["0", "1"], "best-merge": ["0"]}
    trained = [line[line.index("--out") + 1].removeprefix(f"{out}/") for line in InProcess.ran if line[0] == "train"]
    # All rows of one seed, then those of the next, each after the phase 1 that it takes over.
    assert trained == ["phase1/seed0", "best-merge/seed0", "phase1/seed1", "best-merge/seed1"]
    InProcess.ran.clear()
    InProcess.fails = staticmethod(lambda line: False)
    return out


def test_only_what_failed_is_run_again(out: Path, words: list[str]) -> None:
    assert cli.main(words) == 0
    seed1 = str(out / "best-merge/seed1")
    assert [line[0] for line in InProcess.ran if seed1 in " ".join(line)] == ["train", seed1, "evaluate"]
    assert len(InProcess.ran) == 3
    record = json.loads((out / "report.json").read_text())
    assert record["failed"] == {} and record["waiting"] == [] and list(record["rows"]["best-merge"]["seeds"]) == ["0", "1"]


def test_phase_1_is_trained_once_a_seed(out: Path) -> None:
    for seed in (0, 1):
        folder = RunFolder(out / "best-merge" / f"seed{seed}")
        assert folder.metadata("phase1")["taken_from"] == str(out / "phase1" / f"seed{seed}")
        assert folder.config().seed == seed and folder.finished("phase3-beard")


def test_the_course_is_that_of_the_sheets(out: Path) -> None:
    points = [point for row in ("phase1", "best-merge") for point in json.loads((out / row / "seed0/curve.json").read_text())]
    moments = [("phase1", 2, 2.0), ("phase3-beard", 2, 2.0), ("phase3-beard", 4, 4.0)]
    assert [(point["stage"], point["step"], point["epoch"]) for point in points] == moments
    assert all(point["faces"] == 64 and 0 <= point["joint"] <= min(point["marginals"].values()) for point in points)
    assert all((out / name).exists() for name in ("rates.png", "curves.png", "times.png", "grid.png", "report.md"))


def test_what_rows_and_seeds_there_are_stays_in_the_report_whatever_is_asked_for(out: Path, words: list[str]) -> None:
    InProcess.ran.clear()
    fewer = [{"best-merge": "phase1", "2": "1"}.get(word, word) for word in words]
    # a default spelled out and the processor named change nothing
    assert cli.main([*fewer, "--lr=0.004", "--device=auto"]) == 0 and not InProcess.ran
    record = json.loads((out / "report.json").read_text())
    assert {name: list(row["seeds"]) for name, row in record["rows"].items()} == {"phase1": ["0", "1"], "best-merge": ["0", "1"]}


def test_one_floor_for_all_rows_of_a_seed(out: Path) -> None:
    for row in ("phase1", "best-merge"):
        report = json.loads((out / row / "seed0/evaluation/report.json").read_text())
        assert report["floor_run"] == str(out / "phase1/seed0")


def test_a_report_that_cannot_be_written_ends_nothing(
    out: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(report, "write", full)
    assert cli.main(words) == 0 and "was not written" in caplog.text


@pytest.mark.parametrize("method", ["a", "b"])
def test_all_commands_of_a_task_compute_on_the_device_that_is_asked_for(method: str, tmp_path: Path) -> None:
    settings = Settings(tmp_path, (0,), 8)
    for given in ({"device": "cuda:1"}, {}):
        [study] = studies_of({"method": method, "out": str(tmp_path), **given}, settings, (), "")
        for task in study.tasks:
            for module, *words in task.commands:
                assert words.count("cuda:1") == len(given)
                assert ("--device" in words) == (bool(given) and module == TRAIN)  # the curve has no flags


def test_one_judge_that_cannot_be_made_fails_its_tasks_alone(faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, device: str) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr(run, "Evaluator", broken)
    assert cli.main(["ablate", "--data", str(faces), "--out", str(tmp_path), "--rows=phase1", "--seeds=2", *FLAGS]) == 2
    assert json.loads((tmp_path / "report.json").read_text())["failed"][str(tmp_path / "phase1/seed1")] == "RuntimeError: out of luck"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--width=0.5"], "belongs to another ablation (--width 0.25 there, 0.5 here)"),
        (["--samples=9"], "belongs to another ablation (--samples 8 there, 9 here)"),
        (["--seeds=0"], "--seeds is 0: expected at least 1"),
        (["--jobs=0"], "--jobs is 0: expected at least 1"),
        (["--rows=bets"], "--rows has 'bets'"),
        (["--epochs=1", "--rows=thesis"], "would never begin"),
        (["--attributes=bald,beard", "--pairs", "bald,beard"], "give one of them"),
        (["--weights=nowhere.pth"], "--weights nowhere.pth cannot be read"),
        (["--lpips=nowhere.pth"], "--lpips nowhere.pth cannot be read"),
    ],
)
def test_mistakes_cost_nothing(change: list[str], said: str, out: Path, words: list[str], capsys: pytest.CaptureFixture) -> None:
    InProcess.ran.clear()
    assert cli.main([*words, *change]) == 2
    assert said in capsys.readouterr().err and not InProcess.ran


def test_pairs_have_a_table_each_and_one_without_joint_faces_is_said_to(
    faces: Path, tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture
) -> None:
    common = ["ablate", "--data", str(faces), "--out", str(tmp_path / "pairs"), "--rows=phase1", "--seeds=1", *FLAGS]
    pairs = ["bald,glasses", "bald,hairy=!Bald/Bald"]  # no face is bald and is not
    assert cli.main([*common, "--pairs", *pairs]) == 2
    assert "hairy" in capsys.readouterr().err
    text = (tmp_path / "pairs/report.md").read_text()
    assert all(f"# Ablation: bald and {other}, Method A" in text for other in ("glasses", "hairy"))
    assert (tmp_path / "pairs/bald+glasses/phase1/seed0/evaluation/report.json").exists() and "## Failed" in text
    assert json.loads((tmp_path / "pairs/report.json").read_text())["pairs"].keys() == {"bald+glasses", "bald+hairy"}
    assert cli.main([*common, "--pairs", "bald,glasses"]) == 0
    assert json.loads((tmp_path / "pairs/report.json").read_text())["pairs"].keys() == {"bald+glasses", "bald+hairy"}


def test_method_b_mixes_the_best_of_more_candidates(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    given = {"method": "b", "data": "synthetic", "attributes": ("bald", "beard"), "out": str(tmp_path)}
    [task] = studies_of(given, Settings(tmp_path, (0,), 8, styles=4, candidates=6), (), ("mixes",))[0].tasks
    typed = [line.split() for line in task.typed()]
    projected = [line for line in typed if line[1] == "project"]
    assert len(projected) == 2 and all(line[line.index("--num") + 1] == "6" for line in projected)
    files = []
    for line in typed:
        if line[1:3] == ["styles", "collect"]:
            assert line[line.index("--best") + 1] == "4" and line[3] in [words[words.index("--out") + 1] for words in projected]
            files.append(line[line.index("--out") + 1])
    assert [Path(file).name for file in files] == ["bald.npz", "beard.npz"]
    search = next(line for line in typed if line[1] == "mix-search")
    assert [search[search.index(flag) + 1] for flag in ("--rows", "--cols")] == files
    words = ["ablate", "--method=b", "--data=synthetic", "--out", str(tmp_path / "few"), "--styles=4", "--candidates=3"]
    assert cli.main(words) == 2 and "--candidates is 3: expected at least --styles, 4" in capsys.readouterr().err


def test_method_b_tells_ways_of_mixing_apart(faces: Path, tmp_path: Path, one_thread: None, capsys: pytest.CaptureFixture) -> None:
    words = ["ablate", "--data", str(faces), "--out", str(tmp_path / "b"), "--seeds=1", "--refine=2", *FLAGS_B]
    assert cli.main([*words, "--lpips=nowhere.pth"]) == 2 and "--weights and --lpips go with --method a" in capsys.readouterr().err
    assert cli.main(["ablate", "--method=a", "--refine=2", "--out", str(tmp_path / "a")]) == 2
    assert "--refine goes with --method b" in capsys.readouterr().err
    assert cli.main(words) == 0
    record = json.loads((tmp_path / "b/report.json").read_text())
    table = json.loads((tmp_path / "b/seed0/mixes/search.json").read_text())["table"]
    assert list(record["rows"]) == [*(line["name"].split(":")[0] for line in table), "conditional"]
    found = {name for name in record["rows"] if name.startswith(("stylespace", "regional", "directions", "averaged", "layers"))}
    assert found == {
        "averaged columns", "directions", "regional", "regional refined", "stylespace", "stylespace directions", "layers searched",
        "regional searched",
        "stylespace searched", "averaged styles, psi 0.7",
    }  # fmt: skip
    named = {line["name"].split(":")[0]: line for line in table}
    assert named["regional refined"]["kept"] != named["regional"]["kept"]
    for line in table:
        row = record["rows"][line["name"].split(":")[0]]
        assert row["joint"]["rate"] == line["judge"]["joint"]["rate"] and row["self_score"] == line["critics"]["joint"]
        assert row["joint"]["low"] is None and line["judge"]["audit"].keys() == row["shifts"].keys() and "diversity" in line["judge"]
    searched = record["rows"]["searched"]
    assert searched["on"] == "random mixes" and searched["differences"]["random mixes"]["verdict"] == "one seed, no verdict"
    # train and two projections, 1.5 CPU seconds each; masks and channels; what is searched costs the search too
    costs = {name: row["cpu_seconds"] for name, row in record["rows"].items()}
    assert costs["searched"] == pytest.approx(9) and costs["fixed layers"] == pytest.approx(4.5)
    assert costs["stylespace"] == pytest.approx(7.5) and costs["layers searched"] == pytest.approx(6)
    assert [line["kept"] is None for line in table] == [line["name"] in ("rows alone", "columns alone") for line in table]
    assert all(line["kept"]["outside"] is not None for line in table if line["kept"])
    conditional, judged = record["rows"]["conditional"], json.loads((tmp_path / "b/conditional/seed0/evaluation/report.json").read_text())
    assert conditional["joint"]["rate"] == judged["joint"]["rate"] and conditional["joint"]["low"] is not None
    assert conditional["leak"] == judged["leak"]["rate"] and conditional["cpu_seconds"] == pytest.approx(1.5)
    assert conditional["floor"] >= table[0]["judge"]["floors"]["rows"] and conditional["self_score"] is None
    assert conditional["samples"] == 8 and conditional["diversity"] is not None and conditional["kept"]["found"] is None
    assert searched["differences"]["conditional"]["verdict"] == "one seed, no verdict"
    run = RunFolder(tmp_path / "b/conditional/seed0")
    own, mixed = config_of(run), config_of(RunFolder(tmp_path / "b/seed0/run"))
    assert own.conditional and not mixed.conditional and own.kimg == mixed.kimg and run.finished_stages() == ["stylegan2"]
    text = (tmp_path / "b/report.md").read_text()
    assert all(f"    facegan {word} " in text for word in ("train", "project", "styles mask", "styles channels", "mix-search", "evaluate"))
    assert "| changed outside | features | skin | row found | variety | diversity |" in text and "Leak, the joint rate" in text
    assert "whatever `samples` says: `styles=S` gives" in text and "no independent samples" in text and (tmp_path / "b/grid.png").exists()
    InProcess.ran.clear()
    assert cli.main(words) == 0 and not InProcess.ran
    assert cli.main([*words, "--rows=conditional"]) == 0 and not InProcess.ran
    assert list(json.loads((tmp_path / "b/report.json").read_text())["rows"]) == list(record["rows"])
    assert cli.main([*words, "--rows=best"]) == 2 and "expected mixes, all ways of mixing" in capsys.readouterr().err
    assert cli.main([*words, "--kimg=0.032"]) == 2 and "--kimg 0.016 there, 0.032 here" in capsys.readouterr().err


def test_the_help_teaches(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["ablate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert cli.main(["ablate", "--method=restore", "--out=x"]) == 2 and "--method is restore: expected a or b" in capsys.readouterr().err
    assert left.value.code == 0 and "best-merge on best: + the regional merge" in text and "The same command again resumes" in text
    assert "all others but conditional and scratch start" in text and "`--method b --help` has those of Method B" in text
    with pytest.raises(SystemExit):
        cli.main(["ablate", "--method=b", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "conditional a second network, conditional, of the same length" in text and "best-merge" not in text
    assert cli.main(["ablate", "--method=b", "--attributes=bald", "--out=x"]) == 2
    assert "--attributes is bald: Method B mixes styles of two" in capsys.readouterr().err
