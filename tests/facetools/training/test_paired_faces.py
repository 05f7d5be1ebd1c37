"""Clean faces with their cloaked copies, and their split by person."""

from __future__ import annotations

from dataclasses import replace

import pytest

from _toolio.errors import ToolError
from facetools.training.paired_faces import PairedFaces, split_pairs


def test_a_part_keeps_copies_with_their_originals(faces: PairedFaces) -> None:
    people = set(faces.people[:4])
    part = faces.part(people)
    assert set(part.people) == people
    assert len(part.samples) == 6
    for place, first in enumerate(part.original):
        assert part.cloak[first] == -1
        assert part.samples[place].person == part.samples[first].person


def test_nobody_is_both_trained_on_and_watched(faces: PairedFaces) -> None:
    known, unseen = split_pairs(faces, share=0.5, seed=0)
    assert not set(known.people) & set(unseen.people)
    assert set(known.people) | set(unseen.people) == set(faces.people)
    assert (known.cloak >= 0).any() and (unseen.cloak >= 0).any()
    with pytest.raises(ToolError, match="3 people have cloaked photos"):
        split_pairs(faces.part(set(faces.people[:6])), share=0.5, seed=0)


def test_the_hash_is_of_faces_copies_and_order(faces: PairedFaces) -> None:
    turned = replace(faces, samples=faces.samples[::-1])
    uncloaked = replace(faces, cloak=faces.cloak * 0 - 1)
    renamed = replace(faces, cloaks=("other",))
    assert len({each.sha256 for each in (faces, turned, uncloaked)}) == 3
    assert renamed.sha256 == faces.sha256
