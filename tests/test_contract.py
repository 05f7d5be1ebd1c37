"""Every rule of the contract, for every command of both tools."""

from __future__ import annotations

import csv
import importlib
import inspect
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from berttools.cli import COMMANDS as BERTTOOLS
from conftest import Run, faceless
from embedding_files import write as write_embeddings
from facetools.cli import COMMANDS as FACETOOLS
from tiny_models import make_base, make_mask, make_tuned, other_warnings, texts, write_lines

ALL = [("facetools", name) for name in FACETOOLS] + [("berttools", name) for name in BERTTOOLS]
PHOTOS = [("facetools", name) for name in ("detect", "perturb", "embed", "align")]
FILTERS = [*PHOTOS, ("berttools", "layerdiff")]
TUNING = [
    ("berttools", name)
    for name in (
        "score-layers",
        "finetune",
        "apply-delta",
        "mask-tune",
        "apply-mask",
        "maskdiff",
        "mask-control",
        "predict",
        "evaluate",
    )
]
MAKERS = [
    *(("facetools", name) for name in ("perturb", "align", "embed", "compare")),
    *(("berttools", name) for name in ("layerdiff", "finetune", "apply-delta", "mask-tune", "apply-mask", "maskdiff")),
    ("berttools", "mask-control"),
]
POSITIONAL = {
    "facetools detect",
    "facetools perturb",
    "facetools embed",
    "facetools align",
    "facetools train-extractor",
    "berttools evaluate",
}
WRITERS = [*FILTERS, ("facetools", "compare"), ("facetools", "match"), *TUNING]
Start = Callable[..., list[str]]
HEAVY = ("torch", "transformers", "torchvision", "numpy", "PIL", "safetensors")


