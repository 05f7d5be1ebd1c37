"""Kill commands that write at random moments, and look at what they leave.

Usage: python docs/results/scripts/kill_outputs.py BASE PHOTOS N [SEED [COMMAND...]]

BASE is a model's folder, PHOTOS a folder of some people's photos, two of each. Each of N kills runs one of the commands
below (or of those that are named) in turn, with --force onto an older output (photos and shards: into an empty folder),
and ends it: every second one at a moment drawn evenly over the time that it takes, the others up to 20 ms after
something has begun to be written. Three in four get SIGKILL, one in four SIGTERM. Then

- the output must be the older or the new one, whole, or, of a folder of photos or shards, whole files only;
- after SIGTERM nothing half-written and no claim may be left;
- the same command must then end well with the new output, and leave nothing hidden.

Prints one JSON object a command, and exits 1 if something was not so.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

AFTER_S = 0.02
"""Longest wait after something has begun to be written."""

TEXTS = "".join(json.dumps({"text": f"{word} film", "label": word}) + "\n" for word in ("good", "bad") * 8)


def tool(*words: str | Path) -> list[str]:
    """Return the command line of one of the tools."""
    name, *rest = map(str, words)
    return [sys.executable, "-m", name, *rest]


@dataclass
class Writer:
    """One command that writes.

    Attributes
    ----------
    words
        Its command line without --force.
    out
        What it writes.
    older
        Command line of what is there before, or None: a folder of photos, or of shards, begins empty.
    """

    words: list[str]
    out: Path
    older: list[str] | None
    found: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def line(self) -> list[str]:
        """The command line that is killed, and run again."""
        again = "--force" if self.older else "--resume"
        return self.words if "--into" in self.words else [*self.words, again]  # of shards those that are done stay


def state_of(path: Path) -> dict[str, str]:
    """Return the sha256 of each file of an output, hidden ones left out."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return {
        str(each.relative_to(path)): hashlib.sha256(each.read_bytes()).hexdigest()
        for each in files
        if not each.name.startswith(".")
    }


def hidden_beside(out: Path) -> list[Path]:
    """Return what is half-written, and claims."""
    found = [*out.parent.glob(".*"), *(out.rglob(".*") if out.is_dir() else ())]
    return [path for path in found if path.name.endswith((".lock", ".tmp", ".old"))]


def checkpoints_of(out: Path) -> list[Path]:
    """Return what a training keeps beside its output until it is done."""
    return sorted(out.parent.glob(f"{out.name}.checkpoint*"))


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def copy(path: Path, to: Path) -> None:
    """Copy a file or a folder."""
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, to)


def end_well(line: Sequence[str]) -> None:
    """Run a command that must end well."""
    done = subprocess.run(line, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)}: exit {done.returncode}: {done.stderr.decode()}")


