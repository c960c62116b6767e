"""What is public, pinned by name, and run as a user runs it: on the networks that come with the package, and on a run of a few steps."""

from __future__ import annotations

import inspect
import logging
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import facegan
import facegan.ops
from facegan import cli
from facegan.config import Options
from facegan.errors import FaceganError
from facegan.evaluation.judge import judge as judge_module
from facegan.evaluation.judge.network import JudgeConfig
from facegan.evaluation.mixing import SearchReport
from facegan.evaluation.report import EvaluationReport
from facegan.evaluation.restoration import RestorationReport
from facegan.labelling.label import Labels
from facegan.options import EvaluateOptions, GenerateOptions
from facegan.plotting.faces import Faces
from facegan.styles.edit import Edited
from facegan.styles.mix import Mixes
from facegan.styles.project import Projected

# --- names

OPERATORS = (
    "adain adain_affine adain_affine_ref adain_ref bias_act bias_act_ref conv2d conv2d_bias_act conv2d_bias_act_ref conv2d_layer "
    "conv2d_ref conv2d_resample downsample2d filter2d filtered_lrelu filtered_lrelu_ref linear modulated_conv2d modulated_conv2d_ref "
    "no_weight_gradients setup_filter upfirdn2d upfirdn2d_ref upsample2d"
)
OPEN = "source stage device cuda_graphs"
EVALUATE = "data samples judge weights lpips restore floor faces"
MIX = "rows cols recipe mode mask softness layers weight weights average channels number truncation noise_mode styles batch refine critics"
SEARCH = f"{MIX} attributes data judge num_random pairs budget seed out"
PUSH = "repo_id private token"
SIGNATURES = {
    "train": "data attributes method out options",
    "label": "faces attributes from_ options",
    "align": "images out device options",
    "load": OPEN,
    "load_restorer": "source scale device cuda_graphs",
    "AttributeGAN": {
        "attributes": None,
        "from_pretrained": OPEN,
        "generate": "seeds best truncation noise_mode label",
        "evaluate": EVALUATE,
        "save_pretrained": "folder",
        "push_to_hub": PUSH,
    },
    "StyleGAN": {
        "config": None,
        "from_pretrained": OPEN,
        "generate": "seeds best truncation noise_mode label",
        "styles": "names library truncation",
        "mix": MIX,
        "mixing": MIX,
        "search_recipe": SEARCH,
        "walk": "rows frames truncation noise_mode styles out fps",
        "project": "target space steps seed prior align batch keep critics attribute num data attributes out watch",
        "edit": "photo space steps seed prior align paste add remove strength layers styles critics out",
        "evaluate": EVALUATE,
        "save_pretrained": "folder slim",
        "push_to_hub": PUSH,
    },
    "Restorer": {
        "__call__": "faces batch",
        "photo": "photo batch",
        "evaluate": EVALUATE,
        "save_pretrained": "folder slim",
        "push_to_hub": PUSH,
    },
}
RESULTS = {
    Faces: "tensors names seeds truncated images grid save",
    Mixes: "rows cols tensors row_names col_names recipe images grid save",
    Projected: "folder styles photos tensors problems images comparison",
    Edited: "folder style tensors record photo image to_json describe",
    Labels: "names attributes values scores said checked figures unreadable out _images _index _before sheet save describe",
    SearchReport: "folder recipe text record to_json",
    EvaluationReport: "joint floor ceiling normalised marginals samples details pictures from_json to_json plot describe save",
    RestorationReport: "conditions details picture from_json to_json describe save",
}


def test_the_names_of_the_package() -> None:
    classes, functions = ["AttributeGAN", "FaceganError", "Restorer", "StyleGAN"], ["align", "label", "load", "load_restorer"]
    expected = [*classes, "__version__", *functions, "ops", "train"]
    assert facegan.__all__ == expected and set(expected) <= set(dir(facegan))
    assert facegan.ops.__all__ == OPERATORS.split()
    for name in [*expected, *facegan.ops.__all__]:
        assert hasattr(facegan, name) or hasattr(facegan.ops, name), name
    with pytest.raises(AttributeError, match="no attribute 'StyleGan'"):
        _ = facegan.StyleGan


def keywords(function: Callable) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name not in ("self", "cls")]


