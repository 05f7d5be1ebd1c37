"""Random differentiable views."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from _toolio.errors import UsageError
from facetools.transforms import differentiable as views
from facetools.transforms.differentiable import NAMES, RandomViews, parse_views

SIZES = [(60, 70), (80, 40), (33, 47)]


@pytest.fixture(scope="module")
def face(real_people: dict[str, list[bytes]]) -> torch.Tensor:
    """A real photo, [1, 3, 121, 133]: no multiple of 16."""
    photo = Image.open(io.BytesIO(next(iter(real_people.values()))[0])).convert("RGB").crop((60, 60, 193, 181))
    return torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255


def noise(count: int = 1, height: int = 48, width: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def pillow(photo: torch.Tensor, quality: int) -> torch.Tensor:
    data = io.BytesIO()
    pixels = (photo[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(data, "JPEG", quality=quality, subsampling="4:2:0")
    return torch.from_numpy(np.array(Image.open(data))).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize("quality", [10, 50, 75, 95])
def test_jpeg_is_pillows(face: torch.Tensor, quality: int) -> None:
    ours, theirs = views.jpeg(face, quality), pillow(face, quality)
    apart, lost = ((x - theirs).abs().mean().item() * 255 for x in (ours, face))
    assert apart < 0.6  # of 255
    assert apart < lost / 2


def kornias(photo: torch.Tensor, quality: int, *tables: torch.Tensor) -> torch.Tensor:
    from kornia.enhance import jpeg_codec_differentiable

    made: torch.Tensor = jpeg_codec_differentiable(photo, torch.tensor([float(quality)]), *tables)
    return made


@pytest.mark.parametrize(
    ("quality", "colour", "grey"), [(10, 2.2, 1.3), (25, 1.9, 1.0), (50, 1.6, 0.9), (75, 1.2, 0.9)]
)
def test_jpeg_is_kornias(face: torch.Tensor, quality: int, colour: float, grey: float) -> None:
    # Kornia rounds to round(x) + (x - round(x))^3, which lets an eighth of a quantisation step through, and does not
    # round samples between the stages: a quarter more than was measured on a face, of 255. A JPEG takes three times
    # as much from the photo.
    for photo, most in ((face, colour), (face[:, 1:2].expand(-1, 3, -1, -1).contiguous(), grey)):
        ours, theirs = views.jpeg(photo, quality), kornias(photo, quality)
        apart, lost = ((x - theirs).abs().mean().item() * 255 for x in (ours, photo))
        assert apart < most
        assert apart < 0.6 * lost


@pytest.mark.parametrize("quality", [5, 10, 25, 50])
def test_the_steps_of_jpeg_are_kornias(face: torch.Tensor, quality: int) -> None:
    # At quality 50 the tables that it is given are not scaled. Qualities at which its own scaling, which does not round
    # to whole steps either, has next to nothing to round.
    tables = [views._steps(quality, plane, face.device) for plane in (0, 1)]
    torch.testing.assert_close(kornias(face, 50, *tables), kornias(face, quality), rtol=0, atol=0.01 / 255)


def test_jpeg_of_a_flat_photo_keeps_it() -> None:
    flat = torch.full((2, 3, 20, 30), 128 / 255)
    torch.testing.assert_close(views.jpeg(flat, 50), flat, rtol=0, atol=1e-5)


def test_the_slope_of_jpeg_is_useful(face: torch.Tensor) -> None:
    # Making a photo, as it is after JPEG, redder must be possible by following the slope.
    goal = (face + 0.04 * torch.tensor([1.0, -1.0, 0.0]).view(3, 1, 1)).clamp(0, 1)
    photo = face.clone()
    losses = []
    for _ in range(12):
        leaf = photo.clone().requires_grad_(True)
        loss = (views.jpeg(leaf, 60) - goal).square().mean()
        (slope,) = torch.autograd.grad(loss, leaf)
        assert slope.isfinite().all()
        losses.append(loss.item())
        photo = (photo - 0.004 * slope.sign()).clamp(0, 1)
    assert min(losses) < 0.5 * losses[0]


@pytest.mark.parametrize("factor", [0.5, 0.77, 1.5])
def test_resize_keeps_the_size_and_smooths(face: torch.Tensor, factor: float) -> None:
    out = views.resize(face, factor)
    assert out.shape == face.shape
    torch.testing.assert_close(out.mean(), face.mean(), rtol=0, atol=2e-3)
    assert (out[..., 1:] - out[..., :-1]).abs().mean() <= (face[..., 1:] - face[..., :-1]).abs().mean()
    assert 0 < (out - face).abs().mean() < 0.05


def test_blur_is_pillows_within_rounding(face: torch.Tensor) -> None:
    # Pillow adds up three boxes; a pixel of sigma is about what that resembles.
    from PIL import ImageFilter

    photo = Image.fromarray((face[0].permute(1, 2, 0) * 255).round().byte().numpy())
    theirs = torch.from_numpy(np.array(photo.filter(ImageFilter.GaussianBlur(1.5)))).permute(2, 0, 1) / 255
    ours = views.blur(face, 1.5)[0]
    assert (ours - theirs)[:, 8:-8, 8:-8].abs().mean() < 1.0 / 255


def test_move_puts_things_where_it_says() -> None:
    photo = torch.zeros(1, 3, 40, 60)
    photo[:, :, 20, 30] = 1.0

    def centre(out: torch.Tensor) -> tuple[float, float]:
        weights = out[0, 0] / out[0, 0].sum()
        y, x = torch.meshgrid(torch.arange(40.0), torch.arange(60.0), indexing="ij")
        return float((weights * x).sum()), float((weights * y).sum())

    torch.testing.assert_close(views.move(photo), photo, rtol=0, atol=1e-5)
    assert centre(views.move(photo, right=0.1)) == pytest.approx((34, 20), abs=1e-3)
    assert centre(views.move(photo, down=-0.05)) == pytest.approx((30, 18), abs=1e-3)
    photo = torch.zeros(1, 3, 41, 61)
    photo[:, :, 20, 40] = 1.0  # ten pixels right of the centre

    def place(out: torch.Tensor) -> tuple[int, int]:
        y, x = divmod(int(out[0, 0].argmax()), 61)
        return x, y

    assert place(views.move(photo, zoom=1.5)) == (45, 20)
    assert place(views.move(photo, turn_degrees=90)) == (30, 30)  # clockwise: from the right to below


@pytest.mark.parametrize("name", NAMES)
def test_views_are_differentiable_and_stay_in_range(name: str) -> None:
    leaf = noise().requires_grad_(True)
    random_views = RandomViews([name], [3])
    for _ in range(8):
        out = random_views(leaf)
        assert out.shape == leaf.shape
        assert out.min() >= -1e-6
        assert out.max() <= 1 + 1e-6
        (slope,) = torch.autograd.grad((out * noise(seed=1)).sum(), leaf)
        assert slope.isfinite().all()
        assert (slope != 0).float().mean() > 0.5


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(8, 8), (9, 31), (1, 3)])
def test_small_regions(name: str, size: tuple[int, int]) -> None:
    random_views = RandomViews([name], [0])
    for _ in range(6):
        assert random_views(noise(1, *size)).isfinite().all()


def test_all_views_and_none_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    for name, draw in list(views._DRAWS.items()):

        def spied(generator: object, name: str = name, draw: Callable = draw) -> Callable:  # type: ignore[type-arg]
            drawn.append(name)
            return draw(generator)

        monkeypatch.setitem(views._DRAWS, name, spied)
    random_views, photo = RandomViews(NAMES, [1]), noise()
    for _ in range(100):
        before = len(drawn)
        shown = random_views(photo)
        assert len(drawn) > before or torch.equal(shown, photo)
    assert all(10 <= drawn.count(name) <= 32 for name in NAMES)
    assert 10 <= 100 - len(drawn) <= 32


def test_the_drawn_strengths_are_as_documented() -> None:
    import random

    draw = random.Random(0)
    strengths = [views._draw_jpeg(draw).keywords["quality"] for _ in range(500)]  # type: ignore[attr-defined]
    assert (min(strengths), max(strengths)) == (50, 95)
    sigmas = [views._draw_blur(draw).keywords["sigma_px"] for _ in range(200)]  # type: ignore[attr-defined]
    assert (min(sigmas), max(sigmas)) == (0.1, 1.5)


def test_a_photo_does_not_depend_on_its_batch() -> None:
    photos, seeds = noise(3), [5, 6, 7]
    together = RandomViews(NAMES, seeds)
    alone = [RandomViews(NAMES, [seed]) for seed in seeds]
    both = torch.cat([photos, photos.flip(3)])
    for _ in range(6):
        expected = [view(torch.cat([p[None], p.flip(2)[None]])) for view, p in zip(alone, photos, strict=True)]
        assert torch.equal(together(both), torch.stack(expected, 1).flatten(0, 1))


def test_runs_repeat_calls_differ_and_seeds_differ() -> None:
    photo = noise()
    first, again, other = (RandomViews(NAMES, [seed]) for seed in (1, 1, 2))
    outs = [[view(photo) for _ in range(6)] for view in (first, again, other)]
    assert all(torch.equal(a, b) for a, b in zip(outs[0], outs[1], strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(outs[0], outs[2], strict=True))
    assert any(not torch.equal(outs[0][0], b) for b in outs[0][1:])


def test_padding_does_not_leak_in() -> None:
    parts = [noise(1, *size, seed=n) for n, size in enumerate(SIZES)]
    batch = torch.ones(3, 3, 85, 75)
    for own, part in zip(batch, parts, strict=True):
        own[:, : part.shape[2], : part.shape[3]] = part[0]
    together = RandomViews(NAMES, [1, 2, 3], SIZES)
    alone = [RandomViews(NAMES, [seed]) for seed in (1, 2, 3)]
    for _ in range(8):
        for out, part, view in zip(together(batch), parts, alone, strict=True):
            height, width = part.shape[-2:]
            assert torch.equal(out[:, :height, :width], view(part)[0])
            assert out[:, height:].abs().sum() == 0
            assert out[:, :, width:].abs().sum() == 0


def test_views_made_in_inference_mode_serve_gradients() -> None:
    for cached in (views._colours, views._steps, views._cosines):
        cached.cache_clear()
    with torch.inference_mode():
        views.jpeg(noise(), 70)
    leaf = noise().requires_grad_(True)
    views.jpeg(leaf, 70).sum().backward()
    assert leaf.grad is not None


def test_names_are_read() -> None:
    assert parse_views("jpeg,resize") == ("jpeg", "resize")
    assert parse_views(" blur , jpeg,blur") == ("blur", "jpeg")
    assert parse_views("") == ()
    with pytest.raises(UsageError, match=r"views jpeg,sepia: no view is called sepia; choose from jpeg, resize"):
        parse_views("jpeg,sepia")


def test_reading_names_imports_nothing_heavy() -> None:
    code = (
        "import sys; from facetools.transforms.differentiable import parse_views; parse_views('jpeg,crop'); "
        "from facetools.transforms.preprocess import parse_preprocess; parse_preprocess('jpeg:75'); "
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
