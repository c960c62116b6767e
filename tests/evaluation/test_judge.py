from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tqdm import tqdm

from facegan.data.attributes import Attribute, Groups
from facegan.data.splits import Split
from facegan.data.table import AttributeTable
from facegan.errors import FaceganError
from facegan.evaluation.judge import network as judge_net
from facegan.evaluation.judge.data import labels_of
from facegan.evaluation.judge.judge import Judge, load_or_train, refuse_partial, train_judge
from facegan.evaluation.judge.network import JudgeConfig, masked_loss, temperature


def floats(images):
    return torch.from_numpy(images).float() / 127.5 - 1


def test_labels_are_masked_where_neither_selector_holds():
    nan = float("nan")
    values = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 1], [nan, 0, 0], [1, 1, 0]], np.float32)
    table = AttributeTable(tuple("abcde"), ("A", "B", "Blurry"), values)
    attributes = (Attribute("a", "A & !Blurry", "!A", "A", "A"), Attribute("b", "B", "!B & !A", "B", "B"))
    labels = labels_of(table, attributes, np.array([4]))
    expected = [[1, nan], [0, 1], [nan, nan], [nan, nan], [1, 1]]  # row 2 is blurry, row 3 unknown, row 4 joint
    np.testing.assert_array_equal(labels, np.array(expected, np.float32))


def test_unknown_labels_have_neither_loss_nor_gradient():
    nan = float("nan")
    logits = torch.tensor([[0.3, -1.2], [2.0, 0.4], [-0.7, 0.9]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0, nan], [0.0, 0.0], [nan, nan]], dtype=torch.float64)
    loss = masked_loss(logits, labels, torch.zeros(3, dtype=torch.bool), smoothing=0.0, bootstrap=0.0)
    loss.sum().backward()
    assert (logits.grad == 0).tolist() == [[False, True], [False, False], [True, True]]
    first = [np.log1p(np.exp(-0.3)), np.log1p(np.exp(2.0))]  # one image on each side: both weigh the same
    np.testing.assert_allclose(loss.detach().numpy(), [np.mean(first), np.log1p(np.exp(0.4))], rtol=1e-12)


