"""What libraries in other languages write and raise, with a real library and real descriptors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers

from _toolio.foreign_code import STDERR, STDOUT, PanicError, discarded, panics_raised


def test_what_is_written_past_pythons_streams_is_discarded(capfd: pytest.CaptureFixture[str]) -> None:
    opened = set(Path("/dev/fd").iterdir())
    with discarded(STDOUT, STDERR):
        os.write(1, b"a")
        os.write(2, b"b")
    os.write(1, b"c")
    with pytest.raises(ValueError, match="mine"), discarded(STDERR):
        os.write(1, b"d")
        os.write(2, b"e")
        raise ValueError("mine")
    os.write(2, b"f")
    assert capfd.readouterr() == ("cd", "f")
    assert set(Path("/dev/fd").iterdir()) == opened


def test_where_a_stream_is_closed_there_is_nothing_to_discard() -> None:
    code = (
        "import os\nfrom _toolio.foreign_code import discarded\nos.close(2)\n"
        "with discarded(1, 2): os.write(1, b'a')\nos.write(1, b'b')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=1200, check=False)
    assert (done.returncode, done.stdout) == (0, b"b")


def test_a_panic_is_an_exception() -> None:
    template = tokenizers.processors.TemplateProcessing(single="[CLS] $A", pair="$A $B", special_tokens=[("[CLS]", 1)])
    damaged = template.__getstate__().replace(b'"special_tokens":{"[CLS]"', b'"special_tokens":{"[XXX]"')
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    template.__setstate__(damaged)
    tokenizer.post_processor = template
    with pytest.raises(PanicError, match="no entry found"), discarded(STDERR), panics_raised():
        tokenizer.encode("a")
    with pytest.raises(KeyboardInterrupt), panics_raised():
        raise KeyboardInterrupt
