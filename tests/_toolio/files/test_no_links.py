"""Files that are not links."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from _toolio.files.no_links import open_no_link


@pytest.mark.parametrize("system", ["posix", "windows"])
def test_a_link_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str) -> None:
    if system == "windows":
        monkeypatch.delattr(os, "O_NOFOLLOW")
    os.close(open_no_link(tmp_path / "file", os.O_WRONLY | os.O_CREAT))
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(OSError, match="link") as caught:
        open_no_link(tmp_path / "link", os.O_WRONLY | os.O_CREAT)
    assert caught.value.errno == errno.ELOOP
    assert caught.value.filename in (tmp_path / "link", str(tmp_path / "link"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]
