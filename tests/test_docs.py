"""Every documented example runs, and the documents hold together: links, pages, options, fields, files."""

from __future__ import annotations

import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from PIL import Image
from safetensors.numpy import load_file

from _toolio.cli.app import build_app
from _toolio.cli.manual import pages_of
from berttools.cli import COMMANDS as BERTTOOLS_COMMANDS
from conftest import ROOT, saved
from facetools.cli import COMMANDS as FACETOOLS_COMMANDS
from facetools.detector.files import SHIPPED
from facetools.extractors.architectures import mobilefacenet
from facetools.extractors.architectures.mobilefacenet import MobileFaceNet
from facetools.extractors.files import save_extractor
from tiny_models import make_base, make_mask, make_tuned, other_warnings, texts, write_lines

DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")))
}
README = DOCUMENTS["README.md"]
MANUALS = {
    "facetools": pages_of("facetools", FACETOOLS_COMMANDS),
    "berttools": pages_of("berttools", BERTTOOLS_COMMANDS),
}
COMMANDS = [(tool, name) for tool, pages in MANUALS.items() for name in pages]
MAN_EXAMPLES = [line for pages in MANUALS.values() for page in pages.values() for line, _ in page.examples]


def blocks(kind: str) -> list[str]:
    """Return the code blocks of a kind, in all documents."""
    return [block for text in DOCUMENTS.values() for block in re.findall(rf"^```{kind}\n(.*?)^```", text, re.M | re.S)]


def plain(example: str) -> str:
    """Join what an example continues on the next line, and drop comments."""
    lines = (line for line in example.splitlines() if not line.startswith("#"))
    return re.sub(r"(?: \\|(?<=[|&]))\n\s*", " ", "\n".join(lines)).strip()


PARAGRAPHS = [paragraph for block in blocks("sh") for paragraph in block.split("\n\n")]
EXAMPLES = list(dict.fromkeys(map(plain, [*PARAGRAPHS, *MAN_EXAMPLES])))
"""Each once, where documents and man pages have the same."""


def commands_in(line: str) -> set[str]:
    """Return the commands that an example runs."""
    return {f"{tool} {name}" for tool, name in COMMANDS if re.search(rf"\b{tool} {name}(?!\S)", line)}


def first_of_each(lines: list[str]) -> set[str]:
    """Return the examples in which a command comes for the first time."""
    seen: set[str] = set()
    chosen = set()
    for line in lines:
        if commands_in(line) - seen:
            chosen.add(line)
            seen |= commands_in(line)
    return chosen


COLD = first_of_each(EXAMPLES)
"""Run by interpreters that start with nothing imported, as a person's do; the others differ in options and files."""


