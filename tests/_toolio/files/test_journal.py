"""The journal that --resume goes by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from _toolio.errors import ToolError, UsageError
from _toolio.files.hashing import sha256_of
from _toolio.files.journal import Journal, first_arguments

ARGUMENTS = {"schema": "t.c/1", "attack": "none", "knobs": {"steps": 3, "size": 0.0025}, "quality": None}
RECORDS = [{"moved": 0.123456789, "path": "out/a.jpg", "name": "\udcff"}, {"moved": None, "path": None}]


def opened(folder: Path, *, resume: bool = False, **changed: Any) -> Journal:
    return Journal(folder, "tool-command", {**ARGUMENTS, **changed}, resume=resume)


def note(folder: Path, name: str = "a.jpg", digest: str = "d", **changed: Any) -> Path:
    """One run that finishes one input."""
    with opened(folder, **changed) as journal:
        output = folder / name
        output.write_text("photo")
        journal.add(name, digest, {output: sha256_of(b"photo")}, RECORDS)
    return output


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ".tool-command.jsonl").read_bytes().splitlines()]


def test_what_is_done_is_given_back_as_it_was(tmp_path: Path) -> None:
    note(tmp_path / "deep" / "out")
    with opened(tmp_path / "deep" / "out", resume=True) as journal:
        assert journal.finished("a.jpg", "d") == RECORDS
        assert journal.finished("b.jpg", "d") is None


def test_without_resume_nothing_is_done(tmp_path: Path) -> None:
    note(tmp_path)
    with opened(tmp_path) as journal:
        assert journal.finished("a.jpg", "d") is None


def test_a_changed_input_is_done_again_and_its_new_line_counts(tmp_path: Path) -> None:
    output = note(tmp_path)
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("a.jpg", "other") is None
        output.write_text("new photo")
        journal.add("a.jpg", "other", {output: sha256_of(b"new photo")}, RECORDS[:1])
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("a.jpg", "d") is None
        assert journal.finished("a.jpg", "other") == RECORDS[:1]


@pytest.mark.parametrize(
    "change",
    [
        {"records": 3},
        {"records": [3]},
        {"records": {"a": 1}},
        {"outputs": {"a\0b": "d"}},
        {"outputs": {"a" * 5000: "d"}},
    ],
)
def test_a_line_of_another_form_is_passed_over(tmp_path: Path, change: dict[str, Any]) -> None:
    note(tmp_path)
    head, line = lines(tmp_path)
    (tmp_path / ".tool-command.jsonl").write_text("".join(json.dumps(each) + "\n" for each in (head, line | change)))
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("a.jpg", "d") is None


def test_a_missing_output_is_made_again(tmp_path: Path) -> None:
    output = note(tmp_path)
    output.unlink()
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("a.jpg", "d") is None


def test_an_output_that_another_run_has_replaced_is_not_the_one_that_was_written(tmp_path: Path) -> None:
    output = note(tmp_path, quality=30)
    with opened(tmp_path, quality=90) as journal:
        output.write_text("a better photo")
        journal.add("a.jpg", "d", {output: sha256_of(b"a better photo")}, RECORDS)
    with opened(tmp_path, resume=True, quality=30) as journal:
        assert journal.finished("a.jpg", "d") is None
    with opened(tmp_path, resume=True, quality=90) as journal:
        assert journal.finished("a.jpg", "d") == RECORDS


def test_two_inputs_of_one_path_are_told_apart_by_their_digests(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.add("a.jpg", "left face", {}, RECORDS[:1])
        journal.add("a.jpg", "right face", {}, RECORDS[1:])
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("a.jpg", "left face") == RECORDS[:1]
        assert journal.finished("a.jpg", "right face") == RECORDS[1:]


def test_an_input_without_outputs_is_done(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.add("a.jpg", "d", {}, RECORDS[1:])
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("a.jpg", "d") == RECORDS[1:]


def test_a_moved_folder_is_taken_up(tmp_path: Path) -> None:
    note(tmp_path / "before")
    (tmp_path / "before").rename(tmp_path / "after")
    with opened(tmp_path / "after", resume=True) as journal:
        assert journal.finished("a.jpg", "d") == RECORDS


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_torn_last_line_is_passed_over_and_does_not_swallow_the_next(tmp_path: Path, cut: int) -> None:
    note(tmp_path, "a.jpg")
    note(tmp_path, "b.jpg")
    path = tmp_path / ".tool-command.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("a.jpg", "d") == RECORDS
        # Without its newline only, the line is whole.
        assert (journal.finished("b.jpg", "d") is None) == (cut > 1)
        journal.add("c.jpg", "d", {}, [])
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("c.jpg", "d") == []
        assert journal.finished("a.jpg", "d") == RECORDS


def test_lines_that_are_not_ours_are_passed_over(tmp_path: Path) -> None:
    note(tmp_path)
    made = lines(tmp_path)[0]["made"]
    with (tmp_path / ".tool-command.jsonl").open("ab") as stream:
        for line in (
            '[1]', '"x"', '{"arguments":3}', f'{{"input":"a.jpg","made":"{made}"}}', "\x00\xff", '{"a":' + "9" * 5000
        ):  # fmt: skip
            stream.write(line.encode("latin-1") + b"\n")
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("a.jpg", "d") == RECORDS


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"attack": "lowkey"}, 'made with attack "none", not "lowkey"'),
        ({"quality": 90}, "made with quality null, not 90"),
        ({"knobs": {"steps": 4, "size": 0.0025}}, r'made with knobs \{"steps": 3'),
        ({"extra": None}, "made with extra null, not null|made with extra"),
    ],
)
def test_other_arguments_are_named(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    note(tmp_path)
    before = (tmp_path / ".tool-command.jsonl").read_bytes()
    with pytest.raises(UsageError, match=f"^resume: .*{words}.*; give another out$") as caught:
        opened(tmp_path, resume=True, **changed)
    assert caught.value.exit_code == 2
    assert (tmp_path / ".tool-command.jsonl").read_bytes() == before


def test_arguments_that_json_spells_alike_are_the_same(tmp_path: Path) -> None:
    note(tmp_path, pair=(1, 2))
    with opened(tmp_path, resume=True, pair=[1, 2]) as journal:
        assert journal.finished("a.jpg", "d") == RECORDS


def test_what_was_made_with_other_arguments_is_not_done(tmp_path: Path) -> None:
    note(tmp_path)
    note(tmp_path, "b.jpg", attack="lowkey")
    with opened(tmp_path, resume=True, attack="lowkey") as journal:
        assert journal.finished("a.jpg", "d") is None
        assert journal.finished("b.jpg", "d") == RECORDS


def test_two_runs_into_one_folder_keep_one_journal(tmp_path: Path) -> None:
    with opened(tmp_path) as one, opened(tmp_path) as two:
        for number in range(50):
            one.add(f"{number}.jpg", "d", {}, RECORDS)
            two.add(f"{number}.png", "d", {}, RECORDS)
    inputs = [line["input"] for line in lines(tmp_path) if "input" in line]
    assert inputs == [f"{number}.{kind}" for number in range(50) for kind in ("jpg", "png")]
    with opened(tmp_path, resume=True) as journal:
        assert all(journal.finished(name, "d") == RECORDS for name in inputs)


def test_a_resumed_run_does_not_note_its_arguments_again(tmp_path: Path) -> None:
    note(tmp_path)
    for _ in range(3):
        with opened(tmp_path, resume=True) as journal:
            assert journal.finished("a.jpg", "d") == RECORDS
    assert sum("arguments" in line for line in lines(tmp_path)) == 1


def test_a_run_that_does_not_resume_reads_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(tmp_path)

    def refuse(*_: object) -> None:
        raise AssertionError("the whole journal was read")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refuse)
        note(tmp_path, "b.jpg")
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("a.jpg", "d") == journal.finished("b.jpg", "d") == RECORDS


def test_a_line_that_the_disk_takes_in_part_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path) as journal:
        journal.add("0.jpg", "d", {}, RECORDS)
        whole = journal._stream
        assert whole is not None

        class Full:
            def write(self, line: bytes) -> int | None:
                return whole.write(line[:20])

        journal._stream = Full()  # type: ignore[assignment]
        with pytest.raises(ToolError, match="No space left on device; free some space"):
            journal.add("a.jpg", "d", {}, RECORDS)
        journal._stream = whole
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("a.jpg", "d") is None
        journal.add("b.jpg", "d", {}, RECORDS)
    with opened(tmp_path, resume=True) as journal:
        assert journal.finished("b.jpg", "d") == RECORDS


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolError, match=r"file.*; give another out$") as caught:
        opened(tmp_path / "file")
    assert caught.value.kind == "unwritable"


def test_sha256() -> None:
    assert sha256_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_the_first_arguments_are_those_of_the_run_that_began_it(tmp_path: Path) -> None:
    assert first_arguments(tmp_path, "tool-command") == {}
    note(tmp_path)
    note(tmp_path, "b.jpg", attack="other")
    assert first_arguments(tmp_path, "tool-command") == ARGUMENTS
    (tmp_path / ".tool-command.jsonl").write_text("cut sho")
    assert first_arguments(tmp_path, "tool-command") == {}