def learn(writer: Writer, kept: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the older and the new output, keep a copy of the older, and note how long the command takes."""
    older: dict[str, str] = {}
    if writer.older:
        end_well(writer.older)
        older = state_of(writer.out)
        copy(writer.out, kept)
    begin = time.monotonic()
    end_well(writer.line)
    writer.seconds = time.monotonic() - begin
    if (new := state_of(writer.out)) == older:
        raise SystemExit(f"{' '.join(writer.line)}: makes what was there before")
    return older, new


def begin_again(writer: Writer, kept: Path) -> None:
    """Put the older output in its place."""
    remove(writer.out)
    for path in (*hidden_beside(writer.out), *checkpoints_of(writer.out)):
        remove(path)
    if writer.older:
        copy(kept, writer.out)


def kill(writer: Writer, number: int, rng: random.Random) -> tuple[int, signal.Signals]:
    """Run the command and end it; return its exit code and the signal."""
    sent = signal.SIGTERM if rng.random() < 0.25 else signal.SIGKILL
    process = subprocess.Popen(writer.line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if number % 2:
        time.sleep(rng.uniform(0, 1.05 * writer.seconds))
    else:
        while process.poll() is None and not any(path.suffix != ".lock" for path in hidden_beside(writer.out)):
            time.sleep(0.0005)
        time.sleep(rng.uniform(0, AFTER_S))
    process.send_signal(sent)
    return process.wait(), sent


def judge(writer: Writer, older: dict[str, str], new: dict[str, str], ended: tuple[int, signal.Signals]) -> list[str]:
    """Return what is wrong after a kill, and count what was found."""
    code, sent = ended
    found, hidden, wrong = state_of(writer.out), hidden_beside(writer.out), []
    whole = found in (older, new) if writer.older else found.items() <= new.items()
    if not whole or (writer.older and not writer.out.exists()):
        wrong.append(f"output is neither the older nor the new one: {sorted(found)}")
    kind = "new" if found == new else "older" if found == older else "some files"
    writer.found["ended before" if code == 0 else f"{sent.name}: {kind}"] += 1
    half_written = sent == signal.SIGKILL and any(path.suffix != ".lock" for path in hidden)
    writer.found["half-written left by SIGKILL"] += half_written
    if hidden and sent == signal.SIGTERM:
        wrong.append(f"left after SIGTERM: {hidden}")
    if sent == signal.SIGTERM and code not in (0, 143, -signal.SIGTERM):  # the last: before it could be handled
        wrong.append(f"exit code {code} after SIGTERM")
    done = subprocess.run(writer.line, capture_output=True, check=False)
    left = [*hidden_beside(writer.out), *checkpoints_of(writer.out)]
    if done.returncode or state_of(writer.out) != new or left:
        wrong.append(f"the next run: exit {done.returncode}, {left}, {done.stderr.decode()}")
    return wrong


def maker(out: Path, *words: str | Path, older: Sequence[str | Path] | None, to: str = "--out") -> Writer:
    """Return a command that writes ``out``; ``words`` are the tool's name, its command and the rest."""
    out.parent.mkdir(exist_ok=True)
    before = None if older is None else [*tool(*words[:2], *older), to, str(out)]
    return Writer([*tool(*words), to, str(out)], out, before)


def text_writers(base: Path, work: Path) -> list[Writer]:
    """Return the commands of berttools, after making what they read."""
    texts, task, other = work / "texts.jsonl", work / "task.safetensors", work / "other.safetensors"
    texts.write_text(TEXTS)
    tuned: list[str | Path] = ["--base", base, "--train", texts, "--max-steps", "2"]
    one, mask = work / "one.mask.safetensors", work / "other.mask.safetensors"
    end_well(tool("berttools", "mask-tune", *tuned, "--out", one))
    end_well(tool("berttools", "mask-control", base, one, "--out", mask))
    end_well(tool("berttools", "finetune", *tuned, "--save", "delta", "--out", task))
    end_well(tool("berttools", "finetune", *tuned, "--seed", "1", "--save", "delta", "--out", other))
    end_well(tool("berttools", "apply-delta", base, task, "--out", work / "ft"))
    again = [*tuned, "--seed", "1"]

    def of(name: str, out: str, *words: str | Path, older: Sequence[str | Path], to: str = "--out") -> Writer:
        return maker(work / "out" / out, "berttools", name, *words, older=older, to=to)

    return [
        of("apply-mask", "masked", base, mask, older=[base, one]),
        of("apply-delta", "tuned", base, task, older=[base, other]),
        of("layerdiff", "moved.png", base, work / "ft", older=[base, work / "ft", "--group", "Q"], to="--heatmap"),
        of("maskdiff", "masks.png", one, mask, older=[one], to="--heatmap"),
        of("finetune", "model", *tuned, older=again),
        of("mask-tune", "learned", *tuned, older=again),
        of("mask-control", "random", base, one, older=[base, one, "--seed", "1"]),
    ]


def photo_writers(photos: Path, work: Path) -> list[Writer]:
    """Return the commands of facetools, after making what they read."""
    cloaked, scores, shards = work / "cloaked", work / "scores.jsonl", work / "shards"
    cloak: list[str | Path] = ["--attack", "lowkey", "--set", "steps=1", "--format", "png"]
    end_well(tool("facetools", "perturb", *cloak, photos, "--out", cloaked))
    with scores.open("w") as out:
        subprocess.run(tool("facetools", "detect", photos, cloaked), stdout=out, check=True)
    for part in ("1/2", "2/2"):
        end_well(tool("facetools", "embed", photos, "--shard", part, "--into", shards))
    pairs: list[str | Path] = ["--clean", photos, "--cloaked", cloaked, "--epochs", "2", "--held-out", "0.5", "--seed"]
    people: list[str | Path] = ["--in", photos, "--epochs", "2", "--batch", "8", "--held-out", "0.5", "--seed"]
    drawn: list[str | Path] = [scores, "--cloaked", cloaked, "--kind"]

    def of(name: str, out: str, *words: str | Path, older: Sequence[str | Path] | None) -> Writer:
        return maker(work / "out" / out, "facetools", name, *words, older=older)

    def drawn_by(name: str, out: str, *words: str | Path, older: Sequence[str], to: str) -> Writer:
        place = work / "out" / out / f"{out}.png"
        place.parent.mkdir(parents=True)
        return maker(place, "facetools", name, *words, older=[*words, *older], to=to)

    copies: list[str | Path] = ["--attack", "none", photos, "--force", "--out", work / "copies"]
    joined = of("gather", "all.safetensors", shards, older=[shards])
    joined.older = tool("facetools", "embed", photos, "--faces", "largest", "--out", joined.out)
    figures, student = work / "evaluate.jsonl", work / "student.safetensors"
    with figures.open("w") as out:
        subprocess.run(tool("facetools", "evaluate", "--gallery", photos, "--cloaked", cloaked), stdout=out, check=True)
    end_well(tool("facetools", "train-extractor", *people, "1", "--out", student))
    page: list[str | Path] = ["--in", figures, "--clean", photos, "--cloaked", f"lowkey={cloaked}", "--title"]
    return [
        joined,
        of("embed", "e.safetensors", photos, older=[photos, "--faces", "largest"]),
        of("perturb", "same", "--attack", "none", photos, older=None),
        of("align", "chips", photos, older=None),
        drawn_by("perturb", "sheet", *copies, older=["--min-face", "200"], to="--preview"),
        drawn_by("compare", "grid", photos, cloaked, older=["--amplify", "20"], to="--grid"),
        maker(work / "out" / "shards", "facetools", "detect", photos, "--shard", "1-4/4", older=None, to="--into"),
        of("report", "page", *page, "new", older=[*page, "old"]),
        of("import-extractor", "i.safetensors", student, older=[student, "--half"]),
        of("plot", "roc.png", *drawn, "roc", older=[*drawn, "histogram"]),
        of("train-detector", "d.safetensors", *pairs, "1", older=[*pairs, "2"]),
        of("train-extractor", "x.safetensors", *people, "1", older=[*people, "2"]),
        of("train-robust", "r.safetensors", *pairs, "1", older=[*pairs, "2"]),
    ]


def main(base: Path, photos: Path, kills: int, seed: int, commands: Sequence[str]) -> int:
    """Kill each command in turn; return the exit code."""
    rng, failed = random.Random(seed), False
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        both = [*text_writers(base, work), *photo_writers(photos, work)]
        if unknown := {*commands} - {each.words[3] for each in both}:
            raise SystemExit(f"no such command that writes: {', '.join(sorted(unknown))}")
        every = [each for each in both if not commands or each.words[3] in commands]
        for index, writer in enumerate(every):
            kept, wrong = work / "kept", list[str]()
            older, new = learn(writer, kept)
            numbers = range(index, kills, len(every))
            for number in range(len(numbers)):
                begin_again(writer, kept)
                wrong += judge(writer, older, new, kill(writer, number, rng))
            remove(kept)
            failed |= bool(wrong)
            name = writer.words[3]
            record = {"kills": len(numbers), "command": name, "seconds": round(writer.seconds, 2), "wrong": wrong}
            print(json.dumps(record | dict(sorted(writer.found.items()))), flush=True)
    return int(failed)


if __name__ == "__main__":
    kills, seed = map(int, [*sys.argv[3:5], "0"][:2])
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), kills, seed, sys.argv[5:]))