@pytest.fixture(scope="module")
def sandbox(real_people: dict[str, list[bytes]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the examples speak of: photos/, checkpoints, a trained detector's ingredients."""
    folder = tmp_path_factory.mktemp("examples")
    for number, (person, photos) in enumerate(real_people.items()):
        (folder / "photos" / person).mkdir(parents=True)
        if number < 2:
            (folder / "photos" / f"{number}.jpg").write_bytes(photos[0])
        for kind in ("control", "cloaked"):
            (folder / "people" / kind / person).mkdir(parents=True)
            # A copy of other bytes stands for a cloak: what equals its clean photo is none, and is left out.
            again = saved(Image.open(io.BytesIO(photos[0])), "JPEG", quality=60)
            (folder / "people" / kind / person / "0.jpg").write_bytes(photos[0] if kind == "control" else again)
        if 3 <= number < 8:
            (folder / "some" / person).mkdir(parents=True)
            for place, photo in enumerate(photos):
                (folder / "some" / person / f"{place}.jpg").write_bytes(photo)
        if number < 3:
            for kind in ("clean", "copies"):
                (folder / "few" / kind / person).mkdir(parents=True)
                for place, photo in enumerate(photos):
                    again = saved(Image.open(io.BytesIO(photo)), "JPEG", quality=60)
                    (folder / "few" / kind / person / f"{place}.jpg").write_bytes(photo if kind == "clean" else again)
    for name in ("me.jpg", "upload.jpg"):
        (folder / name).write_bytes(next(iter(real_people.values()))[1])
    make_base(folder / "base")
    for kind, change in (("ft", 0.01), ("ft2", 0.02)):
        make_tuned(folder / "base", folder / kind, change=change)
    for number, name in enumerate(("task", "other")):
        make_mask(folder / "base", folder / f"{name}.mask.safetensors", seed=number)
    write_lines(folder / "train.jsonl", texts(40))
    write_lines(folder / "dev.jsonl", texts(20, seed=1))
    rows = [f"{each['text_a']}\t{each['text_b']}\t{each['label']}" for each in texts(20, pairs=True, numbers=True)]
    (folder / "pairs.tsv").write_text("\n".join(["first\tsecond\tnear", *rows, ""]))
    torch.save(MobileFaceNet().state_dict(), folder / "backbone.pth")
    shutil.copy(folder / "base" / "model.safetensors", folder / "base.safetensors")
    shutil.copy(folder / "ft" / "model.safetensors", folder / "ft" / "model-1.safetensors")
    names = load_file(folder / "ft" / "model.safetensors")
    entries = ",".join(f'"{name}":"model-1.safetensors"' for name in names)
    (folder / "ft" / "model.safetensors.index.json").write_text(f'{{"weight_map":{{{entries}}}}}')
    return folder


def shell(line: str, folder: Path, *tools: Path) -> subprocess.CompletedProcess[str]:
    """Run a line as a person would, with the tools on the PATH."""
    path = os.pathsep.join(map(str, (*tools, Path(sys.executable).parent, os.environ["PATH"])))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )


@pytest.mark.parametrize("line", EXAMPLES)
def test_example(line: str, sandbox: Path, warm_tools: Path, tmp_path: Path) -> None:
    tools = [] if line in COLD else [warm_tools]
    folder = shutil.copytree(sandbox, tmp_path / "here")
    if "train-detector" in line:
        shutil.copytree(folder / "people", folder, dirs_exist_ok=True)
        # As printed it trains for minutes; the people are few, so more of them must be held out.
        line = line.replace("--out", "--epochs 1 --held-out 0.5 --out")
    if "train-extractor" in line:
        line = line.replace("--out", "--epochs 1 --held-out 0.5 --batch 8 --out")
    if "train-robust" in line:
        few = folder / "few" / "clean"
        for kind in ("people", "lk"):
            shutil.rmtree(folder / kind, ignore_errors=True)
            shutil.copytree(folder / "some", folder / kind)
        shutil.copytree(few, folder / "me")
        # A copy for a cloak, and one epoch on few people: the line runs, and what comes out may be worth nothing.
        line = line.replace("--out", "--epochs 1 --held-out 0.5 --max-clean-loss 100 --out")
        line = line.replace("torchrun", "OMP_NUM_THREADS=1 torchrun")
    if "apply-delta" in line and "finetune" not in line:
        shell(
            "berttools finetune --base base --train train.jsonl --save delta --out task.safetensors", folder, warm_tools
        )
    if "berttools mask-tune" in line:  # a few texts are a few steps, which do not bring the usual scores to zero
        line = line.replace("--out", "--score-lr 5 --force --out")
    if "berttools finetune" in line:
        line = line.replace("torchrun", "OMP_NUM_THREADS=1 torchrun")
    if "--extractor mine" in line and "--out mine" not in line:
        state = mobilefacenet.MobileFaceNet(16).state_dict()
        save_extractor(folder / "mine.safetensors", "mobilefacenet", state, mobilefacenet.SETTINGS, {"dimensions": 16})
    if "--attack lowkey" in line and "--set" not in line:
        # As printed its 50 steps take seconds a photo, and say no more than 3 of whether the line is right.
        line = line.replace("--attack lowkey", "--attack lowkey --set steps=3")
    if "facetools plot scores.jsonl" in line and "detect" not in line:
        shell("facetools detect --in photos/ > scores.jsonl", folder, warm_tools)
    if "--in control/" in line:
        for kind in ("control", "cloaked"):
            shutil.copytree(folder / "photos", folder / kind)
    if "--clean-scores" in line:  # which takes 19 faces
        (folder / "clean").mkdir()
        photos = sorted((folder / "photos").glob("*.jpg"))
        for number in range(25):
            shutil.copy(photos[number % len(photos)], folder / "clean" / f"{number}.jpg")
    if "new/" in line:
        shutil.copytree(folder / "photos", folder / "new")
    if "facetools compare" in line:
        for kind in ("control", "cloaked"):
            shutil.copytree(folder / "photos", folder / kind)
    if "facetools evaluate" in line:
        shutil.rmtree(folder / "people")
        shutil.copytree(folder / "few" / "clean", folder / "people")
        shutil.copytree(folder / "few" / "copies", folder / "cloaked")
    if "--detector" in line:
        shutil.copy(SHIPPED, folder / "detector.safetensors")
    done = shell(line, folder, *tools)
    # What head ends early has not failed, and a cloaked photo may be found.
    fine = {0}
    fine |= {128 + signal.SIGPIPE} if "| head" in line else set()
    fine |= {4} if "--fail-on-detection" in line else set()
    assert done.returncode in fine
    # Said on purpose: the examples' cloaks are made against the extractor that measures them, and clean faces are few.
    expected = "made against dlib-resnet, which measures", "faces: labels are for"
    told = [line for line in other_warnings(done.stderr).splitlines() if not any(words in line for words in expected)]
    assert told == []
    target = re.search(r"> (\S+)$", line)
    if target and target[1] == "/dev/null":
        return
    output = (folder / target[1]).read_text() if target else done.stdout
    if "csv.DictReader" in line:  # names alone
        assert all((folder / name).is_file() for name in output.splitlines())
        return
    if line.endswith("--csv"):
        assert output.startswith(("angle,", "sparsity,"))
        return
    assert output.count("\n") == output.count('"schema":') > 0


@pytest.mark.parametrize("block", blocks("python"))
def test_python_example(
    block: str,
    sandbox: Path,
    warm_tools: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = shutil.copytree(sandbox, tmp_path / "here")
    monkeypatch.chdir(folder)
    if '"clean.safetensors"' in block:  # made by the example above it on its page
        shell("facetools embed --in photos/ --out clean.safetensors > clean.jsonl", folder, warm_tools)
    exec(compile(block, "example", "exec"), {"__name__": "example"})
    printed = capsys.readouterr()
    assert printed.out
    assert printed.err == ""


def test_examples_in_several_places_run_once() -> None:
    assert plain("# What it does.\na |\n  b &&\n  c \\\n  --d") == plain("a | b && c --d") == "a | b && c --d"
    assert plain("a > x\nb") == "a > x\nb"
    assert len(EXAMPLES) < len(PARAGRAPHS) + len(MAN_EXAMPLES)


def test_every_command_starts_once_with_nothing_imported() -> None:
    assert set().union(*map(commands_in, COLD)) == {f"{tool} {name}" for tool, name in COMMANDS}
    assert commands_in("facetools evaluate-more a | berttools mask-tune --x") == {"berttools mask-tune"}


@pytest.mark.parametrize(("tool", "name"), COMMANDS)
def test_every_command_has_a_page(tool: str, name: str) -> None:
    text = DOCUMENTS[f"docs/commands/{tool}-{name}.md"]
    assert text.startswith(f"# {tool} {name}\n")
    assert re.search(rf"^(?:.*\| )?{tool} {name} ", text, re.M), "without an example"
    assert f"](docs/commands/{tool}-{name}.md)" in README
    schema = getattr(importlib.import_module(f"{tool}.commands.{name.replace('-', '_')}"), "SCHEMA", None)
    fields = re.findall(r"^\| `(\S+)` \|", text.partition("## Records")[2], re.M)
    if schema is None:  # its records are those of other commands
        assert MANUALS[tool][name].fields == {}
        assert "## Records" in text
        return
    assert f"`{schema}`" in text
    assert fields
    assert {*fields} <= {*MANUALS[tool][name].fields}


def test_no_page_is_of_a_command_that_there_is_not() -> None:
    pages = {path.name for path in (ROOT / "docs" / "commands").iterdir()}
    assert pages == {f"{tool}-{name}.md" for tool, name in COMMANDS}


def anchors(text: str) -> set[str]:
    """Return what a document's headings are linked to as."""
    return {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in re.findall(r"^#+ (.*)", text, re.M)
    }


def links(text: str) -> list[str]:
    """Return where a document's links and pictures lead, but for other sites."""
    found: list[str] = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in found if "://" not in target]


def broken(name: str, text: str) -> list[str]:
    """Return a document's links that lead nowhere."""
    wrong = []
    for target in links(text):
        place, _, anchor = target.partition("#")
        path = (ROOT / name).parent / place if place else ROOT / name
        if not path.is_file() or (anchor and anchor not in anchors(path.read_text())):
            wrong.append(target)
    return wrong


CARD = SHIPPED.with_name("detector.md")


@pytest.mark.parametrize("name", [*DOCUMENTS, CARD.relative_to(ROOT).as_posix()])
def test_links_lead_somewhere(name: str) -> None:
    assert broken(name, (ROOT / name).read_text()) == []


def test_a_broken_link_is_noticed() -> None:
    text = "[a](docs/nothing.md), [b](README.md#no-such-heading), [c](README.md#install), [d](https://example.org/x)"
    assert broken("README.md", text) == ["docs/nothing.md", "README.md#no-such-heading"]


def test_every_file_of_docs_is_reached_from_the_readme() -> None:
    reached, rest = set(), [ROOT / "README.md"]
    while rest:
        path = rest.pop()
        if path in reached:
            continue
        reached.add(path)
        if path.suffix == ".md":
            rest += [(path.parent / target.partition("#")[0]).resolve() for target in links(path.read_text())]
    files = {path for path in (ROOT / "docs").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path.relative_to(ROOT).as_posix() for path in files - reached} == set()


def options_of_commands() -> set[str]:
    """Return every option of both tools."""
    found = {"--help", "--version", "--install-completion"}
    for tool, pages in MANUALS.items():
        group: Any = typer.main.get_command(build_app(tool, list(pages)))
        for command in group.commands.values():
            found |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    return found


OTHERS = {
    "--strict",
    "--check",
    "--second",
    "--modes",
    "--photos",
    "--head",
    "--port",
    "--address",
    "--rounds",
    "--each",
    "--sizes",
} | {f"--{name}" for name in ("nproc-per-node", "nnodes", "node-rank", "master-addr", "master-port")}
"""Options of other programs, such as torchrun and ray, and of scripts."""


def test_documents_name_only_options_that_exist() -> None:
    known = options_of_commands() | OTHERS
    for name, text in DOCUMENTS.items():
        if name != "CHANGELOG.md":  # of what was, too
            assert {*re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)} <= known, name


