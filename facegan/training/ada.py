"""Adaptive discriminator augmentation (Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data").

`augment` is the paper's `bgc` pipeline (appendix B): pixel blitting, geometric and colour transformations, each decided for each
image on its own with probability p, for the reals and the fakes that a discriminator is shown. `Strength` controls p (section 3).

Nothing here waits for the device: shapes depend on shapes alone, and all that is random is a function of given numbers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

import torch
from torch import Tensor
from torch.nn import functional as F

from facegan import graphs
from facegan.errors import FaceganError
from facegan.ops import setup_filter, upfirdn2d
from facegan.ops.registration import uncast
from facegan.schema import Range, checked

NUMBERS = 28  # of one image: 13 decisions and their 15 parameters, in the order in which `augment` asks for them

# The orthogonal low-pass filter of sym6, Daubechies' least asymmetric wavelet of 6 vanishing moments: filtering down with it undoes
# filtering up exactly, at any offset by whole samples.
SYM6 = (
    0.01540410932704481, 0.00349071208422215, -0.11799011114851983, -0.04831174258569763, 0.49105594192797397, 0.7876411410286507,
    0.33792942172816554, -0.07263752278637654, -0.02106029251237075, 0.04472490177078137, 0.00176771186425398, -0.00780070832503239,
)  # fmt: skip
# How many samples late an impulse leaves the filter (its phase is nearly linear): where the pixels are between the samples.
DELAY = sum(k * tap for k, tap in enumerate(SYM6)) / sum(SYM6)
PAD = (3, 2, 3, 2)  # pixels around an image of which the filter makes the samples from its first to its last pixel
SMALLEST = max(PAD) + 1  # side of an image that can be reflected so far


def augment(images: Tensor, p: float | Tensor, u: Tensor) -> Tensor:
    """Images [N, 3, R, R] as the discriminator is to see them; differentiable, and image i a function of p and u[i] alone.

    Args:
        images: floating point, R >= 4; the result has their shape and dtype. The arithmetic is float32 at least.
        p: probability of each transformation, in [0, 1]; a tensor of no dimensions stays on its device.
        u: [N, NUMBERS], uniform in [0, 1).
    """
    _check(images, u)
    readable = not isinstance(p, Tensor) or (p.device.type == "cpu" and not graphs.recording())
    if readable and p == 0:
        return images  # to the bit what comes out below
    exact = torch.promote_types(images.dtype, torch.float32)
    numbers = Numbers(u.to(exact))
    with uncast(images):
        x = symmetries(images.to(exact), p, numbers)
        x = resample(x, motion(images.shape[2], p, numbers))
        return colour(x, p, numbers).to(images.dtype)


class Numbers:
    """Hands out u [N, K] column by column: a decision, then its parameters, which are 0 where decided against."""

    def __init__(self, u: Tensor) -> None:
        # Within (0, 1), also for float64 numbers that round to 1: at both ends the normal distribution is infinite.
        self.columns = iter(u.clamp(2**-25, 1 - 2**-24).unbind(1))

    def uniform(self, p: float | Tensor, low: float, high: float, count: int = 1) -> list[Tensor]:
        """`count` parameters [N] in [low, high), of one decision."""
        chosen = next(self.columns) < p
        return [chosen * (low + (high - low) * next(self.columns)) for _ in range(count)]

    def normal(self, p: float | Tensor, deviation: float, count: int = 1) -> list[Tensor]:
        """`count` parameters [N] of N(0, deviation^2), of one decision."""
        chosen = next(self.columns) < p
        return [chosen * (deviation * math.sqrt(2) * torch.erfinv(2 * next(self.columns) - 1)) for _ in range(count)]


def symmetries(x: Tensor, p: float | Tensor, numbers: Numbers) -> Tensor:
    """Pixel blitting without its translation: x-flip and rotation by 90 degrees, pixels copied as they are.

    These alone map the grid of pixels onto itself. Sampled like the rest they would cost sharpness, as sym6 is not symmetric.
    """
    (flip,) = numbers.uniform(p, 0, 2)
    (quarters,) = (q[:, None, None, None].floor() for q in numbers.uniform(p, 0, 4))
    x = torch.where(flip[:, None, None, None].floor() == 1, x.flip(3), x)
    x = torch.where(quarters % 2 == 1, x.rot90(1, (2, 3)), x)
    return torch.where(quarters >= 2, x.flip((2, 3)), x)


def motion(side: int, p: float | Tensor, numbers: Numbers) -> Tensor:
    """Integer translation and all geometric transformations: [N, 3, 3], from places in the result to places in the image.

    Places are (x, y, 1) in pixels from the centre. The inverse of the product is the product of inverses, first step leftmost.
    """
    # Two rotations, around the anisotropic scaling, that turn an image with probability p together.
    turning = 1 - (1 - p) ** 0.5
    whole = [(t * side).round() for t in numbers.uniform(p, -0.125, 0.125, count=2)]
    (zoom,) = numbers.normal(p, 0.2)
    (before,) = numbers.uniform(turning, -math.pi, math.pi)
    (stretch,) = numbers.normal(p, 0.2)
    (after,) = numbers.uniform(turning, -math.pi, math.pi)
    part = [t * side for t in numbers.normal(p, 0.125, count=2)]
    matrix = _shift(*whole) @ _scale(zoom, zoom) @ _turn(before)
    return matrix @ _scale(stretch, -stretch) @ _turn(after) @ _shift(*part)


def _shift(x: Tensor, y: Tensor) -> Tensor:
    """The inverse of moving by (x, y) pixels."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _matrix((one, zero, -x), (zero, one, -y), (zero, zero, one))


