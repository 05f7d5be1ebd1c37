"""maskdiff on masks counted by hand, and its z against masks drawn at random."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from berttools.checkpoints.files import Checkpoint, open_checkpoint
from berttools.checkpoints.groups import layer_and_group
from berttools.masks.base import check_base
from berttools.masks.file import open_mask
from berttools.masks.writer import write_mask
from conftest import Run
from tiny_models import make_base, make_mask, make_tuned

QUERY, OUTPUT, FUSED = (
    f"model.layers.{n}.{name}.weight" for n, name in ((0, "attention.self.query"), (1, "mlp.Wo"), (1, "attn.Wqkv"))
)
SHAPES = {QUERY: (4, 4), OUTPUT: (4, 8), FUSED: (12, 4)}


def base_of(seed: int, path: Path) -> Checkpoint:
    """Give a base with these matrices."""
    rng = np.random.default_rng(seed)
    save_file({name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}, path)
    return open_checkpoint(path)


@pytest.fixture
def weights(tmp_path: Path) -> Checkpoint:
    return base_of(0, tmp_path / "base.safetensors")


def written(tmp_path: Path, weights: Checkpoint, name: str, zeros: dict[str, list[int]], code: str = "bits") -> Path:
    """Zero entries of each matrix by their number."""
    keeps = {}
    for matrix, some in zeros.items():
        keep = np.ones(SHAPES[matrix], np.bool_)
        keep.reshape(-1)[some] = False
        keeps[matrix] = keep
    head = {"classifier.bias": np.zeros(2, np.float32)}
    write_mask(tmp_path / name, keeps, head, "{}", weights, {}, code=code)
    return tmp_path / name


def test_one_mask(berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint) -> None:
    mask = written(tmp_path, weights, "a", {QUERY: [0, 1, 2, 3], OUTPUT: [5], FUSED: [16, 31, 47]})
    done = berttools("maskdiff", mask)
    assert (done.code, done.err) == (0, "")
    named = [record["name"] for record in done.records]
    assert named == [QUERY, *3 * [FUSED], OUTPUT], "by layer, then in the order of groups"
    found = {record["name"]: record for record in done.records}
    assert found[QUERY] == {
        "sparsity": 0.25, "schema": "berttools.maskdiff/1", "mask": str(mask), "by": "tensor", "name": QUERY,
        "layer": 0, "group": "Q", "shape": [4, 4], "weights": 16, "zeroed": 4, "bytes": 2, "bits_per_weight": 1.0,
        "tensors": 1, "code": "bits",
    }  # fmt: skip
    assert [(record["layer"], record["group"]) for record in done.records[1:]] == [(1, group) for group in "QKVO"]
    parts = [{"axis": 0, "start": start, "stop": start + 4} for start in (0, 4, 8)]
    fused = [record for record in done.records if record["name"] == FUSED]
    assert [record["part"] for record in fused] == parts
    assert [(r["shape"], r["weights"], r["zeroed"], r["bytes"]) for r in fused] == [
        ([4, 4], 16, 0, 2), ([4, 4], 16, 2, 2), ([4, 4], 16, 1, 2),
    ]  # fmt: skip
    (whole,) = berttools("maskdiff", mask, "--by", "model").records
    assert (whole["zeroed"], whole["weights"], whole["tensors"], whole["bytes"]) == (8, 96, 5, 12)
    assert (whole["dense_bytes"], whole["file_bytes"], whole["code"]) == (8, mask.stat().st_size, "bits")
    assert whole["sparsity"] == pytest.approx(8 / 96, abs=1e-6)
    layers = berttools("maskdiff", mask, "--by", "layer").records
    assert [(record["layer"], record["zeroed"], record["weights"]) for record in layers] == [(0, 4, 16), (1, 4, 80)]
    groups = berttools("maskdiff", mask, "--by", "group").records
    assert [(record["group"], record["zeroed"]) for record in groups] == [
        ("Q", 4), ("K", 2), ("V", 1), ("O", 1),
    ]  # fmt: skip


def test_two_masks_by_hand(berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint) -> None:
    one = written(tmp_path, weights, "a", {QUERY: [0, 1, 2, 3], OUTPUT: [5]})
    other = written(tmp_path, weights, "b", {QUERY: [2, 3, 4], OUTPUT: [5], FUSED: [1]})
    done = berttools("maskdiff", one, other)
    assert done.code == 0
    query, output = done.records
    assert (query["name"], query["mask"], query["mask_b"]) == (QUERY, str(one), str(other))
    assert (query["jaccard"], query["overlap"], query["hamming"]) == (0.4, 2, 3)
    assert (query["sparsity_a"], query["sparsity_b"]) == (0.25, 3 / 16)
    assert query["overlap_expected"] == 0.75
    assert query["z"] == pytest.approx(1.25 / (4 * 3 * 12 * 13 / (16 * 16 * 15)) ** 0.5)
    assert (output["jaccard"], output["overlap"], output["hamming"]) == (1.0, 1, 0)
    (whole,) = berttools("maskdiff", one, other, "--by", "model").records
    assert (whole["overlap"], whole["hamming"], whole["tensors"], whole["weights"]) == (3, 3, 2, 48)
    assert whole["jaccard"] == 0.5
    assert whole["overlap_expected"] == pytest.approx(0.75 + 1 / 32)
    variance = 4 * 3 * 12 * 13 / (16 * 16 * 15) + 31 * 31 / (32 * 32 * 31)
    assert whole["z"] == pytest.approx((3 - 0.75 - 1 / 32) / variance**0.5)


def test_every_two_of_three(berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint) -> None:
    paths = [written(tmp_path, weights, name, {QUERY: [number]}) for number, name in enumerate("abc")]
    records = berttools("maskdiff", *paths, "--by", "model").records
    pairs = [(Path(record["mask"]).name, Path(record["mask_b"]).name) for record in records]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c")]
    assert {record["jaccard"] for record in records} == {0.0}


def test_a_pair_with_nothing_in_common_is_a_record(
    berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint
) -> None:
    paths = [
        written(tmp_path, weights, name, {matrix: [0]}) for name, matrix in (("a", QUERY), ("b", QUERY), ("c", OUTPUT))
    ]
    for by in ("tensor", "layer", "group", "model"):
        done = berttools("maskdiff", *paths, "--by", by)
        assert (done.code, done.err) == (0, "")
        assert [(record["jaccard"], record.get("reason")) for record in done.records] == [
            (1.0, None), (None, "they mask no matrix in common"), (None, "they mask no matrix in common"),
        ]  # fmt: skip
        assert done.records[1]["mask_b"] == str(paths[2])
    assert berttools("maskdiff", *paths, "--heatmap", tmp_path / "h.png").code == 0


def test_matrices_of_one_mask_alone_are_counted(
    berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint
) -> None:
    one = written(tmp_path, weights, "a", {QUERY: [0], OUTPUT: [1], FUSED: [1]})
    other = written(tmp_path, weights, "b", {QUERY: [0]})
    (record,) = berttools("maskdiff", one, other, "--by", "model").records
    assert (record["tensors"], record["left_out_a"], "left_out_b" in record) == (1, 4, False)
    (record,) = berttools("maskdiff", other, one, "--by", "model").records
    assert ("left_out_a" in record, record["left_out_b"]) == (False, 4)


def test_one_digest_tells_bases_apart(berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint) -> None:
    bases = {"a": weights, "b": weights, "c": other_weights(tmp_path)}
    found = {}
    for number, (name, base) in enumerate(bases.items()):
        path = written(tmp_path, base, name, {QUERY: [number], OUTPUT: [1]})
        (record,) = berttools("maskdiff", path, "--by", "model").records
        found[name] = record["masked_sha256"]
        assert found[name] == open_mask(path).masked_sha256
        assert found[name] in berttools("maskdiff", path, "--by", "model", "--csv").out.decode()
    assert found["a"] == found["b"] != found["c"]
    assert all("masked_sha256" not in record for record in berttools("maskdiff", path).records)


def other_weights(tmp_path: Path) -> Checkpoint:
    """Give another base with the same matrices."""
    return base_of(1, tmp_path / "other.safetensors")


def test_the_base_of_one_mask_is_checked(berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint) -> None:
    mask = written(tmp_path, weights, "a", {QUERY: [0, 1]})
    assert berttools("maskdiff", mask, "--base", weights.path).code == 0
    for base, words in ((tmp_path / "none", "no such file"), (other_weights(tmp_path).path, "made for another base")):
        refused = berttools("maskdiff", mask, "--base", base)
        assert refused.code == 1
        assert words in refused.err


def of_shapes(tmp_path: Path, name: str, shapes: dict[str, tuple[int, ...]]) -> Path:
    """Write a mask of its own base, the first entry of each matrix zeroed."""
    rng = np.random.default_rng(0)
    save_file(
        {each: rng.standard_normal(shape).astype(np.float32) for each, shape in shapes.items()},
        tmp_path / f"{name}.base",
    )
    keeps = {each: np.arange(np.prod(shape)).reshape(shape) > 0 for each, shape in shapes.items()}
    write_mask(tmp_path / name, keeps, {}, "{}", open_checkpoint(tmp_path / f"{name}.base"), {}, code="bits")
    return tmp_path / name


@pytest.mark.parametrize("by", ["tensor", "layer", "group", "model"])
def test_a_matrix_of_two_shapes_is_an_error_of_its_own(berttools: Callable[..., Run], tmp_path: Path, by: str) -> None:
    one = of_shapes(tmp_path, "a", {QUERY: (4, 4), OUTPUT: (4, 8)})
    other = of_shapes(tmp_path, "b", {QUERY: (4, 4), OUTPUT: (4, 6)})
    done = berttools("maskdiff", one, other, "--by", by, "--heatmap", tmp_path / "h.png")
    assert (done.code, done.err) == (3, "")
    counted, refused = done.records
    assert (counted["jaccard"], counted["tensors"], "error" in counted) == (1.0, 1, False)
    assert (refused["jaccard"], refused["mask_b"], refused["name"], refused["layer"]) == (None, str(other), OUTPUT, 1)
    assert refused["error"]["message"] == (
        f"{one} and {other}: {OUTPUT} has the shapes 4x8 and 4x6; give masks of one base"
    )
    assert "give masks of one base" in berttools("maskdiff", one, other, "--by", by, "--csv").out.decode()


def test_masks_whose_matrices_all_have_two_shapes(berttools: Callable[..., Run], tmp_path: Path) -> None:
    one, other = (of_shapes(tmp_path, name, {QUERY: (n, 4), OUTPUT: (4, n)}) for name, n in (("a", 4), ("b", 5)))
    done = berttools("maskdiff", one, other)
    assert (done.code, done.out, done.err.count("\n")) == (1, b"", 1)
    assert f"no matrix that both mask is of one shape: {QUERY} has the shapes 4x4 and 5x4; give masks" in done.err
    # Beside two that can be compared, the pairs that cannot have one line each.
    done = berttools("maskdiff", one, other, of_shapes(tmp_path, "c", {QUERY: (4, 4), OUTPUT: (4, 4)}))
    assert done.code == 3
    assert [record["jaccard"] for record in done.records] == [None, 1.0, 1.0, None]
    assert ["error" in record for record in done.records] == [True, False, False, True]


@pytest.mark.parametrize("code", ["bits", "entropy", "conditional"])
def test_the_base_of_every_mask_is_checked(
    berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint, code: str
) -> None:
    paths = [written(tmp_path, weights, name, {QUERY: [0, 1]}, code) for name in "ab"]
    assert berttools("maskdiff", *paths, "--base", weights.path).code == 0
    refused = berttools("maskdiff", *paths, "--base", other_weights(tmp_path).path)
    assert (refused.code, refused.out) == (1, b"")
    assert f"{paths[0]}: was made for another base: the sha256 of {QUERY} was" in refused.err
    refused = berttools("maskdiff", *paths, "--base", tmp_path / "none")
    assert (refused.code, "no such file" in refused.err) == (1, True)


def test_plain_masks_of_two_bases(berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint) -> None:
    one = written(tmp_path, weights, "a", {QUERY: [0, 1]})
    other = written(tmp_path, other_weights(tmp_path), "b", {QUERY: [1]}, "entropy")
    (record,) = berttools("maskdiff", one, other).records
    assert record["overlap"] == 1
    for base, wrong in (("base", other), ("other", one)):
        refused = berttools("maskdiff", one, other, "--base", tmp_path / f"{base}.safetensors")
        assert (refused.code, refused.out) == (1, b"")
        assert f"{wrong}: was made for another base" in refused.err


@pytest.mark.parametrize("codes", [("conditional", "conditional"), ("conditional", "bits"), ("bits", "conditional")])
def test_a_conditional_mask_and_one_of_another_base(
    berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint, codes: tuple[str, str]
) -> None:
    one = written(tmp_path, weights, "a", {QUERY: [0, 1]}, codes[0])
    other = written(tmp_path, other_weights(tmp_path), "b", {QUERY: [1]}, codes[1])
    for words in ([], ["--base", weights.path], ["--base", tmp_path / "other.safetensors"]):
        refused = berttools("maskdiff", one, other, *words)
        assert (refused.code, refused.out) == (1, b"")
        assert f"masks of different bases: the sha256 of {QUERY} was" in refused.err
        assert f"{one if codes[0] == 'conditional' else other} is coded given its base's weights" in refused.err
        assert "--code bits or entropy" in refused.err


def test_what_has_no_number_says_why(berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint) -> None:
    nothing = written(tmp_path, weights, "nothing", {QUERY: []})
    everything = written(tmp_path, weights, "everything", {QUERY: list(range(16))})
    (empty,) = berttools("maskdiff", nothing, nothing).records
    assert (empty["jaccard"], empty["z"], empty["reason"]) == (None, None, "neither zeroes anything")
    (full,) = berttools("maskdiff", nothing, everything).records
    assert (full["jaccard"], full["z"]) == (0.0, None)
    assert full["reason"].startswith("one of them zeroes all or nothing")


def test_a_conditional_code_wants_the_base(berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint) -> None:
    one = written(tmp_path, weights, "a", {QUERY: [0, 1]}, "conditional")
    other = written(tmp_path, weights, "b", {QUERY: [1]})
    assert berttools("maskdiff", one).code == 0, "what one mask holds is known without"
    refused = berttools("maskdiff", one, other)
    assert refused.code == 1
    assert "--base" in refused.err
    (found,) = berttools("maskdiff", one, other, "--base", tmp_path / "base.safetensors").records
    assert found["overlap"] == 1


def test_masks_that_cannot_be_compared(berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint) -> None:
    one, other = (written(tmp_path, weights, name, {matrix: [0]}) for name, matrix in (("a", QUERY), ("b", OUTPUT)))
    done = berttools("maskdiff", one, other)
    assert done.code == 1
    assert "masks no matrix that" in done.err
    done = berttools("maskdiff", tmp_path / "base.safetensors")
    assert done.code == 1
    assert "is no mask" in done.err


def test_the_heat_map(berttools: Callable[..., Run], tmp_path: Path, weights: Checkpoint) -> None:
    one, other = (written(tmp_path, weights, name, {QUERY: [n], OUTPUT: [1]}) for n, name in enumerate("ab"))
    for number, masks in enumerate(([one], [one, other])):
        assert berttools("maskdiff", *masks, "--heatmap", tmp_path / f"{number}.png").code == 0
        assert (tmp_path / f"{number}.png").read_bytes().startswith(b"\x89PNG")
    again = berttools("maskdiff", one, "--heatmap", tmp_path / "0.png")
    assert again.code == 2


@pytest.mark.parametrize("code", ["bits", "conditional"])
def test_masks_of_a_modernbert_by_group(berttools: Callable[..., Run], tmp_path: Path, code: str) -> None:
    base = make_base(tmp_path / "base", "modernbert")
    masks = [tmp_path / name for name in "ab"]
    for number, path in enumerate(masks):
        make_mask(base, path, seed=number, sparsity=0.2 + number / 5, code=code)
    one, opened = open_mask(masks[0]), open_checkpoint(base)
    expected = dict.fromkeys(("Q", "K", "V", "AO", "I", "O"), 0)
    for name, stored in check_base(one.fingerprint, opened).items():
        keep = one.keep(name, opened.flat(stored))
        groups = "QKV" if "Wqkv" in name else [layer_and_group(name, keep.shape).group]
        for group, rows in zip(groups, np.split(keep, len(groups)), strict=True):
            expected[group] += int((~rows).sum())
    found = berttools("maskdiff", masks[0], "--base", base, "--by", "group").records
    assert {record["group"]: record["zeroed"] for record in found} == expected
    assert {record["tensors"] for record in found} == {3}
    assert sum(record["bytes"] for record in found) == sum(one.coded_bytes.values())
    pair = berttools("maskdiff", *masks, "--base", base, "--by", "group").records
    assert [record["group"] for record in pair] == list(expected)
    assert [round(record["sparsity_a"] * record["weights"]) for record in pair] == list(expected.values())
    # The model's card has the same groups.
    assert berttools("apply-mask", base, masks[0], "--out", tmp_path / "out").code == 0
    rows = [line.split(" | ") for line in (tmp_path / "out" / "README.md").read_text().splitlines()]
    card = {row[0][2:]: row[2] for row in rows if row[0][:2] == "| " and row[0] != "| group"}
    weights = {record["group"]: record["weights"] for record in found}
    assert card == {group: f"{zeroed / weights[group]:.2%} |" for group, zeroed in sorted(expected.items())}
    # Without the base, what is coded given it cannot be told apart, but added up.
    done = berttools("maskdiff", masks[0], "--by", "group")
    assert (done.code, "give the base with --base" in done.err) == ((1, True) if code == "conditional" else (0, False))
    for by, sums in (("model", 1), ("layer", 3)):
        done = berttools("maskdiff", masks[0], "--by", by)
        assert (done.code, len(done.records)) == (0, sums)
        assert sum(record["zeroed"] for record in done.records) == sum(expected.values())
        assert sum(record["tensors"] for record in done.records) == 18
    assert berttools("maskdiff", masks[0], "--base", base, "--by", "model", "--heatmap", tmp_path / "h.png").code == 0


@pytest.mark.parametrize("name", ["maskdiff", "mask-control"])
def test_no_torch(base: Path, tmp_path: Path, name: str) -> None:
    make_mask(base, tmp_path / "a.safetensors")
    words = {
        "maskdiff": [*2 * [str(tmp_path / "a.safetensors")], "--base", str(base)],
        "mask-control": [str(base), str(tmp_path / "a.safetensors"), "--out", str(tmp_path / "out.safetensors")],
    }[name]
    code = (
        f"import sys\nfrom berttools.cli import main\nsys.argv = ['berttools', {name!r}, *{words!r}]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_matrix_is_called_as_layerdiff_calls_it(
    berttools: Callable[..., Run], tmp_path: Path, base: Path, train: Path
) -> None:
    """The base has no prefix, and the model that is tuned has: the base's name stands in both commands' records."""
    mask, other = tmp_path / "m.safetensors", make_tuned(base, tmp_path / "tuned")
    words = ["--base", base, "--train", train, "--max-steps", "1", "--device", "cpu", "--code", "bits"]
    assert berttools("mask-tune", *words, "--group", "Q,O", "--out", mask).code == 0
    moved = berttools("layerdiff", "--group", "Q,O", base, other).records
    zeroed = berttools("maskdiff", mask).records
    assert {record["name"] for record in zeroed} == {record["name"] for record in moved}
    assert all(record["name"].startswith("encoder.layer.") for record in zeroed)
    lines = b"".join(json.dumps(record).encode() + b"\n" for record in zeroed[:2])
    tuned = berttools(
        "finetune", "--base", base, "--only", "-", "--train", train, "--max-steps", "1", "--device", "cpu",
        "--save", "delta", "--out", tmp_path / "d", stdin=lines,
    )  # fmt: skip
    assert tuned.code == 0, tuned.err
    control = tmp_path / "c.safetensors"
    assert berttools("mask-control", base, mask, "--kind", "random", "--out", control).code == 0
    both = berttools("maskdiff", mask, control).records
    assert [record["name"] for record in both] == [record["name"] for record in zeroed]
