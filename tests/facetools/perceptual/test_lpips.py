"""LPIPS, and where its weights come from. AlexNet's weights are random here: the formulas do not mind."""

from __future__ import annotations

import functools
import hashlib
import sys
import threading
import types
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from _toolio.errors import ToolError, UsageError
from _toolio.tensors.writer import write_safetensors
from facetools.perceptual import lpips
from facetools.perceptual.lpips import Lpips, open_lpips

CPU = torch.device("cpu")
SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """AlexNet's features, random."""
    draw = torch.Generator().manual_seed(0)
    out = {}
    for number, shape in SHAPES.items():
        fan = shape[1] * shape[2] * shape[3]
        out[f"features.{number}.weight"] = torch.randn(shape, generator=draw) * (2 / fan) ** 0.5
        out[f"features.{number}.bias"] = 0.1 * torch.randn(shape[0], generator=draw)
    return out


def linear(seed: int = 1) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        f"lin{n}.model.1.weight": torch.rand(1, shape[0], 1, 1, generator=draw)
        for n, shape in enumerate(SHAPES.values())
    }


@pytest.fixture
def file(state: dict[str, torch.Tensor], tmp_path: Path) -> Path:
    path = tmp_path / "both.pth"
    torch.save({**state, **linear()}, path)
    return path


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torchvision's, and no lpips package."""

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(lpips.metadata, "distribution", absent)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    torch.hub.set_dir(tmp_path / "home" / "hub")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "home" / "hub"))
    return tmp_path / "home" / "hub" / "checkpoints"


def opened(path: Path | None, *, allow_download: bool = False) -> Lpips:
    found = open_lpips(path, allow_download=allow_download, device=CPU)
    assert found is not None
    return found


