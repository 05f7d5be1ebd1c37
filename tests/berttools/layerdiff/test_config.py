"""What can be configured, and that configuring needs no numpy."""

import re
import subprocess
import sys

import pytest

from _toolio.errors import UsageError
from berttools.layerdiff import By, LayerdiffConfig, Selection, compare

NAME = "encoder.layer.1.attention.self.query.weight"


def test_singular_values_are_of_single_matrices():
    assert LayerdiffConfig(svd=2).by is By.tensor
    with pytest.raises(UsageError, match="svd 2 is of single matrices: leave out by layer"):
        LayerdiffConfig(svd=2, by=By.layer)


def test_two_models_are_needed_to_compare_them_with_each_other():
    with pytest.raises(UsageError, match="pairs compares fine-tuned checkpoints with each other: name two or more"):
        compare("base", ["ft"], LayerdiffConfig(pairs=True))


def test_a_selection():
    assert [part.group for part in Selection().parts(NAME, (4, 4))] == ["Q"]
    assert [part.group for part in Selection(group=frozenset("Q")).parts(NAME, (4, 4))] == ["Q"]
    assert Selection(group=frozenset("K")).parts(NAME, (4, 4)) == []
    assert Selection(only=re.compile("layer[.]2")).parts(NAME, (4, 4)) == []
    fused = NAME.replace("attention.self.query", "attn.Wqkv")
    assert [part.start for part in Selection(group=frozenset("KV")).parts(fused, (12, 4))] == [4, 8]


def test_importing_it_needs_no_numpy():
    code = "import sys, berttools.layerdiff; print({'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
