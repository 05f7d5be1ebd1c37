"""Braces in names: what shells and WebDataset make of them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from _toolio.errors import UsageError
from _toolio.streams.sources.braces import expanded

CASES = {
    "a.tar": "a.tar",
    "{000..003}.tar": "000.tar 001.tar 002.tar 003.tar",
    "{8..11}": "8 9 10 11",
    "{08..11}": "08 09 10 11",
    "{3..1}": "3 2 1",
    "{0..9..4}": "0 4 8",
    "{a..c}": "a b c",
    "{train,dev}/{0..1}.tar": "train/0.tar train/1.tar dev/0.tar dev/1.tar",
    "{a,b{1,2},}x": "ax b1x b2x x",
    "{x}": "{x}",
    "{x{a,b}}": "{xa} {xb}",
    "{a,b": "{a,b",
    "a}{b,c}": "a}b a}c",
    "{1..}": "{1..}",
    "{}": "{}",
    "{-1..1}": "-1 0 1",
}


@pytest.mark.parametrize("pattern", CASES)
def test_names(pattern: str) -> None:
    assert expanded([pattern]) == CASES[pattern].split(" ")


def test_a_file_of_that_name_is_itself(tmp_path: Path) -> None:
    name = tmp_path / "{1..2}.jpg"
    assert len(expanded([str(name)])) == 2
    name.touch()
    assert expanded([str(name), "x"]) == [str(name), "x"]


def test_more_names_than_anybody_means_are_refused() -> None:
    for pattern in ("{1..1000001}", "{1..1001}{1..1001}", "{0..999999999999999999}"):
        with pytest.raises(UsageError, match="stands for more than 1,000,000 names"):
            expanded([pattern])
    with pytest.raises(UsageError, match="https://host/x: stands for") as caught:
        expanded(["https://ann:pw@host/x?sig=abc&n={1..1000001}"])
    assert not [part for part in ("ann", "pw", "abc") if part in caught.value.message]


@given(st.recursive(st.text("abc.0", min_size=1), lambda inner: st.lists(inner, min_size=2), max_leaves=8), st.data())
def test_words_in_each_other_are_each_leaf(tree: object, data: st.DataObject) -> None:
    def pattern(node: object) -> str:
        return node if isinstance(node, str) else "{" + ",".join(map(pattern, node)) + "}"  # type: ignore[arg-type]

    def leaves(node: object) -> list[str]:
        return [node] if isinstance(node, str) else [leaf for each in node for leaf in leaves(each)]  # type: ignore[attr-defined]

    assert expanded([f"x{pattern(tree)}y"]) == [f"x{leaf}y" for leaf in leaves(tree)]


@given(st.text("{},.a1", max_size=12))
def test_any_text_stands_for_something(text: str) -> None:
    found = expanded([text])
    assert found
    assert "{" in text or found == [text]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_a_shell_makes_the_same_of_them() -> None:
    for pattern, names in CASES.items():
        made = subprocess.run(["bash", "-c", f'printf "%s|" {pattern}'], capture_output=True, text=True, check=True)
        # A shell leaves out what is empty.
        assert [name for name in made.stdout.split("|") if name] == [name for name in names.split(" ") if name], pattern