def photos(count: int = 2, height: int = 80, width: int = 70, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def package(state: dict[str, torch.Tensor]) -> Iterator[Any]:
    """The lpips package's LPIPS with its own linear layers and our features."""
    try:
        metadata.distribution("lpips")
    except metadata.PackageNotFoundError:
        pytest.skip("package lpips is not installed")
    import torchvision.models  # noqa: F401 - before the stubs, which it would look at

    with pytest.MonkeyPatch.context() as patch:
        # It imports what only its training needs.
        for name, attribute in (("scipy", "ndimage"), ("scipy.ndimage", "zoom"), ("tqdm", "tqdm")):
            stub = types.ModuleType(name)
            setattr(stub, attribute, None)
            patch.setitem(sys.modules, name, stub)
        theirs = pytest.importorskip("lpips")
        models = {flag: theirs.LPIPS(net="alex", lpips=flag, pnet_rand=True, verbose=False) for flag in (True, False)}
        for model in models.values():
            own = model.net.state_dict()
            for name in own:  # slice1.0.weight
                own[name] = state["features." + name.split(".", 1)[1]]
            model.net.load_state_dict(own)
        yield models
        for name in [name for name in sys.modules if name.split(".")[0] == "lpips"]:
            patch.delitem(sys.modules, name)


@pytest.mark.parametrize("size", [(80, 70), (64, 64), (150, 131)])
def test_the_values_and_slopes_of_the_package(
    package: Any, state: dict[str, torch.Tensor], tmp_path: Path, size: tuple[int, int]
) -> None:
    torch.save(state, tmp_path / "alexnet.pth")
    ours = opened(tmp_path / "alexnet.pth")
    assert ours.name == "lpips-alex"
    clean = photos(2, *size)
    results = []
    for measure in (lambda x: ours.distance(x, clean), lambda x: package[True](2 * x - 1, 2 * clean - 1)[:, 0, 0, 0]):
        leaf = (0.9 * clean + 0.1 * photos(2, *size, seed=1)).requires_grad_(True)
        value = measure(leaf)
        results.append((value.detach(), torch.autograd.grad(value.sum(), leaf)[0]))
    (value, slope), (their_value, their_slope) = results
    torch.testing.assert_close(value, their_value, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(slope, their_slope, rtol=1e-3, atol=1e-6 * float(their_slope.abs().max()) * 100)


def test_the_baseline_of_the_package(package: Any, state: dict[str, torch.Tensor], cache: Path, tmp_path: Path) -> None:
    torch.save(state, tmp_path / "alexnet.pth")
    ours = opened(tmp_path / "alexnet.pth")
    assert ours.name == "lpips-alex-baseline"
    a, b = photos(2), photos(2, seed=1)
    expected = package[False](2 * a - 1, 2 * b - 1)[:, 0, 0, 0]
    torch.testing.assert_close(ours.distance(a, b), expected, rtol=1e-5, atol=1e-7)


def test_by_the_definition(file: Path, state: dict[str, torch.Tensor]) -> None:
    # One layer, one position, in double precision: the deepest map of a 64x64 photo has 3x3 positions.
    ours = opened(file)
    a, b = photos(1, 64, 64), photos(1, 64, 64, seed=1)

    def maps(x: torch.Tensor) -> list[torch.Tensor]:
        x = x.double() * 2 - 1
        x = (x - torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)) / torch.tensor([0.458, 0.448, 0.450]).view(
            3, 1, 1
        )
        out = []
        for number in SHAPES:
            if number in (3, 6):
                x = torch.nn.MaxPool2d(3, 2)(x)
            stride, padding = {0: (4, 2), 3: (1, 2)}.get(number, (1, 1))
            weight, bias = (state[f"features.{number}.{part}"].double() for part in ("weight", "bias"))
            x = torch.conv2d(x, weight, bias, stride, padding).relu()
            out.append(x)
        return out

    total = 0.0
    for (x, y), w in zip(zip(maps(a), maps(b), strict=True), linear().values(), strict=True):
        u, v = (z[0] / z[0].square().sum(0).sqrt() for z in (x, y))
        total += float(((u - v).square() * w[0].double()).sum(0).mean())
    assert ours.distance(a, b).item() == pytest.approx(total, rel=1e-5)


def test_equal_photos_are_alike_and_more_noise_is_farther(file: Path) -> None:
    ours = opened(file)
    clean, noise = photos(1), photos(1, seed=1) - 0.5
    near, far = (ours.distance((clean + amount * noise).clamp(0, 1), clean).item() for amount in (0.05, 0.3))
    assert ours.distance(clean, clean).item() == 0
    assert 0 < near < far


def test_a_reference_ignores_padding_and_keeps_the_order(file: Path) -> None:
    ours = opened(file)
    sizes = [(80, 70), (66, 90), (80, 70), (40, 30)]
    clean = [photos(1, *size, seed=n) for n, size in enumerate(sizes)]
    versions = [photos(1, *size, seed=10 + n) for n, size in enumerate(sizes * 2)]

    def lay(parts: list[torch.Tensor], seed: int) -> torch.Tensor:
        out = photos(len(parts), 85, 92, seed=seed)
        for own, part in zip(out, parts, strict=True):
            own[:, : part.shape[2], : part.shape[3]] = part[0]
        return out

    leaf = lay(versions, 31).requires_grad_(True)
    found = ours.to(lay(clean, 30), sizes)(leaf)
    expected = torch.cat([ours.distance(version, clean[n % 4]) for n, version in enumerate(versions)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    (slope,) = torch.autograd.grad(found.sum(), leaf)
    for own, (height, width) in zip(slope, sizes * 2, strict=True):
        assert own[:, :height, :width].abs().max() > 0
        assert own[:, height:].abs().sum() == 0
        assert own[:, :, width:].abs().sum() == 0


def test_a_reference_without_padding(file: Path) -> None:
    ours = opened(file)
    clean, versions = photos(2), photos(6, seed=1)
    with torch.inference_mode():
        reference = ours.to(clean)
    leaf = versions.clone().requires_grad_(True)
    found = reference(leaf)
    expected = torch.cat([ours.distance(versions[n : n + 2], clean) for n in (0, 2, 4)])
    torch.testing.assert_close(found.detach(), expected, rtol=1e-5, atol=1e-6)
    assert torch.autograd.grad(found.sum(), leaf)[0].abs().flatten(1).amax(1).min() > 0


@pytest.mark.parametrize("size", [(8, 8), (1, 5), (63, 200)])
def test_small_photos_are_enlarged(file: Path, size: tuple[int, int]) -> None:
    ours = opened(file)
    leaf = photos(1, *size).requires_grad_(True)
    value = ours.distance(leaf, photos(1, *size, seed=1))
    assert value.item() > 0
    assert torch.autograd.grad(value.sum(), leaf)[0].isfinite().all()


def test_a_dead_position_has_a_finite_slope(state: dict[str, torch.Tensor]) -> None:
    dead = {name: -tensor.abs() if name.endswith("bias") else tensor * 0 for name, tensor in state.items()}
    pairs = [(dead[f"features.{n}.weight"], dead[f"features.{n}.bias"]) for n in SHAPES]
    leaf = photos(1).requires_grad_(True)
    value = Lpips(pairs, None, CPU).distance(leaf, photos(1, seed=1))
    assert value.item() == 0
    assert torch.autograd.grad(value.sum(), leaf)[0].isfinite().all()


# --- where weights come from --------------------------------------------------------------------------


def test_every_layout_gives_the_same(file: Path, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    slices = {0: 1, 3: 2, 6: 3, 8: 4, 10: 5}
    package_like = {
        f"module.net.slice{slices[int(name.split('.')[1])]}.{name.split('.', 1)[1]}": tensor
        for name, tensor in state.items()
    }
    lins = {name.replace("lin", "lins."): tensor for name, tensor in linear().items()}
    torch.save({"state_dict": {**package_like, **lins}}, tmp_path / "a.pth")
    everything = {**state, **linear(), "classifier.1.weight": torch.zeros(2, 2)}
    write_safetensors(tmp_path / "b.safetensors", {k: v.numpy() for k, v in everything.items()}, {})
    names = [opened(path).sha256 for path in (file, tmp_path / "a.pth", tmp_path / "b.safetensors")]
    assert len(set(names)) == 1
    assert opened(file).name == "lpips-alex"


def test_other_weights_have_another_hash(file: Path, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({**state, **linear(2)}, tmp_path / "other.pth")
    assert opened(file).sha256 != opened(tmp_path / "other.pth").sha256


def test_no_weights_no_lpips_and_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("went to the network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", never)
    assert open_lpips(None, allow_download=False, device=CPU) is None
    assert not cache.exists()


def test_torchvisions_cache_is_used(cache: Path, state: dict[str, torch.Tensor]) -> None:
    cache.mkdir(parents=True)
    from torchvision.models import AlexNet_Weights

    torch.save(state, cache / AlexNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    assert opened(None).name == "lpips-alex-baseline"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def test_a_download_lands_in_the_cache(
    cache: Path,
    server: tuple[Path, str],
    state: dict[str, torch.Tensor],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder, address = server
    torch.save(state, folder / "x")
    name = f"alexnet-{hashlib.sha256((folder / 'x').read_bytes()).hexdigest()[:8]}.pth"
    (folder / "x").rename(folder / name)
    monkeypatch.setattr(lpips, "_alexnet_url", lambda: f"{address}/{name}")
    assert open_lpips(None, allow_download=False, device=CPU) is None
    first = opened(None, allow_download=True)
    assert (cache / name).read_bytes() == (folder / name).read_bytes()
    (folder / name).unlink()
    assert opened(None).sha256 == first.sha256
    assert capfd.readouterr() == ("", "")


def test_a_download_with_another_hash_is_refused(
    cache: Path, server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = server
    (folder / "alexnet-00000000.pth").write_bytes(b"something else")
    for name, why in (("alexnet-00000000.pth", "hash"), ("alexnet-11111111.pth", "404")):
        monkeypatch.setattr(lpips, "_alexnet_url", functools.partial(str, f"{address}/{name}"))
        with pytest.raises(ToolError, match=why) as caught:
            opened(None, allow_download=True)
        assert "\n" not in caught.value.message
        assert address in caught.value.message
        assert list(cache.iterdir()) == []


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        opened(tmp_path / "none.pth")


class _Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path("/nowhere").write_text, ("boo",))


def _damage(kind: str, state: dict[str, torch.Tensor], path: Path) -> None:
    whole = {**state, **linear()}
    if kind == "cut":
        torch.save(whole, path)
        path.write_bytes(path.read_bytes()[:-5000])
    elif kind == "noise":
        path.write_bytes(b"\x00\x01noise" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "code":
        torch.save({**whole, "more": _Harmful()}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "missing":
        torch.save({k: v for k, v in whole.items() if k != "features.6.bias"}, path)
    elif kind == "shape":
        torch.save({**whole, "features.6.bias": torch.zeros(3)}, path)
    elif kind == "nan":
        torch.save({**whole, "features.6.bias": torch.full((384,), torch.nan)}, path)
    else:
        torch.save({k: v for k, v in whole.items() if k != "lin3.model.1.weight"}, path)


@pytest.mark.parametrize(
    "kind", ["cut", "noise", "empty", "code", "list", "missing", "shape", "nan", "linear", "safetensors"]
)
def test_a_damaged_file_is_one_line(kind: str, state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        write_safetensors(path, {"features.0.bias": torch.zeros(64).numpy()}, {})
    else:
        _damage(kind, state, path)
    with pytest.raises(ToolError) as caught:
        opened(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
