"""Launchers of many processes, on a few photos: what each makes is what one process makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, Run, faceless

EXAMPLES = ROOT / "examples"
SCRIPTS = ("slurm-detect.sbatch", "parallel-detect.sh", "ray-detect.sh")


def is_gnu_parallel() -> bool:
    """Test whether ``parallel`` is GNU's: moreutils has another of that name."""
    if shutil.which("parallel") is None:
        return False
    done = subprocess.run(["parallel", "--version"], capture_output=True, check=False)
    return b"GNU parallel" in done.stdout


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A folder with photos/, of which one cannot be read; names have spaces."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    for number in range(6):
        faceless(seed=number).save(folder / f"{number} a.png")
    (folder / "broken.jpg").write_bytes(b"no photo")
    return tmp_path


@pytest.fixture
def whole(here: Path, run: Callable[..., Run]) -> bytes:
    return run("facetools", "detect", "--in", "my photos", cwd=here).out


def launch(
    here: Path, tools: Path, *words: str | Path, check: bool = True, **variables: str
) -> subprocess.CompletedProcess[bytes]:
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "HOME": str(here), **variables}
    done = subprocess.run(words, cwd=here, env=environment, capture_output=True, timeout=600, check=False)
    assert not check or done.returncode == 0, done.stderr.decode()
    return done


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_scripts(name: str, tmp_path: Path) -> None:
    subprocess.run(["bash", "-n", EXAMPLES / name], check=True)
    bare = subprocess.run(["bash", EXAMPLES / name], capture_output=True, check=False, cwd=tmp_path)
    assert bare.returncode == 1
    assert b"name the photos: " in bare.stderr


def test_an_array_of_slurm(here: Path, warm_tools: Path, whole: bytes) -> None:
    """Its tasks as Slurm starts them; one is started again, as one that was preempted is."""
    for task in (3, 5, 4, 3):
        array = {"SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "3", "SLURM_ARRAY_TASK_ID": str(task)}
        words = ["bash", EXAMPLES / "slurm-detect.sbatch", "my photos", "my scores", "7"]
        done = launch(here, warm_tools, *words, SLURM_CPUS_PER_TASK="1", **array)
    assert done.stderr.decode().count("is complete") == 2
    gathered = launch(here, warm_tools, "facetools", "gather", "my scores", check=False)
    assert gathered.stdout == whole


def test_a_task_that_fails_is_told_to_slurm(here: Path, warm_tools: Path) -> None:
    array = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_ID": "1"}
    words = ["bash", EXAMPLES / "slurm-detect.sbatch", "no photos", "my scores", "2"]
    assert launch(here, warm_tools, *words, check=False, SLURM_CPUS_PER_TASK="1", **array).returncode == 1


@pytest.mark.skipif(not is_gnu_parallel(), reason="GNU parallel is not installed")
def test_gnu_parallel(here: Path, warm_tools: Path, whole: bytes) -> None:
    words = ["bash", EXAMPLES / "parallel-detect.sh", "my photos", "my scores"]
    done = launch(here, warm_tools, *words, check=False, JOBS="2", SHARDS="5")
    assert (done.returncode, done.stdout) == (3, whole), done.stderr.decode()


@pytest.mark.skipif(shutil.which("snakemake") is None, reason="snakemake is not installed")
def test_snakemake(here: Path, warm_tools: Path, whole: bytes) -> None:
    config = ["photos=my photos", "into=my scores", "shards=3"]
    words = ["snakemake", "--snakefile", EXAMPLES / "Snakefile", "--cores", "2", "--config", *config]
    launch(here, warm_tools, *words)
    assert (here / "scores.jsonl").read_bytes() == whole
    assert b"Nothing to be done" in launch(here, warm_tools, *words).stderr


def test_the_ray_job_is_a_command_that_there_is(here: Path, tmp_path: Path) -> None:
    """What it submits, seen by a stand-in for Ray's own command."""
    stand_in = tmp_path / "bin"
    stand_in.mkdir()
    (stand_in / "ray").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (stand_in / "ray").chmod(0o755)
    done = launch(here, stand_in, "bash", EXAMPLES / "ray-detect.sh", "my photos", "my scores", SHARDS="9")
    assert done.stdout.decode().splitlines() == [
        *("job", "submit", "--", "facetools", "detect", "--engine", "ray"),
        *("--in", "my photos", "--shard", "next/9", "--into", "my scores"),
    ]
