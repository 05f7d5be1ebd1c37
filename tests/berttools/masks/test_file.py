"""Mask files: written, opened, laid over bases that are stored in another way, and refused where they are damaged."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from _toolio.errors import ToolError
from _toolio.tensors.safetensors_files import read_metadata, stored_bits, stream_safetensors, write_safetensors
from berttools.checkpoints.files import open_checkpoint
from berttools.masks.base import check_base, names_in_base
from berttools.masks.file import open_mask
from berttools.masks.metadata import CODES, canonical_json, sha256_of
from berttools.masks.writer import write_mask
from mask_forging import forged
from tiny_models import make_mask

QUERY, OUTPUT = (f"bert.encoder.layer.1.{name}.weight" for name in ("attention.self.query", "output.dense"))
HEAD = {"classifier.weight": np.float32([[1, 2, 3]]), "classifier.bias": np.float32([-0.0])}
MADE = {"metric": "accuracy", "labels": ["no", "yes"], "seed": 3, "arguments": {"epochs": 1}, "layers": {2: 0, 10: 1}}


def write_base(folder: Path, dtype: str = "float32", *, prefix: str = "", seed: int = 0) -> Path:
    """Two matrices, a bias and an embedding."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    shapes = {QUERY: (24, 24), OUTPUT: (24, 40), QUERY.replace("weight", "bias"): (24,), "bert.embeddings.w": (9, 24)}
    tensors = {name.replace("bert.", prefix): rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    if dtype == "bfloat16":
        plan = {name: ("BF16", array.shape) for name, array in tensors.items()}
        halves = {name: (array.view(np.uint32) >> 16).astype(np.uint16) for name, array in tensors.items()}
        stream_safetensors(folder / "model.safetensors", plan, lambda name: [halves[name]], format="pt")
    else:
        save_file({name: array.astype(dtype) for name, array in tensors.items()}, folder / "model.safetensors")
    return folder


def keeps_of(base: Path, *, sparsity: float = 0.3, seed: int = 1) -> dict[str, NDArray[np.bool_]]:
    """By magnitude, and some flips."""
    rng, opened, found = np.random.default_rng(seed), open_checkpoint(base), {}
    for name, stored in names_in_base(opened, {QUERY: (24, 24), OUTPUT: (24, 40)}, base).items():
        values = np.abs(opened.flat(stored).values(0, opened.tensors[stored].size).astype(np.float32))
        keep = values >= np.quantile(values, sparsity)
        found[name] = (keep ^ (rng.random(keep.size) < 0.05)).reshape(opened.tensors[stored].shape)
    return found


def written(tmp_path: Path, *, code: str = "auto", dtype: str = "float32") -> tuple[Path, Path]:
    base, out = write_base(tmp_path / "base", dtype), tmp_path / "task.safetensors"
    write_mask(out, keeps_of(base), HEAD, '{"a":1}', open_checkpoint(base), MADE, code=code)
    return base, out


@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_what_is_read_is_what_was_written(tmp_path: Path, code: str, dtype: str) -> None:
    base, out = tmp_path / "base", tmp_path / "task.safetensors"
    write_base(base, dtype)
    opened, keeps = open_checkpoint(base), keeps_of(base)
    said = write_mask(out, keeps, HEAD, '{"a":1}', opened, MADE, code=code)
    mask = open_mask(out)
    names = check_base(mask.fingerprint, opened)
    assert names == {name: name.removeprefix("bert.") for name in (QUERY, OUTPUT)}
    for name, keep in keeps.items():
        flat = opened.flat(names[name])
        assert np.array_equal(mask.keep(name, flat), keep)
        assert np.array_equal(mask.keep(name, flat.values(0, keep.size)), keep)
        assert mask.sparsity[name] == (~keep).mean()
    assert mask.config == '{"a":1}'
    assert mask.made == json.loads(json.dumps(MADE))
    assert {name: array.tobytes() for name, array in mask.dense.items()} == {
        name: array.tobytes() for name, array in HEAD.items()
    }
    assert said["bytes"] == out.stat().st_size
    assert said["weights"] == 24 * 24 + 24 * 40
    assert said["zeroed"] == sum(int((~keep).sum()) for keep in keeps.values())
    assert {**said, "path": None} == {**mask.figures(), "path": None}
    if code != "auto":
        assert said["code"] == code


def test_the_file_is_one_that_others_read(tmp_path: Path) -> None:
    base, out = written(tmp_path, code="bits")
    found, keeps = load_file(out), keeps_of(base)
    assert np.array_equal(np.unpackbits(found[QUERY]).astype(bool).reshape(24, 24), keeps[QUERY])
    assert np.array_equal(found["classifier.weight"], HEAD["classifier.weight"])
    first = out.read_bytes()
    written(tmp_path, code="bits")
    assert out.read_bytes() == first, "the same mask is the same bytes"


def test_auto_takes_the_smallest(tmp_path: Path) -> None:
    sizes = {}
    for code in CODES:
        _, out = written(tmp_path, code=code)
        sizes[code] = open_mask(out).coded_bytes
    for name in (QUERY, OUTPUT):
        assert sizes["auto"][name] == min(sizes[code][name] for code in CODES[1:])


def test_the_conditional_code_asks_for_the_base(tmp_path: Path) -> None:
    _, out = written(tmp_path, code="conditional")
    mask = open_mask(out)
    assert mask.needs_base
    with pytest.raises(ToolError, match="give the base with base"):
        mask.keep(QUERY)
    with pytest.raises(ToolError, match="the base is another one"):
        mask.keep(QUERY, np.random.default_rng(9).standard_normal(24 * 24).astype(np.float32))


@pytest.mark.parametrize("prefix", ["", "bert.", "model.bert."])
def test_another_prefix_and_shards_are_the_same_base(tmp_path: Path, prefix: str) -> None:
    _, out = written(tmp_path)
    other = write_base(tmp_path / "other", prefix=prefix)
    tensors = load_file(other / "model.safetensors")
    (other / "model.safetensors").unlink()
    names = sorted(tensors)
    for shard, part in (("a.safetensors", names[:2]), ("b.safetensors", names[2:])):
        save_file({name: tensors[name] for name in part}, other / shard)
    index = {"weight_map": {name: "a.safetensors" if name in names[:2] else "b.safetensors" for name in names}}
    (other / "model.safetensors.index.json").write_text(json.dumps(index))
    opened, mask = open_checkpoint(other), open_mask(out)
    stored = check_base(mask.fingerprint, opened)
    assert stored[QUERY] == QUERY.replace("bert.", prefix)
    keep = mask.keep(QUERY, opened.flat(stored[QUERY]))
    assert np.array_equal(keep, keeps_of(tmp_path / "base")[QUERY])


def test_another_base_is_refused_by_the_tensor_that_differs(tmp_path: Path) -> None:
    base, out = written(tmp_path)
    mask, tensors = open_mask(out), load_file(base / "model.safetensors")
    other = tmp_path / "other.safetensors"
    changed = {name: array.copy() for name, array in tensors.items()}
    changed["encoder.layer.1.output.dense.weight"][3, 3] += 1
    save_file(changed, other)
    with pytest.raises(ToolError, match=r"other base: the sha256 of bert\.encoder\.layer\.1\.output\.dense\.weight"):
        check_base(mask.fingerprint, open_checkpoint(other))
    with pytest.raises(ToolError, match="the sha256 of bert"):
        check_base(mask.fingerprint, open_checkpoint(write_base(tmp_path / "double", "float64")))
    del changed["encoder.layer.1.output.dense.weight"]
    save_file(changed, other)
    with pytest.raises(ToolError, match=r"has no bert\.encoder\.layer\.1\.output\.dense\.weight of shape 24x40"):
        check_base(mask.fingerprint, open_checkpoint(other))
    changed["encoder.layer.1.output.dense.weight"] = np.zeros((40, 24), np.float32)
    save_file(changed, other)
    with pytest.raises(ToolError, match="of shape 24x40"):
        check_base(mask.fingerprint, open_checkpoint(other))
    # What the model does not use may be there or not.
    save_file({**tensors, "cls.predictions.bias": np.zeros(3, np.float32)}, other)
    check_base(mask.fingerprint, open_checkpoint(other))
    for name in ("encoder.layer.1.attention.self.query.bias", "embeddings.w"):
        changed = {each: array + (each == name) for each, array in tensors.items()}
        save_file(changed, other)
        with pytest.raises(ToolError, match="another base: the sha256 of what is outside the masked matrices was"):
            check_base(mask.fingerprint, open_checkpoint(other))
        del changed[name]
        save_file(changed, other)
        with pytest.raises(ToolError, match=f"has no bert.{name}, which the model of"):
            check_base(mask.fingerprint, open_checkpoint(other))


def test_a_mask_that_names_nothing_else_of_its_base_is_read(tmp_path: Path) -> None:
    base, out = written(tmp_path)
    forged(out, out, lambda about: [about.pop(key) for key in ("others", "tokenizer_sha256")])
    tensors = load_file(base / "model.safetensors")
    save_file({**tensors, "embeddings.w": tensors["embeddings.w"] + 1}, base / "model.safetensors")
    assert check_base(open_mask(out).fingerprint, open_checkpoint(base)).keys() == {QUERY, OUTPUT}


def test_what_else_is_used_is_one_digest_and_names(tmp_path: Path) -> None:
    base, out = written(tmp_path)
    mask, opened = open_mask(out), open_checkpoint(base)
    assert mask.fingerprint.others == ["bert.embeddings.w", QUERY.replace("weight", "bias")]
    others = {"bert.embeddings.w": "embeddings.w"}
    write_mask(out, keeps_of(base), HEAD, "{}", opened, {}, others=others)
    mask = open_mask(out)
    assert mask.fingerprint.others == list(others)
    tensors = load_file(base / "model.safetensors")
    tensors["encoder.layer.1.attention.self.query.bias"] += 1
    save_file(tensors, base / "model.safetensors")
    assert check_base(mask.fingerprint, open_checkpoint(base)), "which this model does not use"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    base = open_checkpoint(write_base(tmp_path / "base"))
    with pytest.raises(ToolError, match=r"has no nobody\.weight of shape 24x24"):
        write_mask(tmp_path / "m", {"nobody.weight": np.ones((24, 24), np.bool_)}, {}, "{}", base, {})
    with pytest.raises(ValueError, match="masked and dense"):
        write_mask(tmp_path / "m", {QUERY: np.ones((24, 24), np.bool_)}, {QUERY: HEAD["classifier.bias"]}, "", base, {})
    assert not (tmp_path / "m").exists()


def everything_in(path: Path, base: Path) -> Any:
    mask, opened = open_mask(path), open_checkpoint(base)
    names = check_base(mask.fingerprint, opened)
    keeps = {name: mask.keep(name, opened.flat(names[name])).tobytes() for name in mask.names}
    dense = {name: (array.shape, array.dtype, array.tobytes()) for name, array in mask.dense.items()}
    return keeps, dense, mask.config, mask.made, mask.sparsity, mask.shapes


@pytest.mark.parametrize("code", CODES[1:])
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255), cut=st.booleans())
def test_a_damaged_file_is_one_line_or_the_same_mask(
    tmp_path: Path, code: str, place: float, change: int, cut: bool
) -> None:
    base, out = tmp_path / "base", tmp_path / "task.safetensors"
    if not (whole_file := tmp_path / "whole").exists():
        written(tmp_path, code=code)
        out.rename(whole_file)
    whole, data = everything_in(whole_file, base), bytearray(whole_file.read_bytes())
    at = int(place * len(data))
    data[at] ^= change
    out.write_bytes(data[:at] if cut else data)
    try:
        assert everything_in(out, base) == whole
    except ToolError as error:
        assert "\n" not in error.message
        assert str(out) in error.message


