"""The projection's terms against plain restatements of Karras et al. 2020a, appendix D, and what it achieves on its own network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pretend_gpu import pretend_gpu

from facegan.backend import use_backend
from facegan.checkpoints.networks import open_networks
from facegan.errors import FaceganError
from facegan.models.stylegan2 import StyleGAN2Config
from facegan.styles.perceptual import DiscriminatorFeatures, Pyramid
from facegan.styles.projection import (
    Projection,
    Settings,
    Whitened,
    autocorrelation,
    latent_distance,
    learning_rate,
    noise_maps,
    own_styles,
    standardize,
    w_statistics,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def start(projectable, seeds=(1, 2), *, keys=None, perceptual=None, **settings):
    targets = projectable.faces(*seeds)
    perceptual = perceptual or DiscriminatorFeatures(projectable.discriminator)
    return Projection(projectable.generator, perceptual, targets, keys or [f"photo {seed}" for seed in seeds], Settings(**settings))


def run(projection, steps):
    for _ in range(steps):
        projection.advance()
    return projection


# --- terms


def test_remoteness_is_1_for_the_networks_own_styles_and_grows_with_the_way(projectable):
    """By the root mean square, over other styles than those that the mean and its spread were found with."""
    mapping, layers = projectable.generator.mapping, projectable.generator.config.num_ws
    torch.manual_seed(4)
    mean = mapping(torch.randn(40_000, 32))[:, :1].mean(0)
    ws = mapping(torch.randn(2000, 32))
    assert latent_distance(projectable.generator, ws).square().mean().sqrt().item() == pytest.approx(1, abs=0.05)
    away = latent_distance(projectable.generator, mean + 2.5 * (ws - mean)) / latent_distance(projectable.generator, ws)
    assert away.shape == (2000,) and away.mean().item() == pytest.approx(2.5, abs=0.05)
    one = mean.repeat(1, layers, 1)
    one[:, 3] = ws[:1, 3]  # a single layer counts by its share
    shared = latent_distance(projectable.generator, one) / latent_distance(projectable.generator, ws[:1])
    assert shared.item() == pytest.approx(layers**-0.5, rel=0.05)


@pytest.mark.parametrize("architecture", ["skip", "stylegan1"])
def test_autocorrelation_equals_its_equation(architecture):
    """Map by map and shift by shift, in float64."""
    config = StyleGAN2Config(resolution=32, channel_base=64, channel_max=4, architecture=architecture)
    noise = torch.randn(3, config.num_noise, dtype=torch.float64)
    expected = torch.zeros(3, dtype=torch.float64)
    for image in range(3):
        rest = noise[image]
        for size in [4, 8, 16, 32]:
            for _ in range(1 if size == 4 and architecture == "skip" else 2):
                level, rest = rest[: size * size].reshape(size, size), rest[size * size :]
                while True:
                    side = len(level)
                    for dy, dx in ((0, 1), (1, 0)):
                        products = sum(level[y, x] * level[y - dy, x - dx] for y in range(side) for x in range(side))
                        expected[image] += (products / side**2) ** 2
                    if side <= 8:
                        break
                    level = (level[::2, ::2] + level[1::2, ::2] + level[::2, 1::2] + level[1::2, 1::2]) / 4 * 2
        assert not len(rest)
    torch.testing.assert_close(autocorrelation(noise, config), expected)


def test_the_learning_rate_rises_and_falls():
    rates = [learning_rate(step, 1000) for step in (0, 25, 50, 400, 750, 875, 1000)]
    assert rates == pytest.approx([0, 0.05, 0.1, 0.1, 0.1, 0.05, 0], abs=1e-12)


def test_the_mean_style_and_its_spread(projectable):
    mean, sigma = w_statistics(projectable.generator)
    w = projectable.generator.mapping(torch.randn(20_000, 32, generator=torch.Generator().manual_seed(5)))[:, 0].double()
    assert sigma.item() == pytest.approx((w - w.mean(0)).square().sum(1).mean().sqrt().item(), rel=0.02)
    assert (mean - w.mean(0)).norm() < 0.03 * sigma  # two means of so many styles are 0.012 sigma apart


def test_the_mean_style_of_a_conditional_network_is_over_its_labels(projectable):
    config = StyleGAN2Config(resolution=8, z_dim=4, w_dim=4, c_dim=2, mapping_layers=2, channel_base=32, channel_max=4)
    torch.manual_seed(0)
    generator = type(projectable.generator)(config).requires_grad_(False)
    mean, _ = w_statistics(generator)
    z = torch.randn(20_000, 4)
    each = [generator.mapping(z, label.expand(len(z), 2))[:, 0].mean(0) for label in torch.eye(2)]
    assert (each[0] - each[1]).norm() > 0.2  # the label matters
    torch.testing.assert_close(mean, (each[0] + each[1]) / 2, atol=0.03, rtol=0)


def test_noise_is_added_to_w_and_fades(projectable, monkeypatch):
    projection, seen = start(projectable, space="w+", steps=100), []
    image = projection._image
    monkeypatch.setattr(projection, "_image", lambda w: seen.append(w.detach() - projection.w.detach()) or image(w))
    for projection.step in (0, 30, 74, 75, 99):
        projection.advance()
    _, sigma = w_statistics(projectable.generator)
    for noise, t in zip(seen, (0, 0.3, 0.74), strict=False):
        expected = 0.05 * sigma * (1 - t / 0.75) ** 2
        assert noise.square().mean().sqrt().item() == pytest.approx(expected.item(), rel=0.15)  # of 384 numbers
    assert not seen[3].any() and not seen[4].any()
    assert (seen[0][0] / seen[0][0].norm() - seen[1][0] / seen[1][0].norm()).norm() > 0.5  # made again


class Blind:
    """Finds all images alike, so that the regulariser is all there is."""

    words = "nothing"

    def features(self, images):
        return images.flatten(1) * 0


def test_the_regulariser_weighs_1e5(projectable):
    projection = start(projectable, perceptual=Blind())
    noise = projection.noise.detach().double().requires_grad_()
    projection.advance()
    (expected,) = torch.autograd.grad(1e5 * autocorrelation(noise, projectable.generator.config).sum(), noise)
    torch.testing.assert_close(projection.noise.grad.double(), expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


def test_it_starts_at_the_nearest_of_the_networks_own_faces_and_adams_steps_have_the_learning_rate(projectable):
    projection = start(projectable, space="w+", steps=1000)
    generator, targets = projectable.generator, projectable.faces(1, 2)
    candidates = torch.cat([w_statistics(generator)[0][None], own_styles(generator)[:250]])
    like = DiscriminatorFeatures(projectable.discriminator)
    with torch.no_grad():
        faces = generator.synthesis(candidates[:, None].expand(-1, 6, -1), "const")
        apart = (like.features(targets)[:, None] - like.features(faces)[None]).square().sum(2)
        at_mean = (like.features(targets) - like.features(projection._image(w_statistics(generator)[0].repeat(2, 1, 1)))).square().sum(1)
    nearest = candidates[apart.argmin(1)][:, None].expand(-1, 6, -1)
    torch.testing.assert_close(projection.styles(), nearest, atol=0, rtol=0)
    torch.testing.assert_close(projection.start, at_mean, rtol=1e-4, atol=1e-6)
    projection.advance()  # at rate 0
    torch.testing.assert_close(projection.styles(), nearest, atol=0, rtol=0)
    projection.advance()  # at 0.1 / 50
    moved = (projection.styles() - nearest).abs()
    assert 0.0015 < moved.max() < 0.003  # Adam's early steps are about the rate, whatever the gradient


def test_few_steps_start_at_the_mean_style(projectable):
    mean, _ = w_statistics(projectable.generator)
    torch.testing.assert_close(start(projectable, steps=3).styles(), mean.expand(2, 6, -1), atol=0, rtol=0)


def test_the_prior_is_the_squared_length_in_a_space_where_own_styles_are_normal(projectable):
    """Mahalanobis' distance of styles before the mapping's last leaky ReLU, by the inverse covariance in float64."""
    styles = own_styles(projectable.generator)
    undone = torch.where(styles < 0, styles * 5, styles).double()
    covariance = np.cov(undone.numpy().T)
    whitened = Whitened(styles)
    some = styles[:50] * 1.7 - 0.3
    apart = torch.where(some < 0, some * 5, some).double().numpy() - undone.numpy().mean(0)
    singular, directions = np.linalg.svd(covariance)[1:]
    assert singular[-1] < 1e-4 * singular[0] < singular[-2]  # one direction is clamped
    expected = ((apart @ directions.T) ** 2 / np.maximum(singular, 1e-4 * singular[0])).sum(1)
    np.testing.assert_allclose(whitened(some).square().sum(1).numpy(), expected, rtol=1e-3)
    assert whitened(styles).square().mean(0).sort().values[1:].numpy() == pytest.approx(1, rel=1e-2)
    flat = Whitened(styles * torch.tensor([1.0] * 31 + [0.0]))  # a network that does not use a direction
    assert torch.isfinite(flat(some)).all()


@pytest.mark.parametrize("prior", [-0.001, float("nan"), float("inf")])
def test_other_priors_are_refused(prior):
    with pytest.raises(FaceganError, match="`prior` is .*: expected 0 or more"):
        Settings(prior=prior)


def test_a_stronger_prior_keeps_styles_nearer_to_those_of_the_network(projectable):
    lengths = []
    for prior in (0.0, 0.01, 1.0):
        projection = run(start(projectable, steps=40, prior=prior), 40)
        lengths.append(projection.whitened(projection.w).square().mean((1, 2)))
    assert (lengths[0] > lengths[1]).all() and (lengths[1] > lengths[2]).all()


def test_noise_maps_stay_normal(projectable):
    projection = run(start(projectable, steps=10), 3)
    for maps in noise_maps(projection.noise.detach().double(), projectable.generator.config):
        assert maps.mean((2, 3)).abs().max() < 1e-5 and (maps.var((2, 3), correction=0) - 1).abs().max() < 1e-5


def test_standardize_works_in_place_on_every_map():
    config = StyleGAN2Config(resolution=8, channel_base=32, channel_max=4)
    noise = torch.randn(2, config.num_noise) * 3 + 1
    dims = dict(dim=(2, 3), keepdim=True)
    expected = [(maps - maps.mean(**dims)) / maps.var(**dims, correction=0).sqrt() for maps in noise_maps(noise.clone(), config)]
    standardize(noise, config)
    torch.testing.assert_close(noise, torch.cat([maps.flatten(1) for maps in expected], dim=1))


@pytest.mark.parametrize("space", ["w", "w+"])
@pytest.mark.parametrize("likeness", ["discriminator", "pyramid"])
def test_a_step_on_a_gpu_waits_for_nothing_and_is_that_of_the_cpu(projectable, space, likeness):
    def stepped(device):
        networks = open_networks(projectable.folder)
        generator, discriminator = networks.generator().to(device), networks.discriminator().to(device)
        perceptual = DiscriminatorFeatures(discriminator) if likeness == "discriminator" else Pyramid()
        projection = Projection(generator, perceptual, projectable.faces(1, 2).to(device), ["a", "b"], Settings(space, 8, 0))
        yield projection.advance()
        waits = mode.waits if device != "cpu" else []
        waits.clear()
        for _ in range(7):  # with noise on w, and at last without
            yield projection.advance()
            assert waits == []

    with use_backend("reference"):
        expected = [*stepped("cpu")]
    with pretend_gpu() as mode:
        found = [distances.cpu() for distances in list(stepped("cuda:0"))]
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-4, atol=1e-5)


# --- what it achieves


@pytest.mark.parametrize("space", ["w", "w+"])
def test_it_finds_faces_of_its_own_network(projectable, space):
    projection = start(projectable, (1, 2, 3), space=space, steps=200)
    targets = projectable.faces(1, 2, 3)
    with torch.no_grad():
        mean_face = projection._image(w_statistics(projectable.generator)[0].repeat(3, 1, 1))
    before = (mean_face - targets).square().mean((1, 2, 3))
    run(projection, 200)
    after = (projection.images() - targets).square().mean((1, 2, 3))
    assert (projection.start / projection.distances()).min() >= 10
    assert (before / after).min() >= 10  # and the pixels agree that they are alike
    ws = projection.styles()
    assert ws.shape == (3, 6, 32) and bool((ws == ws[:, :1]).all()) == (space == "w")
    if space == "w":  # there the style itself is found, and not just another one of the same face
        true = projectable.ws(1, 2, 3)[:, 0]
        assert (torch.cdist(ws[:, 0], true).diagonal() < 0.5 * (true - projectable.generator.mapping.w_avg).norm(dim=1)).all()


def test_a_photo_does_not_depend_on_its_batch(projectable):
    alone = run(start(projectable, (4, 4), steps=30), 20)
    mixed = run(start(projectable, (9, 4), steps=30), 20)
    assert torch.equal(alone.w[1], mixed.w[1]) and torch.equal(alone.noise[1], mixed.noise[1])
    single = run(start(projectable, (4,), steps=30), 20)  # matrix products of another size round otherwise
    torch.testing.assert_close(single.w[0], mixed.w[1], atol=1e-4, rtol=0)
    assert not torch.allclose(mixed.w[0], mixed.w[1], atol=0.01)


def test_random_numbers_follow_from_seed_and_photo(projectable):
    first, again, other_key, other_seed = (
        start(projectable, (4,), keys=[key], seed=seed).noise for key, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))
    )
    assert torch.equal(first, again) and not torch.equal(first, other_key) and not torch.equal(first, other_seed)


def test_state_goes_on_where_it_was(projectable):
    straight = run(start(projectable, steps=12), 12)
    half = run(start(projectable, steps=12), 7)
    tensors, metadata = half.state()
    tensors = {name: value.detach().clone() for name, value in tensors.items()}
    resumed = start(projectable, steps=12)
    resumed.load_state(tensors, metadata)
    run(resumed, 5)
    assert torch.equal(straight.w, resumed.w) and torch.equal(straight.noise, resumed.noise) and torch.equal(half.start, resumed.start)


def test_it_works_without_a_discriminator(projectable):
    projection = run(start(projectable, perceptual=Pyramid(), steps=60), 60)
    assert (projection.start / projection.distances()).min() > 3