def test_sides_weigh_the_same_whatever_their_number_and_hard_images_come_on_top():
    logits = torch.zeros(6, 1, requires_grad=True)
    labels = torch.tensor([[1.0], [0.0], [0.0], [0.0], [0.0], [0.0]])
    hard = torch.tensor([False, False, False, False, True, True])
    masked_loss(logits, labels, hard, smoothing=0.0, bootstrap=0.0).sum().backward()
    pull = logits.grad.flatten() / logits.grad[0].abs()
    np.testing.assert_allclose(pull.numpy(), [-1, 1 / 3, 1 / 3, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)


def test_temperature_recovers_a_known_scale():
    draw = torch.Generator().manual_seed(5)
    truth = torch.randn(40_000, 1, generator=draw) * 2
    labels = (torch.rand(40_000, 1, generator=draw) < truth.sigmoid()).float()
    assert temperature(truth * 2.5, labels).item() == pytest.approx(2.5, rel=0.08)


def test_the_pair_learns_and_tells_the_truth_about_itself(world, judge):
    data, groups, split = world
    card = judge.card
    assert min(card["balanced_accuracy"].values()) > 0.95 and card["ceiling"] > 0.9
    unseen = np.concatenate(  # the ceiling, restated: each classifier on the half of the other
        [judge.pair_verdicts(floats(data.images[split.joint_halves[1 - i]]))[i, :, -1] for i in (0, 1)]
    )
    assert card["ceiling"] == pytest.approx(unseen.mean())
    only = np.intersect1d(split.train, groups.only[0])
    assert card["false_joint"]["top"]["0"] == pytest.approx(judge.verdicts(floats(data.images[only]))[:, -1].mean())
    probability = judge.probabilities(floats(data.images[only[:5]]))
    assert probability.shape == (2, 5, 2) and probability.dtype == torch.float32
    yes = (probability.numpy() >= 0.5).astype(float)
    expected = np.concatenate([yes, yes.prod(-1, keepdims=True)], -1).mean(0)
    np.testing.assert_array_equal(judge.verdicts(floats(data.images[only[:5]])), expected)


def test_same_seed_same_bits_and_the_global_state_is_untouched(world, judge, tiny):
    torch.manual_seed(123)
    state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    again = train_judge(*world, tiny, progress=False)
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    assert again.card == judge.card
    for name, value in judge.tensors().items():
        assert torch.equal(value, again.tensors()[name]), name


def test_cross_fitting_no_classifier_ever_touches_what_it_must_not(world, monkeypatch):
    """The pixels each fit is handed, not its bookkeeping: every picture is unique, so its bytes name it."""
    data, _, split = world
    row_of = {image.tobytes(): row for row, image in enumerate(data.images)}
    handed = {}
    real = judge_net.fit

    def spy(material, config, member, device, bar):
        handed[member] = {row_of[image.numpy().tobytes()] for image in material.images}
        return real(material, config, member, device, bar)

    monkeypatch.setattr("facegan.evaluation.judge.judge.fit", spy)
    judge = train_judge(*world, JudgeConfig(steps=2, batch=10, width=4, checks=1), progress=False)
    for member in (0, 1):
        assert handed[member] == set(split.judge) | set(split.joint_halves[member])
        assert handed[member].isdisjoint(split.joint_halves[1 - member]) and handed[member].isdisjoint(split.train)
        assert {data.table.ids[row] for row in handed[member]} == set(judge.learnt_ids[member])


def test_validation_images_are_never_drawn(world, monkeypatch):
    drawn, real = [], judge_net.draw_batch

    def spy(material, *arguments):
        for stratum in material.strata:
            assert not set(stratum) & set(material.validation)
        drawn.append(len(material.validation))
        return real(material, *arguments)

    monkeypatch.setattr(judge_net, "draw_batch", spy)
    train_judge(*world, JudgeConfig(steps=2, batch=10, width=4, checks=1), progress=False)
    assert drawn and min(drawn) > 0


def test_batches_are_balanced_over_the_strata():
    images = torch.arange(50, dtype=torch.uint8).reshape(50, 1, 1, 1).expand(50, 3, 8, 8).contiguous()
    labels = torch.zeros(50, 1)
    labels[:2] = 1
    material = judge_net.Material(images, labels, (np.arange(2), np.arange(2, 50)), np.arange(0), 1)
    config = JudgeConfig(batch=32, blend=0.0)
    _, known, hard = judge_net.draw_batch(material, config, 0.0, torch.Generator().manual_seed(1))
    assert known.sum() == 16 and not hard.any()


def test_save_and_load_give_the_same_judge(world, judge, tmp_path):
    judge.save(tmp_path / "j")
    names = sorted(path.name for path in (tmp_path / "j").iterdir())
    assert names == ["judge.json", "judge.safetensors", "judge_ids.json"]
    torch.manual_seed(9)
    state = torch.random.get_rng_state()
    loaded = Judge.load(tmp_path / "j")
    assert torch.equal(state, torch.random.get_rng_state())
    images = floats(world[0].images[:20])
    assert torch.equal(loaded.probabilities(images), judge.probabilities(images))
    assert loaded.card == judge.card and loaded.learnt_ids == judge.learnt_ids


def test_load_is_strict(judge, tmp_path):
    with pytest.raises(FaceganError, match="complete"):
        Judge.load(tmp_path)
    judge.save(tmp_path)
    blob = bytearray((tmp_path / "judge.safetensors").read_bytes())
    blob[-1] ^= 1
    (tmp_path / "judge.safetensors").write_bytes(bytes(blob))
    with pytest.raises(FaceganError, match="weights"):
        Judge.load(tmp_path)
    judge.save(tmp_path)
    card = json.loads((tmp_path / "judge.json").read_text())
    (tmp_path / "judge.json").write_text(json.dumps(card | {"format": 99}))
    with pytest.raises(FaceganError, match="format"):
        Judge.load(tmp_path)


@pytest.mark.parametrize("file", ["judge.json", "judge_ids.json"])
def test_damaged_cards_are_told(judge, tmp_path, file):
    judge.save(tmp_path)
    whole = json.loads((tmp_path / file).read_text())
    texts = ["null", "[]", "[" * 100_000, '{"format": 2}', "1" + "0" * 400, '"x"', "[[1], []]"]
    if file == "judge.json":
        wrong = [None, [], {}, "x" * 10**6, 2**63, [None], {"width": 10**6, "resolution": 32}]
        needed = ("attributes", "resolution", "config", "data", "members", "weights_sha256", "ceiling", "balanced_accuracy")
        fine = [("ceiling", None), ("balanced_accuracy", {})]
        texts += [json.dumps(whole | {key: value}) for key in needed for value in wrong if (key, value) not in fine]
    for text in texts:
        (tmp_path / file).write_text(text)
        try:
            Judge.load(tmp_path)
        except FaceganError as error:
            assert "does not hold a complete judge" in str(error) and str(error).isprintable() and len(str(error)) < 600
        else:
            raise AssertionError(text[:200])


def test_the_cache_is_used_only_for_the_same_question(world, tmp_path, monkeypatch):
    data, groups, split = world
    config = JudgeConfig(steps=2, batch=10, width=4, checks=1)
    first = load_or_train(data, groups, split, config, cache_dir=tmp_path, progress=False)
    calls = []
    monkeypatch.setattr("facegan.evaluation.judge.judge.train_judge", lambda *a, **k: calls.append(a) or first)
    again = load_or_train(data, groups, split, config, cache_dir=tmp_path, progress=False)
    assert not calls and again.card == first.card and len(list(tmp_path.iterdir())) == 1
    other_data = SimpleNamespace(**{**vars(data), "fingerprint": "bands-2"})
    other_groups = Groups(groups.attributes[::-1], groups.only[::-1], groups.joint, groups.excluded, groups.usable)
    other_split = Split(split.train[1:], split.judge, split.joint_halves)
    for changed in ((other_data, groups, split), (data, other_groups, split), (data, groups, other_split)):
        load_or_train(*changed, config, cache_dir=tmp_path, progress=False)
    load_or_train(data, groups, split, JudgeConfig(steps=3, batch=10, width=4), cache_dir=tmp_path, progress=False)
    assert len(calls) == 4


def test_a_judge_that_knows_what_it_must_not_is_refused(world, judge, tmp_path):
    data, groups, split = world
    judge.save(tmp_path)
    for same in (judge, Judge.load(tmp_path)):
        refuse_partial(same, data, split)
    other = SimpleNamespace(**{**vars(data), "fingerprint": "bands-2"})
    with pytest.raises(FaceganError, match="the images of 'bands' are others"):
        refuse_partial(judge, other, split)
    # one image of the judge's quarter, which the generator of another split learns from
    learnt = next(row for row in split.judge if all(data.table.ids[row] in ids for ids in judge.learnt_ids))
    with pytest.raises(FaceganError, match=f"1 images of the generator's side, such as {data.table.ids[learnt]}"):
        refuse_partial(judge, data, Split(np.append(split.train, learnt), split.judge, split.joint_halves))
    with pytest.raises(FaceganError, match="joint half"):
        refuse_partial(judge, data, Split(split.train, split.judge, split.joint_halves[::-1]))


def test_bad_input_is_named(world, judge, tiny):
    data, groups, split = world
    for bad in (torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 16, 16, dtype=torch.uint8), torch.zeros(3, 16, 16)):
        with pytest.raises(FaceganError, match="images"):
            judge.probabilities(bad)
    with pytest.raises(FaceganError, match="finite"):
        judge.probabilities(torch.full((1, 3, 16, 16), float("nan")))
    assert judge.verdicts(torch.zeros(0, 3, 16, 16)).shape == (0, 3)
    leaking = Split(split.train, np.append(split.judge, split.joint_halves[0][0]), split.joint_halves)
    with pytest.raises(FaceganError, match="split"):
        train_judge(data, groups, leaking, tiny, progress=False)
    poor = Split(split.train, np.setdiff1d(split.judge, groups.only[0]), split.joint_halves)
    with pytest.raises(FaceganError, match="top only"):
        train_judge(data, groups, poor, tiny, progress=False)