@pytest.mark.parametrize("name", SIGNATURES)
def test_what_can_be_called_and_with_which_keywords(name: str) -> None:
    public, expected = getattr(facegan, name), SIGNATURES[name]
    if isinstance(expected, str):
        assert keywords(public) == expected.split() and inspect.getdoc(public)
        return
    members = {each for each in vars(public) if not each.startswith("_")} | {"__call__"} & {*vars(public)}
    assert members == {*expected}
    for member, names in expected.items():
        found = getattr(public, member)
        assert inspect.getdoc(found), member
        if names is not None:
            # in any order, but for those that may stand without a name: these come first
            assert sorted(keywords(found)) == sorted(names.split()), member
            assert keywords(found)[0] == names.split()[0], member


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.__name__)
def test_what_results_have(result: type) -> None:
    fields = [*result.__dataclass_fields__, *(name for name in vars(result) if not name.startswith("_"))]
    assert sorted(set(fields)) == sorted(RESULTS[result].split())
    assert result.__dataclass_params__.frozen


def test_a_methods_signature_tells_the_defaults_of_its_options() -> None:
    parameters = inspect.signature(facegan.StyleGAN.generate).parameters
    assert parameters["seeds"].default == tuple(range(16)) and parameters["truncation"].default == 1.0
    assert parameters["seeds"].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert parameters["truncation"].kind is inspect.Parameter.KEYWORD_ONLY
    assert "truncation: StyleGAN2: below 1 trades variety for quality" in facegan.StyleGAN.generate.__doc__


# --- options as Python has them


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (dict(seeds=range(3)), (0, 1, 2)), (dict(seeds="0-2,7"), (0, 1, 2, 7)), (dict(seeds=[4, 5]), (4, 5)), (dict(seeds=7), (7,)),
        (dict(seeds=np.arange(2)), (0, 1)),
    ],
)  # fmt: skip
def test_seeds_as_a_user_writes_them(values: dict, expected: tuple[int, ...]) -> None:
    assert GenerateOptions(**values).seeds == expected


def test_paths_and_numbers_take_their_fields_types() -> None:
    options = EvaluateOptions(judge=Path("a/b"), samples=np.int64(3))
    assert options.judge == "a/b" and options.samples == 3 and type(options.samples) is int
    truncation = GenerateOptions(truncation=1, label=(1, 0))
    assert type(truncation.truncation) is float and truncation.label == (1.0, 0.0)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (dict(sedes=[1]), "`sedes` is no option here: expected others, such as `seeds`"), (dict(seeds=[1.5]), r"`seeds`\[0\] is 1.5"),
        (dict(best="3"), "`best` is '3': expected a whole number"), (dict(best=True), "`best` is True"),
        (dict(noise_mode="loud"), "`noise_mode` is 'loud': expected one of const, random, none"),
        (dict(truncation=float("nan")), "`truncation` is nan"), (dict(label="1,x"), "`label` is '1,x': expected numbers"),
        (dict(label=[1, 1e308]), r"`label` is \(1.0, 1e\+308\): expected numbers from -1e\+09"),
        (dict(label="1,nan"), r"`label`\[1\] is nan"),
        (dict(seeds="a"), "`seeds` is 'a': expected numbers and ranges"), (dict(seeds=None), r"`seeds`\[0\] is None"),
    ],
)  # fmt: skip
def test_options_of_other_types_or_names_are_refused_by_name(values: dict, words: str) -> None:
    with pytest.raises(FaceganError, match=words):
        GenerateOptions(**values)


def test_a_training_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    for values, words in ((dict(resolutoin=32), "`resolutoin` is no option here: expected others, such as `resolution`"),
                          (dict(method="c"), "`method` is c: expected one of a, b, restore"),
                          (dict(recipe="good"), "`recipe` is 'good': expected one of"),
                          (dict(merge="both"), "`merge` is 'both': expected one of")):  # fmt: skip
        with pytest.raises(FaceganError, match=words):
            facegan.train("synthetic", out=tmp_path / "run", **values)
    assert not (tmp_path / "run").exists()


def test_a_configuration_is_what_its_recipe_says() -> None:
    from facegan.methods.a.config import RECIPES, MethodAConfig

    for name, values in RECIPES.items():
        config = MethodAConfig(out="x", recipe=name)
        assert {key: getattr(config, key) for key in values} == values
    assert MethodAConfig(out="x") == MethodAConfig(out="x", recipe="best")
    assert isinstance(MethodAConfig(out="x"), Options)


# --- the networks that come with the package


@pytest.fixture
def untouched(capsys: pytest.CaptureFixture) -> Iterator[None]:
    """Whatever a test does, it prints nothing, and random numbers go on as if it had not been."""
    before = torch.get_rng_state(), np.random.get_state()[1:3], random.getstate()
    capsys.readouterr()
    yield
    after = torch.get_rng_state(), np.random.get_state()[1:3], random.getstate()
    assert torch.equal(before[0], after[0]), "torch's generator was used"
    assert (before[1][0] == after[1][0]).all() and before[1][1] == after[1][1], "numpy's generator was used"
    assert before[2] == after[2], "Python's generator was used"
    assert capsys.readouterr() == ("", "")