@pytest.mark.parametrize(
    ("key", "value"), [("matrices", None), ("config", 3), ("stored_sha256", []), ("sha256", None), ("made", None)]
)
def test_metadata_of_another_make_are_refused(tmp_path: Path, key: str, value: Any) -> None:
    """Even where the sha256 is right."""
    _, out = written(tmp_path)
    about = read_metadata(out)
    about[key] = value
    if key != "sha256":
        about["sha256"] = sha256_of(canonical_json({name: each for name, each in about.items() if name != "sha256"}))
    write_safetensors(out, load_file(out), about)
    with pytest.raises(ToolError, match="damaged"):
        open_mask(out)


def test_what_is_no_mask(tmp_path: Path) -> None:
    base, _ = written(tmp_path)
    with pytest.raises(ToolError, match="is no mask; berttools mask-tune writes one"):
        open_mask(base / "model.safetensors")
    with pytest.raises(ToolError, match="no such file"):
        open_mask(tmp_path / "gone")


def test_stored_bits_are_those_of_the_file(tmp_path: Path) -> None:
    base = open_checkpoint(write_base(tmp_path / "base", "bfloat16"))
    flat = base.flat("embeddings.w")
    bits = stored_bits(flat, 3, 9)
    assert bits.dtype == np.uint16
    assert np.array_equal((bits.astype(np.uint32) << 16).view(np.float32), flat.values(3, 9))


