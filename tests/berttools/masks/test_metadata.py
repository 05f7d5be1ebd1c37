"""Metadata that no command writes are refused, even where their digests are right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from _toolio.errors import ToolError
from _toolio.tensors.reader import read_metadata
from _toolio.tensors.writer import write_safetensors
from berttools.checkpoints.files import open_checkpoint
from berttools.masks.base import check_base
from berttools.masks.file import open_mask
from berttools.masks.metadata import CODES, array_sha256, canonical_json, is_mask, sha256_of
from mask_forging import forged
from small_masks import OUTPUT, QUERY, written
from tiny_models import make_mask


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


def deep(levels: int) -> Any:
    found: Any = {}
    for _ in range(levels):
        found = {"of": found}
    return found


def of_query(**fields: Any) -> Callable[[dict[str, Any]], None]:
    """Change what a mask says of one matrix; drop what is ``...``."""

    def change(about: dict[str, Any]) -> None:
        entry = about["matrices"][QUERY]
        entry.update(fields)
        for key in [key for key, value in entry.items() if value is ...]:
            del entry[key]

    return change


def test_what_is_nested_too_deep_is_refused(tmp_path: Path) -> None:
    _, out = written(tmp_path, code="bits")
    forged(out, out, lambda about: about.update(made=deep(98)))
    open_mask(out)
    forged(out, out, lambda about: about.update(made=deep(101)))
    with pytest.raises(ToolError, match=r"its .* metadata is nested more than 100 deep") as refused:
        open_mask(out)
    assert refused.value.kind == "bad-header"


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
    with pytest.raises(ToolError, match="4 bytes at its end belong to no tensor"):
        open_mask(tmp_path / "a")


def test_a_delta_is_told_from_a_mask(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "a", {"w": np.zeros(3, np.float32)}, {"schema": "berttools.delta/1"})
    with pytest.raises(ToolError, match="is a delta, not a mask; use berttools apply-delta"):
        open_mask(tmp_path / "a")


def test_digests_are_spelled_out() -> None:
    import hashlib

    array = np.arange(3, dtype=">f4")
    expected = hashlib.sha256(b'["<f4", [3]]' + array.astype("<f4").tobytes()).hexdigest()
    assert array_sha256(array) == array_sha256(array.astype("<f4")) == expected
    assert canonical_json({"b": 1, "a": [True, None]}) == b'{"a":[true,null],"b":1}'
    with pytest.raises(ValueError, match="Out of range"):
        canonical_json({"a": float("nan")})


def test_what_says_that_it_is_a_mask(tmp_path: Path) -> None:
    base, out = written(tmp_path)
    assert is_mask(out)
    assert not any(map(is_mask, (base, base / "model.safetensors", tmp_path / "none", Path(__file__))))