def _scale(x: Tensor, y: Tensor) -> Tensor:
    """The inverse of scaling by 2^x and 2^y."""
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    return _matrix((torch.exp2(-x), zero, zero), (zero, torch.exp2(-y), zero), (zero, zero, one))


def _turn(angle: Tensor) -> Tensor:
    """The inverse of turning x towards y by `angle`."""
    one, zero, cos, sin = torch.ones_like(angle), torch.zeros_like(angle), angle.cos(), angle.sin()
    return _matrix((cos, sin, zero), (-sin, cos, zero), (zero, zero, one))


def _matrix(*rows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """[N, 3, 3] of entries [N]."""
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def resample(x: Tensor, motion: Tensor) -> Tensor:
    """Move the pixels of x [N, C, R, R] by `motion`: upsample, one bilinear lookup, downsample (appendix B).

    Beyond its border the image is reflected. Here the lookup reflects places, without end, and no image is padded for it: a margin
    for the worst case would make the image 9 times as large, and one for the case at hand has a size that the host must wait for.
    The price: in that mirror sym6 is the wrong way round, which moves what is seen there by 0.1 pixels (0.003 rms on faces in
    [-1, 1]). An image that stays where it is would have it at its border, so it is kept as it is.
    """
    f = _sym6(x.device)
    fine = upfirdn2d(F.pad(x, PAD, mode="reflect"), f, up=2, gain=4)  # [N, C, 2R - 1, 2R - 1]
    grid = _places(motion, x.shape[2])
    moved = F.grid_sample(fine, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    moved = upfirdn2d(moved, f, down=2, flip_filter=True)
    stays = (motion == torch.eye(3, dtype=motion.dtype, device=motion.device)).flatten(1).all(1)
    return torch.where(stays[:, None, None, None], x, moved)


def _places(motion: Tensor, side: int) -> Tensor:
    """[N, 2R + 10, 2R + 10, 2]: where in the upsampled image to look up each sample that the filter makes R pixels of.

    The impulse of pixel i is centred at sample 2i + DELAY of 2R + 10, and of the upsampled image's 2R - 1 samples, which start
    at the fifth of them. That is 0.05 pixels from the first pixel's centre, about which the paper reflects.
    """
    half, first = (side - 1) / 2, len(SYM6) // 2 - 1
    samples = torch.arange(2 * side + len(SYM6) - 2, dtype=motion.dtype, device=motion.device)
    pixels = (samples - DELAY) / 2 - half  # from the centre, in the result
    # -1 .. 1 from the first to the last sample of the upsampled image; scaled here, where the tensors are small.
    column, row, origin = (motion[:, None, None, :2] / half).unbind(4)  # [N, 1, 1, 2] each
    origin = origin + (DELAY - first) / (side - 1)
    return column * pixels[None, None, :, None] + (row * pixels[None, :, None, None] + origin)


def colour(x: Tensor, p: float | Tensor, numbers: Numbers) -> Tensor:
    """Brightness, contrast, luma flip, hue rotation and saturation of x [N, 3, H, W], as one affine map of (r, g, b, 1).

    The paper's 4x4 matrices multiply in closed form. With v = (1, 1, 1) / sqrt(3), all but the first act on luma, v v^T, and on the
    chroma plane, I - v v^T, apart: contrast scales both, the luma flip I - 2 v v^T negates the one, hue and saturation turn
    (Rodrigues' formula) and scale the other.
    """
    (brightness,) = (b[:, None, None] for b in numbers.normal(p, 0.2))
    (contrast,) = (c[:, None, None].exp2() for c in numbers.normal(p, 0.5))
    (sign,) = (1 - 2 * i[:, None, None].floor() for i in numbers.uniform(p, 0, 2))
    (hue,) = (h[:, None, None] for h in numbers.uniform(p, -math.pi, math.pi))
    (saturation,) = (s[:, None, None].exp2() for s in numbers.normal(p, 1.0))
    one = torch.eye(3, dtype=x.dtype, device=x.device)
    luma = torch.full_like(one, 1 / 3)
    cross = (one.roll(1, 0) - one.roll(-1, 0)) / math.sqrt(3)  # of v: cross @ a = v x a
    matrix = contrast * (sign * luma + saturation * (hue.cos() * (one - luma) + hue.sin() * cross))
    stays = (contrast == 1) & (sign == 1) & (saturation == 1) & (hue == 0)
    matrix = torch.where(stays, one, matrix)  # an image that keeps its colours keeps every bit of them
    shift = (contrast * sign * brightness).expand(-1, 3, 1)  # brightness is luma
    return torch.baddbmm(shift, matrix, x.flatten(2)).view_as(x)


@functools.cache
def _sym6(device: torch.device) -> Tensor:
    """The filter on a device, sent there once; also usable for training when first asked for in inference mode."""
    with torch.inference_mode(False):
        return setup_filter(SYM6, device=device)


def _check(images: Tensor, u: Tensor) -> None:
    shape = list(images.shape)
    if len(shape) != 4 or shape[1] != 3 or shape[2] != shape[3] or shape[2] < SMALLEST or not images.is_floating_point():
        raise FaceganError(f"ada: images are {images.dtype} {shape}; expected floating point [N, 3, R, R] with R >= {SMALLEST}.")
    if list(u.shape) != [shape[0], NUMBERS]:
        raise FaceganError(f"ada: u has shape {list(u.shape)}; expected [{shape[0]}, {NUMBERS}], one row of numbers an image.")


class _State(TypedDict):
    p: Annotated[float, Range(0, 1)]
    r: Annotated[float, Range(-1, 1)]
    signs: float
    count: Annotated[float, Range(0)]
    batches: Annotated[int, Range(0, 3)]


class Strength:
    """The controller of p: up while the discriminator is too sure of the reals, down while it is not (section 3).

    The sign of r = E[sign(D(real))] less its target 0.6 moves p, every 4 batches, by the images seen since over 500,000: from 0 to 1
    in 500 kimg. p stays within 0.8: beyond it the augmentations leak into the generated images. All stays on the device.

        strength.update(scores.sign().sum(), len(scores))   # for each D(real), any number of times a batch
        strength.adjust(accelerator.reduce)                 # once a batch, on every process
        augment(images, strength.p, u)
    """

    EVERY, MOST = 4, 0.8

    def __init__(
        self, device: torch.device | str, *, fixed: float | None = None, start: float = 0.0, target: float = 0.6, kimg: float = 500.0
    ) -> None:
        """`fixed`: this p for ever; r is measured all the same. `start`: p at first, at most `MOST`. `target`, `kimg`: of r; of images
        from p = 0 to 1."""
        if fixed is not None and not 0 <= fixed <= 1:
            raise FaceganError(f"`augment_p` is {fixed}: expected a probability from 0 to 1, or omit it to have p adapt.")
        self.fixed, self.target, self.images = fixed, target, 1000 * kimg
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.p = zero + (min(start, self.MOST) if fixed is None else fixed)
        self.r = zero.clone()  # of the last 4 batches that p was adjusted by
        self.batches = zero.clone()  # since p was adjusted
        self.batch = zero.new_zeros(2)  # sum of signs and count of images: in this batch and on this process
        self.sums = zero.new_zeros(2)  # in the batches before, since p was adjusted, and on all processes

    @property
    def tensors(self) -> list[Tensor]:
        """Everything that changes, and changes in place: a CUDA graph reads and writes it where it is."""
        return [self.p, self.r, self.batches, self.batch, self.sums]

    def update(self, sign_sum: Tensor, count: int) -> None:
        """Note the sum of sign(D(real)) over `count` images of this process."""
        self.batch += torch.stack([sign_sum.detach().double(), torch.full_like(self.p, count)])

    def adjust(self, reduce: Callable[[Tensor], Tensor] = lambda sums: sums) -> None:
        """A batch has ended; every 4th time, move p. `reduce` sums a tensor over all processes.

        It is asked for at every batch, so that whatever `state` saves is the same on all processes.
        """
        self.sums += reduce(self.batch)
        self.batch.zero_()
        self.batches += 1
        due = self.batches == self.EVERY
        signs, count = self.sums.unbind()
        self.r.copy_(torch.where(due, signs / count, self.r))
        if self.fixed is None:
            moved = (self.p + (self.r - self.target).sign() * count / self.images).clamp(0, self.MOST)
            self.p.copy_(torch.where(due, moved, self.p))
        self.batches *= ~due
        self.sums *= ~due

    def state(self) -> dict[str, float]:
        """As a checkpoint's metadata, between batches; JSON keeps every bit of a float."""
        signs, count = self.sums.tolist()
        return {"p": self.p.item(), "r": self.r.item(), "signs": signs, "count": count, "batches": int(self.batches)}

    def load_state(self, metadata: dict[str, Any]) -> None:
        """What `state` gave; FaceganError for anything else."""
        known: _State = checked(metadata, _State, "its state", "strength")
        self.p.fill_(known["p"])
        self.r.fill_(known["r"])
        self.batches.fill_(known["batches"])
        self.sums.copy_(torch.tensor([known["signs"], known["count"]], dtype=torch.float64))