def test_large_images_are_judged_at_the_nets_resolution(world):
    data, groups, split = world
    large = SimpleNamespace(**{**vars(data), "images": data.images.repeat(2, 2).repeat(2, 3)})
    config = JudgeConfig(steps=2, batch=10, width=4, checks=1, resolution=16)
    judge = train_judge(large, groups, split, config, progress=False)
    assert judge.resolution == 32
    assert judge.verdicts(floats(large.images[:3])).shape == (3, 3)


def test_fit_keeps_the_best_validated_average(world, tiny):
    data, _, _ = world
    values = data.table.values[:, :2]
    labels = torch.from_numpy(values.copy())
    kinds = ((1, 0), (0, 1), (1, 1), (0, 0))
    strata = tuple(np.flatnonzero((values[:300] == kind).all(1)) for kind in kinds)
    known = torch.cat([labels, labels[:, :1]], 1)
    material = judge_net.Material(torch.from_numpy(data.images), known, strata, np.arange(300, 400), 2)
    net, record = judge_net.fit(material, tiny, 0, torch.device("cpu"), tqdm(disable=True))
    score = judge_net.balanced_nll(judge_net.logits_of(net, material.images[300:])[:, :2], labels[300:]).sum().item()
    assert net.head.out_features == 3  # the attributes, then the other column
    assert score == pytest.approx(record["validation_nll"], abs=1e-5)
    assert not any(p.requires_grad for p in net.parameters())