@pytest.fixture(scope="module")
def net() -> facegan.StyleGAN:
    return facegan.load("synthetic64")


@pytest.fixture(scope="module")
def photo(net: facegan.StyleGAN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    net.generate(3).images[0].save(path)
    return path


USED = """
import sys
import facegan

assert "torch" not in sys.modules and facegan.__version__
net = facegan.load("synthetic64")
faces = net.generate(seeds=range(2))
large = facegan.load_restorer("synthetic256")(faces)
large.save("large")
faces.images[0].save("photo.jpg")
w = net.project("photo.jpg", steps=2)
net.mix(rows=w, cols=[0, "1-2"], recipe="default").grid().save("mixes.png")
net.edit("photo.jpg", add="beard", steps=2).image.save("edited.png")
"""


def test_a_program_imports_pytorch_late_and_prints_nothing(tmp_path: Path) -> None:
    """In a process of its own, as neither this one's imports nor its logging say anything about a user's."""
    done = subprocess.run([sys.executable, "-c", USED], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert {"edited.png", "mixes.png"} < {path.name for path in tmp_path.iterdir()}
    assert Image.open(tmp_path / "large/seed0001.png").size == (256, 256)


@pytest.mark.usefixtures("untouched")
def test_loading_draws_nothing() -> None:
    assert facegan.load("synthetic64").config.resolution == 64
    facegan.load_restorer("synthetic256")


@pytest.mark.usefixtures("untouched")
def test_faces_are_generated_restored_and_saved(net: facegan.StyleGAN, tmp_path: Path) -> None:
    faces = net.generate(seeds=range(3), truncation=0.7)
    assert faces.tensors.shape == (3, 3, 64, 64) and faces.seeds == (0, 1, 2) and len(faces) == len(faces.images) == 3
    assert torch.equal(net.generate([2], truncation=0.7).tensors[0], faces.tensors[2])
    large = facegan.load_restorer("synthetic256")(faces)
    assert large.tensors.shape == (3, 3, 256, 256) and large.names == faces.names and large.seeds == faces.seeds
    assert large.save(tmp_path / "large") == tmp_path / "large/grid.png"
    assert Image.open(tmp_path / "large/seed0002.png").size == (256, 256)
    pictures = facegan.load_restorer("synthetic256")([faces.images[0], tmp_path / "large/seed0001.png"])
    assert pictures.names == ("face0000", "seed0001") and torch.equal(pictures.tensors[0], large.tensors[0])


@pytest.mark.usefixtures("untouched")
def test_interpolation_is_a_restorer_without_weights(net: facegan.StyleGAN, tmp_path: Path) -> None:
    plain = facegan.load_restorer(scale=4)
    assert plain(net.generate(0)).tensors.shape == (1, 3, 256, 256)
    with pytest.raises(FaceganError, match="plain interpolation"):
        plain.save_pretrained(tmp_path / "none")
    with pytest.raises(FaceganError, match=r"face0000|picture 0"):
        plain(Image.new("RGB", (4, 4)))


@pytest.mark.usefixtures("untouched")
def test_styles_are_projected_mixed_and_walked(net: facegan.StyleGAN, photo: Path, tmp_path: Path) -> None:
    w = net.project(photo, steps=3, out=tmp_path / "styles")
    assert len(w) == 1 and w.styles[0].name == "photo" and w.tensors.shape == w.photos.shape == (1, 3, 64, 64)
    assert (tmp_path / "styles/photo.npz").is_file() and not w.problems
    mixes = net.mix(rows=[3, "0-1"], cols=w, recipe="default", batch=1)
    assert mixes.row_names == ("seed0003", "seed0000", "seed0001") and mixes.col_names == ("photo",)
    assert mixes.tensors.shape == (3, 1, 3, 64, 64) and [len(row) for row in mixes.images] == [1, 1, 1]
    assert mixes.save(tmp_path / "mixes") == tmp_path / "mixes/grid.png"
    again = net.mix(rows=tmp_path / "styles", cols=3, recipe=tmp_path / "mixes/recipe.json", batch=1)
    assert torch.equal(again.rows, mixes.cols) and torch.equal(again.cols[0], mixes.rows[0])
    assert net.walk([w.styles[0], 3], out=tmp_path / "walk.gif", frames=2) == tmp_path / "walk.gif"
    assert Image.open(tmp_path / "walk.gif").n_frames == 4


@pytest.mark.usefixtures("untouched")
def test_a_photo_is_edited(net: facegan.StyleGAN, photo: Path, tmp_path: Path) -> None:
    edited = net.edit(photo, add="beard", steps=3, out=tmp_path)
    assert edited.image.size == (64, 64) and edited.tensors.shape == (3, 3, 64, 64)
    assert edited.to_json()["add"] == ["beard"] and (tmp_path / "edit.png").is_file()
    assert not torch.equal(edited.tensors[1], edited.tensors[2])
    without = net.edit(photo, remove=("beard",), strength=0.5, steps=3, out=tmp_path)
    half = (edited.style - without.style) / 1.5  # the direction itself: one photo, one projection
    torch.testing.assert_close(edited.style - half, without.style + 0.5 * half)


@pytest.mark.usefixtures("untouched")
def test_what_is_saved_is_what_was_loaded(net: facegan.StyleGAN, tmp_path: Path) -> None:
    copy = facegan.load(net.save_pretrained(tmp_path / "net"))
    assert torch.equal(copy.generate(1).tensors, net.generate(1).tensors)
    slim = facegan.load(net.save_pretrained(tmp_path / "slim", slim=True))
    assert torch.equal(slim.generate(1).tensors, net.generate(1).tensors)
    restorer = facegan.load_restorer("synthetic256")
    faces = net.generate(1)
    assert torch.equal(facegan.load_restorer(restorer.save_pretrained(tmp_path / "r"))(faces).tensors, restorer(faces).tensors)
    with pytest.raises(FaceganError, match="is a restorer, which makes no faces of its own"):
        facegan.load(tmp_path / "r")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda net: net.generate(best=2), "`best` goes with a run of Method A"),
        (lambda net: net.generate(seed=3), "`seed` is no option here: expected others, such as `seeds`"),
        (lambda net: net.generate([0], 4), "generate: expected at most seeds without names"),
        (lambda net: net.generate([0], seeds=[0]), "generate: expected at most seeds without names, each once"),
        (lambda net: net.mix(cols=0), "`rows` is missing"),
        (lambda net: net.mix("nobody", 0), "style 'nobody' is unknown; .* bald, beard"),
        (lambda net: net.mix(0, 1, recipe="default", mode="crossover"), "`recipe` holds mode, weights and mask already: drop `mode`"),
        (lambda net: net.project("nowhere.png"), "nowhere.png does not exist"),
        (lambda net: net.edit("photo.png"), "nothing to do"),
        (lambda net: net.walk(0, out="walk.gif"), "at least 2 `rows`"),
        (lambda net: net.evaluate(), "synthetic64 is no run of `facegan train`"),
        (lambda net: facegan.load("synthetic63"), "synthetic63"),
        (lambda net: facegan.load("synthetic64", stage="phase1"), "`stage` goes with a run of Method A"),
        (lambda net: facegan.load("synthetic64", device="tpu"), "`device` is"),
    ],
)  # fmt: skip
def test_mistakes_are_sentences(net: facegan.StyleGAN, call: Callable, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FaceganError, match=words):
        call(net)