def test_a_stream_of_other_length_than_planned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not as many bytes"):
        stream_safetensors(tmp_path / "x", {"a": ("F32", (3,))}, lambda name: [np.zeros(2, np.float32)])
    assert list(tmp_path.iterdir()) == []


def deep(levels: int) -> Any:
    found: Any = {}
    for _ in range(levels):
        found = {"of": found}
    return found


@pytest.mark.parametrize(
    "config",
    [
        "hello", "[1]", "", "[" * 5000, '{"id2label":{"0":"a","7":"b"}}', '{"id2label":{"0":1}}', '{"id2label":[]}',
        '{"id2label":{"0":"a","1":"b"},"num_labels":3}', '{"num_labels":1e3}', '{"num_labels":1000000000}',
        '{"label2id":{"a":"b"}}', '{"architectures":"BertModel"}', '{"dtype":"int8"}', '{"pad_token_id":true}',
        '{"problem_type":"none"}', '{"model_type":3}', '{"id2label":{"0":"\\ud800"}}',
    ],
)  # fmt: skip
def test_a_configuration_that_no_task_has_is_refused(tmp_path: Path, config: str) -> None:
    _, out = written(tmp_path)
    forged(out, out, lambda about: about.__setitem__("config", config))
    with pytest.raises(ToolError, match="damaged: its configuration") as refused:
        open_mask(out)
    assert (refused.value.kind, refused.value.message.count("\n")) == ("bad-mask", 0)