@pytest.fixture
def words(tmp_path: Path, plain_photos: Path) -> Callable[[str], list[str]]:
    """Return the options that each command needs besides its inputs, in a folder of its own."""

    def needed(name: str) -> list[str]:
        return {
            "detect": [],
            "perturb": ["--attack", "none", "--out", str(tmp_path / "out")],
            "align": ["--out", str(tmp_path / "out")],
            "embed": ["--out", str(tmp_path / "out.safetensors")],
            "compare": [str(plain_photos), str(plain_photos)],
            "evaluate": ["--gallery", str(plain_photos), "--cloaked", str(tmp_path / "cloaked")],
            "score-layers": ["--base", str(tmp_path / "base"), "--train", "a.jsonl"],
            "finetune": ["--base", str(tmp_path / "base"), "--train", "a.jsonl", "--out", str(tmp_path / "tuned")],
            "apply-delta": [str(tmp_path / "base"), "delta.safetensors", "--out", str(tmp_path / "tuned")],
            "mask-tune": ["--base", str(tmp_path / "base"), "--train", "a.jsonl", "--out", str(tmp_path / "mask")],
            "apply-mask": [str(tmp_path / "base"), "task.mask.safetensors", "--out", str(tmp_path / "masked")],
            "maskdiff": ["a.mask.safetensors", "b.mask.safetensors"],
            "mask-control": [str(tmp_path / "base"), "a.mask.safetensors", "--out", str(tmp_path / "control")],
            "predict": ["--model", str(tmp_path / "ft")],
            "report": ["--out", str(tmp_path / "report")],
            "plot": ["--kind", "histogram", "--out", str(tmp_path / "plot.png")],
            "match": [str(tmp_path / "e.safetensors")],
            "extractors": [],
            "gather": [str(tmp_path / "scores")],
            "import-extractor": [str(tmp_path / "backbone.pth"), "--out", str(tmp_path / "x.safetensors")],
            "train-extractor": ["--epochs", "1", "--out", str(tmp_path / "out.safetensors")],
            "train-robust": [
                *("--clean", str(plain_photos), "--cloaked", str(tmp_path / "cloaked")),
                *("--out", str(tmp_path / "out.safetensors")),
            ],
            "train-detector": [
                "--clean",
                str(plain_photos),
                "--cloaked",
                str(plain_photos),
                "--out",
                str(tmp_path / "d"),
            ],
        }[name]

    return needed


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory, warm_command: Start) -> Path:
    """A folder with a base, a tuned model, a delta, a mask, texts and predictions of them."""
    folder = tmp_path_factory.mktemp("tiny")
    make_tuned(make_base(folder / "base"), folder / "ft")
    make_mask(folder / "base", folder / "a.mask.safetensors")
    lines = [{"text": text["text"], "label": text["label"]} for text in texts(20)]
    write_lines(folder / "texts.jsonl", lines)
    write_lines(folder / "said.jsonl", [{"label": number % 2, "gold": number % 2} for number in range(20)])
    arguments = ["--base", folder / "base", "--train", folder / "texts.jsonl", "--save", "delta", "--epochs", "1"]
    subprocess.run(
        warm_command("berttools", "finetune", *arguments, "--out", folder / "delta.safetensors"),
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def valid(
    words: Callable[[str], list[str]], plain_photos: Path, tmp_path: Path, tiny: Path
) -> Callable[[str], list[str]]:
    """Return the arguments of a run that succeeds."""

    def arguments(name: str) -> list[str]:
        if ("berttools", name) in TUNING:
            said, text = str(tiny / "said.jsonl"), str(tiny / "texts.jsonl")
            out = ["--out", str(tmp_path / "tuned")]
            return {
                "score-layers": ["--base", str(tiny / "base"), "--train", text],
                "finetune": ["--base", str(tiny / "base"), "--train", text, "--dev", text, "--epochs", "1", *out],
                "apply-delta": [str(tiny / "base"), str(tiny / "delta.safetensors"), *out],
                "mask-tune": ["--base", str(tiny / "base"), "--train", text, "--dev", text, "--score-lr", "4", *out],
                "apply-mask": [str(tiny / "base"), str(tiny / "a.mask.safetensors"), *out],
                "maskdiff": [str(tiny / "a.mask.safetensors"), "--by", "group"],
                "mask-control": [str(tiny / "base"), str(tiny / "a.mask.safetensors"), *out],
                "predict": ["--model", str(tiny / "ft"), "--in", text],
                "evaluate": ["--in", said],
            }[name]
        if name == "match":
            return [str(write_embeddings(tmp_path)), "--threshold", "1"]
        if name == "layerdiff":
            rng = np.random.default_rng(0)
            # Enough records to fill a pipe that nobody reads.
            base = {f"layer.{n}.weight": rng.normal(size=(4, 4)).astype(np.float32) for n in range(600)}
            save_file(base, tmp_path / "base.safetensors")
            save_file({key: value + 0.01 for key, value in base.items()}, tmp_path / "ft.safetensors")
            return [str(tmp_path / "base.safetensors"), str(tmp_path / "ft.safetensors")]
        return [*words(name), *([] if name == "compare" else ["--in", str(plain_photos)])]

    return arguments


def modules_after(tool: str, *arguments: str) -> set[str]:
    """Run a tool in a process of its own, and return which of the heavy modules it has loaded."""
    code = (
        f"import sys; sys.argv = [{tool!r}, *sys.argv[1:]]\n"
        f"from {tool}.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        f"print('LOADED', *[m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True, input=""
    )
    return set(done.stderr.splitlines()[-1].split()[1:])


def assert_one_error_line(run: Run, tool: str) -> None:
    assert re.fullmatch(rf"{tool}: error: \S[^\n]*\n", run.err), run.err
    assert "Traceback" not in run.err


@pytest.mark.parametrize(("tool", "name"), ALL)
def test_help(run: Callable[..., Run], tool: str, name: str) -> None:
    for flag in ("--help", "-h"):
        done = run(tool, name, flag)
        assert (done.code, done.err) == (0, "")
        shown = done.out.decode()
        assert shown.startswith(f"Usage: {tool} {name}")
        # The end teaches: examples of the man page, as they can be typed, and where it is.
        page = importlib.import_module(f"{tool}.commands.{name.replace('-', '_')}").PAGE
        for line, meaning in page.examples[:3]:
            assert "\n".join(f"  {each}" for each in (f"# {meaning}", *line.splitlines())) in shown
        assert shown.endswith(f"\n  More: man {tool}-{name}\n")
        assert all(f"\n  {option} " in shown for option in ("--table", "--csv", "--jsonl"))
    assert not modules_after(tool, name, "--help")


@pytest.mark.parametrize("tool", ["facetools", "berttools"])
def test_tool_help_and_version(run: Callable[..., Run], tool: str) -> None:
    bare, asked = run(tool), run(tool, "--help")
    assert (bare.code, bare.out) == (asked.code, asked.out) == (0, asked.out)
    for name in importlib.import_module(f"{tool}.cli").COMMANDS:
        assert re.search(rf"^  {name} +[A-Z][^.]*\.$", asked.out.decode(), re.M), f"{name} has no whole summary"
    version = run(tool, "--version")
    assert (version.code, version.err) == (0, "")
    assert re.fullmatch(rf"{tool} \d+\.\d+\.\d+\n", version.out.decode())
    assert not modules_after(tool, "--version")


@pytest.mark.parametrize(("tool", "name"), ALL)
def test_usage_errors(run: Callable[..., Run], tool: str, name: str) -> None:
    # layerdiff takes any number of checkpoints, but not one, compare of copies; maskdiff of masks, but not none.
    words = {
        "layerdiff": ["surplus"],
        "compare": ["surplus"],
        "maskdiff": [],
        "predict": ["--base", "without", "masks"],
    }.get(name, ["surplus", "words", "here"])
    if f"{tool} {name}" in POSITIONAL:
        words = ["--in", "-", "-"]  # arguments are inputs, and stdin can be read once
    for arguments in (["--no-such-option"], ["--shard", "3/2"], words):
        done = run(tool, name, *arguments)
        assert (done.code, done.out) == (2, b"")
        assert_one_error_line(done, tool)
    assert not modules_after(tool, name, "--no-such-option")


@pytest.mark.parametrize(
    "arguments",
    [
        ["detect", "--in", "{photos}", "-0"],
        ["detect", "--in", "-", "--in", "-"],
        ["detect", "--device", "gpu"],
        ["detect", "--threshold", "2"],
        ["perturb", "--attack", "nothing", "--in", "{photos}", "--out", "{out}"],
        ["perturb", "--attack", "lowkey", "--set", "speed=1", "--in", "{photos}", "--out", "{out}"],
        ["perturb", "--attack", "lowkey", "--set", "steps=many", "--in", "{photos}", "--out", "{out}"],
        ["perturb", "--attack", "lowkey", "--set", "steps=-1", "--in", "{photos}", "--out", "{out}"],
        ["perturb", "--attack", "none", "--format", "png", "--quality", "50", "--in", "{photos}", "--out", "{out}"],
        ["detect", "--device", "cuda:00", "--in", "{photos}"],
        ["detect", "--min-face", "nan", "--in", "{photos}"],
        ["detect", "--threshold", "nan", "--in", "{photos}"],
        ["detect", "--false-alarms", "0.6", "--in", "{photos}"],
        ["detect", "--false-alarms", "0.00001", "--in", "{photos}"],
        ["detect", "--false-alarms", "0.01", "--threshold", "0.5", "--in", "{photos}"],
        ["embed", "--min-face", "inf", "--in", "{photos}", "--out", "{out}"],
        ["perturb", "--attack", "none", "--in", "{photos}", "--out", "{photos}/below"],
        ["perturb", "--attack", "lowkey", "--views", "rain", "--in", "{photos}", "--out", "{out}"],
        ["evaluate", "--gallery", "{photos}", "--cloaked", "{photos}"],
        ["evaluate", "--gallery", "{photos}", "--cloaked", "{out}", "--classifier", "forest"],
        ["align", "--in", "{photos}", "--out", "{photos}"],
        ["train-detector", "--clean", "{photos}", "--cloaked", "{photos}", "--learning-rate", "nan", "--out", "{out}"],
        ["embed", "--in", "{photos}", "--out", "{photos}/0.png", "--force"],
        ["embed", "--in", "{photos}", "--out", "{photos}"],
        ["embed", "--in", "{photos}", "--out", "{out}/deep/e.safetensors"],
        ["embed", "--in", "{photos}", "--out", "{out}", "--extractor", "nobody"],
        ["embed", "--in", "{photos}", "--out", "{out}.npy"],
        ["match", "-", "-"],
        ["match", "a", "--threshold", "0.5", "--calibrate", "{photos}"],
        ["match", "a", "--cluster", "--most", "3"],
        ["match", "a", "--far", "nan"],
    ],
)
def test_what_cannot_be_asked_for(
    run: Callable[..., Run], arguments: list[str], plain_photos: Path, tmp_path: Path
) -> None:
    filled = [word.format(photos=plain_photos, out=tmp_path / "new") for word in arguments]
    done = run("facetools", *filled)
    assert (done.code, done.out) == (2, b"")
    assert_one_error_line(done, "facetools")
    assert not {"torch", "transformers"} & modules_after("facetools", *filled)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("tool", "name"), WRITERS)
def test_stdout_is_jsonl_and_stderr_silent(
    run: Callable[..., Run], valid: Callable[[str], list[str]], tool: str, name: str
) -> None:
    # In a new interpreter: what imports show would be shown here.
    done = run(tool, name, *valid(name), cold=True)
    assert (done.code, other_warnings(done.err)) == (0, "")
    module = importlib.import_module(f"{tool}.commands.{name.replace('-', '_')}")
    page = module.PAGE
    assert done.records
    for line, record in zip(done.out.splitlines(), done.records, strict=True):
        first = next(iter(record))
        assert re.match(rb'\{"%s":( null|\d+\.\d{6}(\d{6})?|\d+)[,}]' % first.encode(), line)
        assert record["schema"] == module.SCHEMA
        assert set(record) - {"schema"} <= set(page.fields), "the man page must name every field"


CHEAP = [("facetools", "match"), ("facetools", "extractors"), ("berttools", "layerdiff"), ("berttools", "evaluate")]


@pytest.mark.parametrize(("tool", "name"), CHEAP)
def test_records_in_other_forms(
    run_inside: Callable[..., Run], valid: Callable[[str], list[str]], words: Callable[[str], list[str]],
    tool: str, name: str,
) -> None:  # fmt: skip
    arguments = words(name) if name == "extractors" else valid(name)
    module = importlib.import_module(f"{tool}.commands.{name.replace('-', '_')}")
    records = run_inside(tool, name, *arguments, "--jsonl").records
    table = list(csv.DictReader(io.StringIO(run_inside(tool, name, *arguments, "--csv").out.decode())))
    assert len(table) == len(records)
    rank = next(iter(records[0]))
    assert next(iter(table[0])) == rank
    assert list(table[0])[1:] == list(
        getattr(module, "CSV_FIELDS", [each for each in module.PAGE.fields if each != rank])
    )
    for row, record in zip(table, records, strict=True):
        assert (row[rank] == "") == (record[rank] is None)
        assert record[rank] is None or float(row[rank]) == pytest.approx(record[rank], abs=1e-12)
    drawn = run_inside(tool, name, *arguments, "--table").out.decode().splitlines()
    assert len(drawn) > len(records)
    assert drawn[0].split()[0] == rank
    both = run_inside(tool, name, *arguments, "--csv", "--jsonl")
    assert (both.code, both.err) == (2, f"{tool}: error: --csv and --jsonl: give one of them\n")


@pytest.mark.parametrize(("tool", "name"), PHOTOS)
def test_paths_on_stdin(
    run: Callable[..., Run], words: Callable[[str], list[str]], plain_photos: Path, tool: str, name: str
) -> None:
    odd = plain_photos / os.fsdecode(b"new\nline and \xff byte.png")
    (plain_photos / "0.png").rename(odd)
    (plain_photos / "1.png").rename(plain_photos / "a space.png")
    paths = [odd, plain_photos / "a space.png"]
    done = run(tool, name, *words(name), "-0", "--in", "-", stdin=b"".join(os.fsencode(p) + b"\0" for p in paths))
    assert (done.code, done.err) == (0, "")
    key = "source" if name in ("perturb", "align") else "path"
    assert [record[key] for record in done.records] == [str(path) for path in paths]
    by_line = run(tool, "detect", stdin=os.fsencode(paths[1]) + b"\n")
    assert [record["path"] for record in by_line.records] == [str(paths[1])]


@pytest.mark.parametrize(("tool", "name"), PHOTOS)
def test_records_pass_through(
    run: Callable[..., Run], words: Callable[[str], list[str]], plain_photos: Path, tool: str, name: str
) -> None:
    incoming = {"path": str(plain_photos / "0.png"), "who": "somebody", "score": 0.5}
    failed = {"moved": None, "path": "gone.jpg", "error": {"kind": "missing", "message": "gone.jpg: no such file"}}
    lines = "".join(json.dumps(record) + "\n" for record in (incoming, failed))
    done = run(tool, name, *words(name), "--in", "-", stdin=(lines + "{broken\n").encode())
    assert done.code == 3
    first, second, third = done.records
    assert first["who"] == "somebody"
    assert second == failed
    assert third["error"]["kind"] == "bad-record"
    assert "line 3" in third["error"]["message"]


@pytest.mark.parametrize(("tool", "name"), WRITERS)
def test_reader_goes_away(valid: Callable[[str], list[str]], warm_command: Start, tool: str, name: str) -> None:
    process = subprocess.Popen(warm_command(tool, name, *valid(name)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert other_warnings(process.stderr.read().decode()) == ""
    assert process.wait(120) == 0


@pytest.mark.parametrize(("tool", "name"), MAKERS)
def test_what_makes_files_goes_on_without_a_reader(
    valid: Callable[[str], list[str]],
    warm_command: Start,
    tiny: Path,
    plain_photos: Path,
    tmp_path: Path,
    tool: str,
    name: str,
) -> None:
    picture = tmp_path / "picture.png"
    made = {
        **dict.fromkeys(("layerdiff", "maskdiff", "compare"), picture),
        "embed": tmp_path / "out.safetensors",
        "perturb": tmp_path / "out" / "0.png",
        "align": tmp_path / "out" / "0.png.face0.png",
    }.get(name, tmp_path / "tuned")
    if name in ("perturb", "align", "embed"):
        (plain_photos / "broken.jpg").write_bytes(b"no photo")
    arguments = [str(tiny / "base"), str(tiny / "ft")] if name == "layerdiff" else valid(name)
    more = {"compare": ["--grid", str(picture)], "align": ["--faces", "largest"]}.get(name, [])
    more = ["--heatmap", str(picture)] if name in ("layerdiff", "maskdiff") else more
    # The first record meets a pipe that nobody reads.
    read, write = os.pipe()
    os.close(read)
    process = subprocess.Popen(warm_command(tool, name, *arguments, *more), stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert process.stderr is not None
    assert other_warnings(process.stderr.read().decode()) == ""
    assert process.wait(120) == (3 if name in ("perturb", "align", "embed") else 0)
    assert made.exists(), sorted(map(str, tmp_path.rglob("*")))


@pytest.mark.parametrize(("tool", "name"), ALL)
def test_every_command_with_an_out_says_that_it_makes_files(tool: str, name: str) -> None:
    module = importlib.import_module(f"{tool}.commands.{name.replace('-', '_')}")
    if "out" not in inspect.signature(getattr(module, name.replace("-", "_"))).parameters:
        return
    # What writes may be a function that several commands share.
    shared = (inspect.getmodule(each) for each in vars(module).values() if inspect.isfunction(each))
    sources = [inspect.getsource(each) for each in {module, *filter(None, shared)} if tool in each.__name__]
    assert any(re.search(r"RecordWriter\([^)]*makes_files=(True|makes_files)", source) for source in sources)


@pytest.mark.parametrize("name", ["finetune", "mask-tune"])
def test_a_name_that_has_no_room_for_the_checkpoint_is_refused_at_once(
    run: Callable[..., Run], valid: Callable[[str], list[str]], tmp_path: Path, name: str
) -> None:
    done = run("berttools", name, *valid(name)[:-1], str(tmp_path / ("y" * 250)))
    assert (done.code, done.out) == (1, b"")
    assert_one_error_line(done, "berttools")
    assert done.err.endswith("y.checkpoint: File name too long; give a shorter name\n")


@pytest.mark.parametrize(("tool", "name"), ALL)
def test_names_that_are_too_long(
    run: Callable[..., Run], words: Callable[[str], list[str]], tmp_path: Path, tool: str, name: str
) -> None:
    inputs = {"layerdiff": ["base", "ft"], "evaluate": ["--in", "said.jsonl"], "predict": ["--model", "ft"]}
    usual = inputs[name] if tool == "berttools" and name in inputs else words(name)
    usual += ["--in", "some.jsonl"] if (tool, name) in (*PHOTOS, ("berttools", "predict")) else []
    usual += ["some.jsonl"] if name in ("extractors", "report", "plot") else []
    places = {place for place, word in enumerate(usual) if re.search("[./]|^(base|ft)$", word)}
    written = {place for place in places if place and usual[place - 1] == "--out"}
    for some in filter(None, (written, places - written)):
        done = run(tool, name, *(str(tmp_path / ("x" * 300)) if n in some else word for n, word in enumerate(usual)))
        assert done.code in (1, 2, 3)
        if done.err or done.code != 3:  # of an input among many it is a record
            assert_one_error_line(done, tool)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize(("tool", "name"), WRITERS)
def test_full_disk(valid: Callable[[str], list[str]], warm_command: Start, tool: str, name: str) -> None:
    for arguments in ([name, *valid(name)], ["--help"]):
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                warm_command(tool, *arguments), stdout=full, stderr=subprocess.PIPE, check=False, timeout=600
            )
        assert done.returncode == 1
        assert done.stderr.decode() == f"{tool}: error: stdout: No space left on device\n"


@pytest.mark.parametrize(("tool", "name"), FILTERS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    words: Callable[[str], list[str]],
    valid: Callable[[str], list[str]],
    warm_command: Start,
    plain_photos: Path,
    tmp_path: Path,
    tool: str,
    name: str,
    number: int,
) -> None:
    arguments = valid(name) if name == "layerdiff" else [*words(name), "--in", "-"]
    process = subprocess.Popen(
        warm_command(tool, name, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell's background job, and so these tests in one, ignores Ctrl-C, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdin and process.stdout and process.stderr
    process.stdin.write(os.fsencode(plain_photos / "0.png") + b"\n")
    process.stdin.flush()
    # embed prints when all is done; the others have printed a record and wait, for input or for a reader.
    if name == "embed":
        time.sleep(4)
    else:
        assert process.stdout.readline()
        time.sleep(1 if name in ("perturb", "align") else 0)  # until it waits for the next photo
    process.send_signal(number)
    assert process.wait(120) == (130 if number == signal.SIGINT else 128 + number)
    said = process.stderr.read().decode()
    assert "Traceback" not in said
    if name in ("perturb", "align"):
        assert said == f"{tool}: stopped after 1; go on with --resume\n"
    left = [path.name for path in tmp_path.rglob("*") if path.name.endswith(".tmp") or path.name == "out.safetensors"]
    assert left == []


def on_a_terminal(arguments: list[str], *, stdin: bytes | None) -> tuple[int, str]:
    """Run with stdout, stderr and, if no bytes are given, stdin on a terminal: exit code and what it showed."""
    main, other = pty.openpty()
    process = subprocess.Popen(
        arguments,
        stdin=other if stdin is None else subprocess.PIPE,
        stdout=other,
        stderr=other,
        env={**os.environ, "COLUMNS": "200"},
    )
    os.close(other)
    if stdin is not None:
        assert process.stdin
        process.stdin.write(stdin)
        process.stdin.close()
    shown, end = b"", time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([main], [], [], 0.2)[0]:
            try:
                block = os.read(main, 65536)
            except OSError:  # the other side has closed
                break
            shown += block
        elif process.poll() is not None:
            break
    os.close(main)
    return process.wait(10), shown.decode(errors="replace")


@pytest.mark.parametrize(("tool", "name"), PHOTOS)
def test_terminal_without_input_is_a_usage_error(
    words: Callable[[str], list[str]], warm_command: Start, tool: str, name: str
) -> None:
    code, shown = on_a_terminal(warm_command(tool, name, *words(name)), stdin=None)
    assert code == 2
    assert f"{tool}: error: no input" in shown


@pytest.mark.parametrize(("tool", "name"), WRITERS)
def test_terminal_shows_a_table(valid: Callable[[str], list[str]], warm_command: Start, tool: str, name: str) -> None:
    code, shown = on_a_terminal(warm_command(tool, name, *valid(name)), stdin=b"")
    assert code == 0
    assert '{"' not in shown
    expected = {
        "layerdiff": "layer.599.weight",
        "score-layers": "encoder.layer.2.output.dense.weight",
        "finetune": "accuracy",
        "apply-delta": "from_delta",
        "mask-tune": "inference",
        "apply-mask": "zeroed",
        "maskdiff": "bits_per_weight",
        "mask-control": "random",
        "predict": "story",
        "evaluate": "matthews",
        "match": "in/a/1.jpg",
    }
    assert expected.get(name, "no face") in shown, shown


def test_a_name_cannot_drive_the_terminal(warm_command: Start, tmp_path: Path) -> None:
    evil = tmp_path / "\x1b]0;title\x07[red].png"
    faceless().save(evil)
    code, shown = on_a_terminal(warm_command("facetools", "detect", "--in", str(evil)), stdin=b"")
    assert code == 0
    assert "\x1b]0;title" not in shown
    assert "[red]" in shown


@pytest.mark.parametrize(("tool", "name"), PHOTOS)
def test_shards_concatenate(
    run: Callable[..., Run], words: Callable[[str], list[str]], tmp_path: Path, tool: str, name: str
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(5):
        faceless(seed=number).save(folder / f"{number}.png")
    whole = run(tool, name, *words(name), "--in", str(folder))
    parts = []
    for rank in range(2):
        environment = {**os.environ, "RANK": str(rank), "WORLD_SIZE": "2"}
        extra = ["--force"] if name in ("embed", "perturb", "align") else []
        parts.append(run(tool, name, *words(name), *extra, "--in", str(folder), env=environment))
    assert [part.code for part in parts] == [0, 0]
    assert b"".join(part.out for part in parts) == whole.out


def test_no_plumbing_imports_more_than_it_says() -> None:
    code = (
        "import sys, importlib, pkgutil, _toolio\n"
        # What makes options imports typer, and a layer of a network is torch's.
        "heavy = ['_toolio.cli.' + n for n in ('app', 'options', 'engines')] + ['_toolio.compute.batch_norm']\n"
        "names = [m.name for m in pkgutil.walk_packages(_toolio.__path__, '_toolio.')]\n"
        "light = [n for n in names if n not in heavy]\n"
        "[importlib.import_module(n) for n in light]\n"
        "foreign = {m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names) - {'_toolio', '__main__'}\n"
        "print(sorted(m for m in foreign if not m.startswith(('_', 'site', 'distutils'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