# --- a run of one's own


@pytest.fixture(scope="module")
def gan(configure: Callable[..., Options], tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> facegan.AttributeGAN:
    config = configure(out=str(tmp_path_factory.mktemp("runs") / "mine"), critics="all", discriminators="regional")
    return facegan.train(**config.to_json())


@pytest.fixture
def small_judge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judge_module, "JudgeConfig", partial(JudgeConfig, steps=6, batch=20, width=4, checks=1))


@pytest.mark.usefixtures("untouched")
def test_the_critics_choose_the_best_faces(gan: facegan.AttributeGAN) -> None:
    assert gan.attributes == ("bald", "beard")
    every, best = gan.generate(seeds=range(12)), gan.generate(seeds=range(12), best=5)
    scores = gan.trained.critic_scores(every.tensors)
    chosen = sorted(scores.argsort(descending=True)[:5].tolist())
    assert best.seeds == tuple(chosen) and torch.equal(best.tensors, every.tensors[chosen])
    assert best.names == tuple(f"seed{seed:04d}" for seed in chosen)
    with pytest.raises(FaceganError, match="`truncation`, `noise_mode` and `label` go with StyleGAN2"):
        gan.generate(truncation=0.5)


@pytest.mark.usefixtures("untouched", "small_judge")
def test_a_report_goes_to_json_and_back(gan: facegan.AttributeGAN, tmp_path: Path) -> None:
    report = gan.evaluate(samples=16)
    assert 0 <= report.joint.low <= report.joint.rate <= report.joint.high <= 1 and report.samples == 16
    assert report.marginals.keys() == {"bald", "beard"} and 0 <= report.floor <= 1 and 0 <= report.ceiling <= 1
    again = EvaluationReport.from_json(report.to_json())
    assert again.to_json() == report.to_json() and again.joint == report.joint and again.describe() == report.describe()
    assert report.plot().width > 500 and report.save(tmp_path) == tmp_path / "report.json"
    with pytest.raises(FaceganError, match="read from a file"):
        again.plot()
    with pytest.raises(FaceganError, match="the report"):
        EvaluationReport.from_json({**report.to_json(), "floor": "low"})