def of_query(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Change what a mask says of one matrix; drop what is ``...``."""

    def change(about: dict[str, Any]) -> None:
        entry = about["matrices"][QUERY]
        entry.update(fields)
        for key in [key for key, value in entry.items() if value is ...]:
            del entry[key]

    return change


@pytest.mark.parametrize(
    "change",
    [
        *(of_query(shape=shape) for shape in (["a"], [24.0, 24.0], [-24, -24], [576], [True, 576], "x", 3)),
        *(of_query(shape=shape) for shape in ([1 << 20, 1 << 20], [24, 25], [24, 23], [50_000, 40_000])),
        *(of_query(zeroed=zeroed) for zeroed in ("x", -1, 10**30, 577, 1.0, True, None, ...)),
        *(of_query(code=code) for code in ("zip", "auto", ["bits"], None, ...)),
        *(of_query(base_sha256=sha256) for sha256 in (3, "", "G" * 64, ...)),
        of_query(bits_sha256=...),
        lambda about: about["matrices"].update({QUERY: None}),
        lambda about: about.update(matrices=[QUERY, OUTPUT]),
        lambda about: about.update(made=deep(101)),
        *(lambda about, some=some: about.update(others=some) for some in ([], {}, {"names": [], "sha256": "x"}, "x")),
        *(lambda about, some=some: about["others"].update(names=some) for some in ([3], [QUERY], ["a", "a"], "ab")),
        lambda about: about.update(tokenizer_sha256="x"),
        lambda about: about.update(made={"labels": ["\ud800"]}),
    ],
)  # fmt: skip
def test_what_no_command_says_of_a_mask_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    base, out = written(tmp_path, code="bits")
    forged(out, out, change)
    with pytest.raises(ToolError) as refused:
        mask, opened = open_mask(out), open_checkpoint(base)
        names = check_base(mask.fingerprint, opened)
        mask.keep(QUERY, opened.flat(names[QUERY]))
    assert (refused.value.kind, refused.value.message.count("\n")) == ("bad-mask", 0)


def test_what_is_said_of_zeros_is_compared_with_the_bits(tmp_path: Path) -> None:
    base, out = written(tmp_path)
    forged(out, out, lambda about: about["matrices"][QUERY].update(sparsity=0.5))
    mask = open_mask(out)
    assert mask.sparsity[QUERY] == mask.zeroed[QUERY] / 576
    for code in CODES[1:]:
        written(tmp_path, code=code)
        forged(out, out, of_query(zeroed=open_mask(out).zeroed[QUERY] + 1))
        with pytest.raises(ToolError, match=r"not (what was|those that were) written"):
            open_mask(out).keep(QUERY, open_checkpoint(base).flat(QUERY.removeprefix("bert.")))


@pytest.mark.parametrize("shape", [(1, 72), (72, 1), (8, 9)])
def test_bits_that_are_no_run_of_bytes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    _, out = written(tmp_path, code="bits")
    forged(out, out, tensors=lambda stored: stored.update({QUERY: stored[QUERY].reshape(shape)}))
    with pytest.raises(ToolError, match=f"what it says of {QUERY} is"):
        open_mask(out)


@pytest.mark.parametrize("code", ["bits", "entropy"])
def test_bits_are_read_in_an_eighth_of_a_byte_an_entry(tmp_path: Path, code: str) -> None:
    shape = (2048, 8192)
    save_file({QUERY: np.zeros(shape, np.float16)}, tmp_path / "base.safetensors")
    keep = np.random.default_rng(0).random(shape, np.float32) > 0.1
    base = open_checkpoint(tmp_path / "base.safetensors")
    write_mask(tmp_path / "a", {QUERY: keep}, {}, "{}", base, {}, code=code)
    mask = open_mask(tmp_path / "a")
    tracemalloc.start()
    packed = mask.bits(QUERY)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.array_equal(packed, np.packbits(keep))
    assert most < keep.size / 2


@pytest.mark.parametrize("chance", [0, 30_000, 65_535])
@pytest.mark.parametrize("words", [0, 3])
def test_a_stream_that_cannot_hold_so_many_is_refused_when_opened(tmp_path: Path, chance: int, words: int) -> None:
    _, out = written(tmp_path, code="entropy")
    stream = np.frombuffer(b"\0" + chance.to_bytes(2, "little") + bytes(4 * words), np.uint8)
    size = 50_000 * 40_000
    said = of_query(shape=[50_000, 40_000], zeroed=size * chance // 65_535)
    forged(out, out, said, lambda stored: stored.update({QUERY: stream}))
    if chance == 30_000 or words:
        with pytest.raises(ToolError, match=f"the code of {QUERY} is"):
            open_mask(out)
    else:
        assert open_mask(out).sparsity[QUERY] == chance / 65_535, "which costs no bits"


def test_bytes_behind_the_tensors_are_refused(base: Path, tmp_path: Path) -> None:
    make_mask(base, tmp_path / "a")
    with (tmp_path / "a").open("ab") as file:
        file.write(b"more")
    with pytest.raises(ToolError, match="damaged: what lies behind its tensors is not what was written"):
        open_mask(tmp_path / "a")


def test_a_delta_is_told_from_a_mask(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a", {"w": np.zeros(3, np.float32)}, {"schema": "berttools.delta/1"})
    with pytest.raises(ToolError, match="is a delta, not a mask; use berttools apply-delta"):
        open_mask(tmp_path / "a")
