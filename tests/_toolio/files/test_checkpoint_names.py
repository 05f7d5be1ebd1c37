"""Names of checkpoints."""

from __future__ import annotations

from pathlib import Path

from _toolio.files.checkpoint_names import checkpoint_beside, fold_checkpoint, fold_checkpoints


def test_a_checkpoint_lies_beside_what_is_written() -> None:
    assert checkpoint_beside("tuned/") == Path("tuned/.checkpoint")
    assert checkpoint_beside(Path("a/tuned/")) == Path("a/tuned.checkpoint")


def test_checkpoints_of_folds_are_those_of_this_training_alone(tmp_path: Path) -> None:
    checkpoint = tmp_path / "a[1].checkpoint"
    assert fold_checkpoints(checkpoint) == fold_checkpoints(tmp_path / "nowhere" / "a") == []
    mine = [fold_checkpoint(checkpoint, number) for number in (1, 2)]
    others = [tmp_path / name for name in ("a1.checkpoint.fold-1", "a[1].checkpoint", "a[1].checkpoint.fold-notes")]
    for path in (*mine, *others, tmp_path / "a[1].checkpoint.fold-1.part"):
        path.touch()
    assert [path.name for path in mine] == ["a[1].checkpoint.fold-1", "a[1].checkpoint.fold-2"]
    assert fold_checkpoints(checkpoint) == mine