@pytest.mark.usefixtures("untouched")
def test_a_run_is_passed_on(gan: facegan.AttributeGAN, tmp_path: Path) -> None:
    copy = facegan.load(gan.save_pretrained(tmp_path / "shared"))
    assert isinstance(copy, facegan.AttributeGAN)
    assert torch.equal(copy.generate([0, 5], best=1).tensors, gan.generate([0, 5], best=1).tensors)
    assert facegan.load(tmp_path / "shared", stage="phase1").generate(0).tensors.shape == (1, 3, 16, 16)
    assert not list((tmp_path / "shared").rglob("*.png")) and not (tmp_path / "shared/checkpoints").exists()
    with pytest.raises(FaceganError, match="is not empty"):
        gan.save_pretrained(tmp_path / "shared")


# --- huggingface.co, pretended by folders


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Repositories as folders; what the functions of huggingface_hub are asked for, they do there."""
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    root = tmp_path / "hub"

    class Api:
        def __init__(self, token: str | None = None) -> None:
            self.token = token

        def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
            assert exist_ok and self.token in (None, "mine")
            (root / repo_id).mkdir(parents=True, exist_ok=True)
            (root / f"{repo_id}.private").write_text(str(private))

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> None:
            assert commit_message
            shutil.copytree(folder_path, root / repo_id, dirs_exist_ok=True)

    def snapshot_download(repo_id: str, revision: str | None = None) -> str:
        if not (root / repo_id).is_dir() or revision not in (None, "main"):
            raise RepositoryNotFoundError.__new__(RepositoryNotFoundError, "404 Client Error")
        return str(root / repo_id)

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return root


@pytest.mark.usefixtures("untouched")
def test_networks_go_to_the_hub_and_come_back(
    net: facegan.StyleGAN, gan: facegan.AttributeGAN, hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert net.push_to_hub("me/styles") == "https://huggingface.co/me/styles"
    assert gan.push_to_hub("me/bald-beard", private=True, token="mine") == "https://huggingface.co/me/bald-beard"
    restorer = facegan.load_restorer("synthetic256")
    restorer.push_to_hub("me/large")
    assert [(hub / f"me/{name}.private").read_text() for name in ("styles", "bald-beard")] == ["False", "True"]
    assert torch.equal(facegan.load("hub:me/styles").generate(1).tensors, net.generate(1).tensors)
    back = facegan.load("hub:me/bald-beard@main")
    assert isinstance(back, facegan.AttributeGAN) and torch.equal(back.generate(1).tensors, gan.generate(1).tensors)
    faces = net.generate(1)
    assert torch.equal(facegan.load_restorer("hub:me/large")(faces).tensors, restorer(faces).tensors)
    faces.save(hub / "faces")
    line = ["restore", str(hub / "faces" / f"{faces.names[0]}.png"), "--weights", "hub:me/large", "--out", str(hub / "restored")]
    assert cli.main(line) == 0 and (hub / "restored" / f"{faces.names[0]}.png").exists()
    assert "before-after.png" in capsys.readouterr().out  # the command prints, the API does not
    for name in ("hub:me/nothing", "hub:me/styles@other"):
        with pytest.raises(FaceganError, match=f"{name} cannot be downloaded .*expected hub:OWNER/NAME"):
            facegan.load(name)


def test_what_is_worth_a_warning_goes_to_the_log(gan: facegan.AttributeGAN, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    copy = gan.save_pretrained(tmp_path / "shared")
    shutil.rmtree(copy / "stages/phase2-beard")
    with caplog.at_level(logging.WARNING, logger="facegan"):
        assert len(facegan.load(copy).generate(range(4), best=2)) == 2
    assert "no critic for beard" in caplog.text
