"""Folders of shards with damaged markers, records and embeddings: gathered, or an error of one line."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from _toolio.errors import ToolError
from _toolio.sharding.folder import ShardFolder
from _toolio.sharding.inputs import ShardInputs
from _toolio.sharding.marker import Made, Marker, write_marker
from embedding_files import write
from facetools.commands.gather import gather
from fuzzing import fuzz, mutated, mutated_json

NAME = "shards"
TOTALS = ("0002", "0003", "0000", "9" * 18, "9" * 100)


def prepare(folder: Path) -> None:
    """Make the two shards that are damaged."""
    global SHARDS
    SHARDS = folder / "shards"
    SHARDS.mkdir()
    shards = ShardFolder(SHARDS, 2)
    for number in (1, 2):
        made = write(SHARDS, "e", names=(f"a/{number}.jpg", f"b/{number}.jpg"))
        made.rename(shards.records(number))
        made.with_suffix(".safetensors").rename(shards.file(number, ".safetensors"))
        files = [shards.records(number), shards.file(number, ".safetensors")]
        inputs = ShardInputs(2, 4, str(number) * 64, "f" * 64)
        about = Made("facetools embed", "0.1.0", {"faces": "largest"})
        write_marker(shards.marker(number), Marker(number, 2, about, inputs, 2, 0, 0, _outputs(files)))


def _outputs(files: list[Path]) -> dict[str, dict[str, object]]:
    return {
        path.name: {"bytes": len(data := path.read_bytes()), "sha256": hashlib.sha256(data).hexdigest()}
        for path in files
    }


def _damage(folder: Path, rng: random.Random) -> None:
    """Change one file of a folder; where it is an output, the marker may say so."""
    path = rng.choice(sorted(folder.iterdir()))
    if path.suffix == ".done" and rng.random() < 0.7:
        path.write_text(json.dumps(mutated_json(json.loads(path.read_bytes()), rng)))
        return
    path.write_bytes(mutated(path.read_bytes(), rng))
    marker = path.with_suffix(".done")
    if path != marker and rng.random() < 0.8:
        found = json.loads(marker.read_bytes())
        found["outputs"] |= _outputs([path])
        marker.write_text(json.dumps(found))


def _rename(marker: Path, rng: random.Random) -> None:
    """Call a shard another one of another number of shards; its marker may say the same."""
    number, total = rng.choice(TOTALS), rng.choice(TOTALS)
    with contextlib.suppress(ValueError, TypeError, AttributeError):  # damaged already
        found = json.loads(marker.read_bytes())
        if rng.random() < 0.5:
            found |= {"number": int(number), "total": int(total)}
        marker.write_text(json.dumps(found))
    marker.rename(marker.with_name(f"{number}-of-{total}.done"))


def try_one(rng: random.Random) -> str:
    """Damage a folder and gather it, with and without embeddings."""
    with tempfile.TemporaryDirectory(prefix="fuzz") as place:
        folder, out = Path(place) / "shards", Path(place) / "all.safetensors"
        shutil.copytree(SHARDS, folder)
        if rng.random() < 0.95:
            _damage(folder, rng)
        if rng.random() < 0.2:
            _rename(rng.choice(sorted(folder.glob("*.done"))), rng)
        joins = rng.random() < 0.5
        before, sys.stdout = sys.stdout, io.TextIOWrapper(io.BytesIO(), "utf-8")
        try:
            gather(folder, out=out if joins else None)
        except ToolError as error:
            assert "\n" not in error.message.replace(place, ""), error.message
            assert not out.exists()
            return "refused"
        finally:
            sys.stdout = before
            assert {path.name for path in Path(place).iterdir()} <= {"shards", "all.safetensors"}
    return "joined" if joins else "passed on"


if __name__ == "__main__":
    sys.exit(fuzz(NAME, try_one, prepare))