FILES = re.compile(r"(?<![\w/.])(?:src|tests|docs|tools|benchmarks|examples|man)/[\w./-]*\w")


def test_documents_name_only_files_that_exist() -> None:
    for name, text in DOCUMENTS.items():
        assert [file for file in FILES.findall(text) if not (ROOT / file).exists()] == [], name
    assert FILES.findall("`pytest tests/a/test_b.py`, (../docs/c.md)") == ["tests/a/test_b.py"]


@pytest.mark.parametrize("tool", MANUALS)
def test_the_map_of_the_architecture_names_the_modules_that_exist(tool: str) -> None:
    _, _, table = DOCUMENTS["docs/architecture.md"].partition(f"| in `src/{tool}/` |")
    rows = re.findall(r"^\| `(\w+)/` \| (.*) \|$", table.partition("\n\n")[0], re.M)
    folders = {path.parent.name for path in (ROOT / "src" / tool).glob("*/__init__.py")}
    assert folders - {"commands"} <= {folder for folder, _ in rows}
    for folder, words in rows:
        for part in words.split("; "):
            below = re.match(r"`(\w+/)`: ", part)  # names after a folder's are of its modules
            modules = {path.stem for path in (ROOT / "src" / tool / folder / (below[1] if below else "")).iterdir()}
            assert {*re.findall(r"`(\w+)`", part)} <= modules, (folder, part)
        code = {path.stem for path in (ROOT / "src" / tool / folder).iterdir() if path.suffix == ".py"}
        assert code - {"__init__"} <= {*re.findall(r"`(\w+)`", words)}, folder


def test_man_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "mkman.py", "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_in_the_project_names_this_machine_or_a_registry() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if path.suffix in (".py", ".md", ".toml", ".mk", ".sh", "") and path.is_file():
            text = path.read_text(errors="replace")
            assert str(ROOT) + "/" not in text, name
            assert not re.search(r"https?://\S*(pypi|simple/)|index-url[ =]", text), name


def test_no_figure_is_missing() -> None:
    for name, text in {**DOCUMENTS, CARD.name: CARD.read_text()}.items():
        assert "@@" not in text, name


def test_the_makefile_of_the_documents(sandbox: Path, warm_tools: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sandbox, tmp_path / "here")
    (block,) = blocks("make")
    (folder / "Makefile").write_text(block)
    first = shell("make -j2 --no-print-directory", folder, warm_tools)
    assert (first.returncode, first.stderr) == (0, "")
    scores = [json.loads(line) for line in (folder / "scores.jsonl").read_text().splitlines()]
    assert {Path(score["path"]).parent.name for score in scores} == {"control", "cloaked"}
    assert "up to date" in shell("make --no-print-directory", folder).stdout
