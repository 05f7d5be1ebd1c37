"""Names of what is not finished."""

from __future__ import annotations

import os
from pathlib import Path

from _toolio.files import temporaries


def test_each_name_is_another_and_hidden_in_the_same_folder(tmp_path: Path) -> None:
    names = {temporaries.name_beside(tmp_path / "a.bin") for _ in range(10)}
    assert len(names) == 10
    assert {path.parent for path in names} == {tmp_path}
    assert all(path.name.startswith(".a.bin.") for path in names)


def test_no_two_outputs_share_a_head(tmp_path: Path) -> None:
    names = ["model", "model.safetensors", "n" * 40, "n" * 41, "n" * 254 + "1", "n" * 254 + "2", "\U0001f600" * 60]
    made = {name: temporaries.create_beside(tmp_path / name) for name in names}
    for name in names:
        assert list(temporaries.left_beside([tmp_path / name], [temporaries.RUN])) == [made[name]]


def test_only_what_a_run_has_left_is_found(tmp_path: Path) -> None:
    file, folder = temporaries.create_beside(tmp_path / "a\nb"), temporaries.make_beside(tmp_path / "a\nb")
    (tmp_path / ".a\nb.00000000.0.tmp").write_text("another run's")
    (tmp_path / f"a\nb.{temporaries.RUN}.0.tmp").write_text("somebody's")
    (tmp_path / f".a\nb.{temporaries.RUN}.0.tmp.bak").write_text("somebody's")
    out, runs = tmp_path / "a\nb", [temporaries.RUN, "another"]
    assert set(temporaries.left_beside([out], runs)) == {file, folder}
    assert list(temporaries.left_beside([out], runs, temporaries.ASIDE)) == []
    assert list(temporaries.left_beside([tmp_path / "none" / "a"], runs)) == []


def test_a_forked_copy_is_another_run() -> None:
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.write(write, temporaries.RUN.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert os.read(read, 8).decode() != temporaries.RUN
    os.close(read)


def test_of_a_link_the_link_is_removed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_text("a")
    (tmp_path / "link").symlink_to("real")
    temporaries.remove(tmp_path / "link")
    temporaries.remove(tmp_path / "none")
    assert [path.name for path in tmp_path.iterdir()] == ["real"]
    temporaries.remove(tmp_path / "real")
    assert list(tmp_path.iterdir()) == []
