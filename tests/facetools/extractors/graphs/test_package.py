import sys

import pytest

from _toolio.errors import ToolError
from facetools.extractors.graphs.package import import_onnx


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ToolError, match=r"ONNX files need the package onnx; try pip install 'epsilon-tools\[onnx\]'"):
        import_onnx()
