"""Commands on a Ray cluster of two nodes on this machine, one of which is killed, do what one process does."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from _toolio.engines.ray_actors import Station
from conftest import Run, command
from tiny_models import make_base, make_tuned

pytest.importorskip("ray")

SMALL = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 100 << 20}
HANGS = 240
"""Seconds after which a run hangs; a machine that is busy takes a tenth."""


class TwoNodes:
    """A cluster of two nodes on this machine with a CPU each; the second can be killed, and another comes."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(initialize_head=True, head_node_args=SMALL)
        self._second = self._cluster.add_node(**SMALL)
        self.env = {**os.environ, "RAY_ADDRESS": self._cluster.address, "OMP_NUM_THREADS": "1"}

    def kill_second(self) -> None:
        """Kill the node that is not the head, and what runs on it, with SIGKILL."""
        processes = [each.process.pid for kind in self._second.all_processes.values() for each in kind]
        for number in [child for pid in processes for child in children_of(pid)] + processes:
            kill(number)
        self._cluster.remove_node(self._second, allow_graceful=False)

    def actors(self, *, second: bool) -> list[int]:
        """Return the processes of a node's actors."""
        node = self._second if second else self._cluster.head_node
        (raylet,) = node.all_processes["raylet"]
        return [pid for pid in children_of(raylet.process.pid) if is_actor(pid)]

    def bring_second(self) -> None:
        """Add a second node again."""
        self._second = self._cluster.add_node(**SMALL)
        self._cluster.wait_for_nodes()

    def shutdown(self) -> None:
        self._cluster.shutdown()


def children_of(pid: int) -> list[int]:
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(number) for each in lists for number in each.read_text().split()]


def is_actor(pid: int) -> bool:
    return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(f"ray::{Station.__name__}".encode())


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[TwoNodes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        patch.setenv("RAY_worker_niceness", "0")  # else actors get what the other tests leave of the processors: 15
        nodes = TwoNodes()
        yield nodes
        nodes.shutdown()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


Killing = Callable[[TwoNodes], None]
WAITING = re.compile(r"(facetools|berttools): note: no actor of 1 CPU has come up yet: .*; it is waited for\n")


def kill_a_node(nodes: TwoNodes) -> None:
    nodes.kill_second()


def kill_an_actor(nodes: TwoNodes) -> None:
    kill(nodes.actors(second=False)[0])


def without_waiting(err: str) -> str:
    """Leave out the note that actors are slow to come up, as they are on a busy machine."""
    return "".join(line for line in err.splitlines(keepends=True) if not WAITING.fullmatch(line))


@pytest.fixture
def run(run: Callable[..., Run]) -> Callable[..., Run]:
    def patient(*words: str | Path, **how: Any) -> Run:
        done = run(*words, **how)
        return Run(done.code, done.out, without_waiting(done.err))

    return patient


def run_and_kill(nodes: TwoNodes, words: Sequence[str], stdin: Path, killing: Killing, *, lines: int) -> Run:
    """Run a command whose inputs a file names; kill something after some of its lines."""
    with stdin.open("rb") as names:
        tool = subprocess.Popen(
            words, stdin=names, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=nodes.env, bufsize=0
        )
        assert tool.stdout is not None
        assert tool.stderr is not None
        with tool:
            out = b""
            while out.count(b"\n") < lines:
                more = tool.stdout.read(1 << 12)
                assert more, tool.stderr.read().decode()
                out += more
            killing(nodes)
            assert tool.poll() is None, "it was done already"
            out += tool.stdout.read()
            err = without_waiting(tool.stderr.read().decode())
    return Run(tool.returncode, out, err)


@pytest.fixture
def names(people_folder: Path, tmp_path: Path) -> Path:
    """A list of photos, each several times, of a file that is none and of one that is not there."""
    (people_folder / "c.jpg").write_bytes(b"Dear diary")
    paths = [*sorted(map(str, people_folder.rglob("*.jpg"))), str(people_folder / "gone.jpg")]
    (tmp_path / "names").write_text("".join(f"{path}\n" for path in paths * 4))
    return tmp_path / "names"


@pytest.mark.parametrize("killing", [pytest.param(kill_an_actor, marks=pytest.mark.slow), kill_a_node])
def test_detect_prints_the_same_bytes_if_half_of_the_cluster_is_killed(
    two_nodes: TwoNodes, run: Any, names: Path, killing: Killing
) -> None:
    one = run("facetools", "detect", "--in", "-", stdin=names.read_bytes())
    assert (one.code, one.err) == (3, "")
    words = command("facetools", "detect", "--in", "-", "--engine", "ray", "--batch", "2")
    try:
        many = run_and_kill(two_nodes, words, names, killing, lines=4)
    finally:
        if killing is kill_a_node:
            two_nodes.bring_second()
    assert (many.code, many.err) == (3, "")
    assert many.out == one.out


def test_perturb_writes_the_same_files_if_an_actor_is_killed_and_resumes(
    two_nodes: TwoNodes, run: Any, names: Path, tmp_path: Path
) -> None:
    once = list(dict.fromkeys(names.read_text().splitlines()))
    names.write_text("".join(f"{name}\n" for name in [*once[:8], *once[-2:]]))
    words = ["--attack", "lowkey", "--set", "steps=2", "--in", "-"]
    one = run("facetools", "perturb", *words, "--out", tmp_path / "one", stdin=names.read_bytes())
    ray = ["--engine", "ray", "--batch", "1", "--out", str(tmp_path / "many")]
    many = run_and_kill(two_nodes, command("facetools", "perturb", *words, *ray), names, kill_an_actor, lines=2)
    assert (many.code, many.err) == (one.code, one.err) == (3, "")
    journal = ".facetools-perturb.jsonl"
    assert (tmp_path / "one" / journal).read_bytes().count(b"\n") == 9 == count_lines(tmp_path / "many" / journal)
    assert without(contents(tmp_path / "many"), journal) == without(contents(tmp_path / "one"), journal)
    assert same_records(many, tmp_path / "many") == same_records(one, tmp_path / "one")
    # What is finished is not done again, whichever engine did it.
    for engine in ("ray", "local"):
        again = run(
            *("facetools", "perturb", *words, "--engine", engine, "--out", tmp_path / "many", "--resume"),
            stdin=names.read_bytes(),
            env=two_nodes.env,
        )
        assert (again.code, again.records) == (3, many.records)
    assert count_lines(tmp_path / "many" / journal) == 9


def count_lines(path: Path) -> int:
    return path.read_bytes().count(b"\n")


def without(files: dict[str, Any], name: str) -> dict[str, Any]:
    return {path: what for path, what in files.items() if name not in path}


def same_records(run: Run, out: Path) -> list[dict[str, Any]]:
    """Return records without what differs from run to run: how long it took, and where the output is."""
    return [
        {key: str(value).replace(str(out), "OUT") for key, value in record.items() if key != "seconds"}
        for record in run.records
    ]


def test_align_and_embed_make_the_same_files(
    two_nodes: TwoNodes, run: Any, people_folder: Path, tmp_path: Path
) -> None:
    made: dict[str, Any] = {}
    with tarfile.open(tmp_path / "people.tar", "w") as archive:  # which the actors read, too
        archive.add(people_folder, "people")
    for engine in ("local", "ray"):
        (tmp_path / engine).mkdir()
        options = {"cwd": tmp_path / engine, "env": two_nodes.env}
        words = ("facetools", "align", "--in", tmp_path / "people.tar", "--out", "chips", "--engine", engine)
        align = run(*words, **options)
        words = ("facetools", "embed", "--in", "-", "--out", "x.safetensors", "--engine", engine, "--batch", "3")
        embed = run(*words, stdin=align.out, **options)
        assert (align.code, embed.code, align.err, embed.err) == (0, 0, "", "")
        made[engine] = (align.out, embed.out, contents(tmp_path / engine))
    assert made["ray"] == made["local"]


def test_predict_and_layerdiff_print_the_same_bytes(two_nodes: TwoNodes, run: Any, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    tuned = [make_tuned(base, tmp_path / f"tuned{number}", change=0.1 * (number + 1)) for number in range(3)]
    texts = tmp_path / "texts.jsonl"
    texts.write_text("".join(f'{{"text":"{"good film " * (n % 7)}","n":{n}}}\n' for n in range(1200)))
    commands: list[tuple[Any, ...]] = [
        ("predict", tuned[0], texts),
        ("layerdiff", base, *tuned, "--pairs", "--heatmap", "map.svg", "--force"),
    ]
    for words in commands:
        one = run("berttools", *words, cwd=tmp_path, env=two_nodes.env)
        drawn = contents(tmp_path)
        many = run("berttools", *words, "--engine", "ray", "--actors", "2", cwd=tmp_path, env=two_nodes.env)
        assert (many.code, many.err) == (one.code, one.err)
        assert many.out == one.out
        assert len(one.out) > 500
        assert contents(tmp_path) == drawn


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A temporary folder with a name that is short enough for Ray's sockets in it."""
    with tempfile.TemporaryDirectory(prefix="t") as folder:
        yield folder


def test_ctrl_c_ends_a_cluster_of_this_run(names: Path, tmp_path: Path, short_folder: str) -> None:
    """The terminal sends it to the whole process group; nothing is left of a cluster that was started here."""
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    env |= {"TMPDIR": short_folder, "HOME": short_folder}
    words = command("facetools", "align", "--in", "-", "--out", tmp_path / "chips", "--engine", "ray", "--actors", "1")
    names.write_bytes(names.read_bytes() * 10)  # more than are done before the signal comes
    with names.open("rb") as listed:
        tool = subprocess.Popen(
            words, stdin=listed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background job ignores it
        )  # fmt: skip
        assert tool.stdout is not None
        assert tool.stderr is not None
        with tool:
            for _ in range(3):  # a photo counts as kept when the next one is begun
                assert tool.stdout.readline(), tool.stderr.read().decode()
            assert len(list(Path(short_folder).glob("ray-*"))) == 1
            group = [pid for pid in processes_of_session(tool.pid) if pid != tool.pid]
            os.killpg(tool.pid, signal.SIGINT)
            tool.stdout.read()
            err = without_waiting(tool.stderr.read().decode())
            tool.wait(HANGS)
    assert tool.returncode == 130
    assert "Traceback" not in err
    assert err.startswith("facetools: stopped after ")
    assert not Path(short_folder, ".ray").exists(), "a token of a cluster that is gone"
    assert group
    end = time.monotonic() + HANGS
    while processes_of_session(tool.pid) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_of_session(tool.pid) == []
    assert list(Path(short_folder).glob("ray-*")) == []


def processes_of_session(session: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


TOY = """
import itertools, os, signal, sys, threading, time
from functools import partial
from _toolio.compute.memory import Batch
from _toolio.engines.ray_engine import RayEngine
from _toolio.errors import ToolError

class Toy:
    device, threads, per_call = None, 0, 1
    def __init__(self, what, device):
        self.what, self.at_once = what, Batch(4)
        if what == "no opening":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "refused":
            raise ToolError("no such model", kind="model")
    def __call__(self, items):
        for item in items:
            if self.what == "poison" and item == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "error" and item == 5:
                raise ToolError("item 5 ends the run", kind="five")
            if self.what == "bug" and item == 5:
                raise ZeroDivisionError("a bug")
            if self.what == "halved":
                self.at_once.size = 2
            yield item * item

what = sys.argv[1]
drawn = 0
def items():
    global drawn
    for drawn in itertools.count() if what == "endless" else range(20):
        yield drawn
with RayEngine("cpu", actors=2, say=print) as engine:
    try:
        for number, each in enumerate(engine.map(partial(Toy, what), items(), batch=2)):
            print(each)
            if what == "endless" and number == 20:
                time.sleep(1)
                print("ahead", drawn - number)
                break
    except ToolError as error:
        print(type(error).__name__, error.kind, error)
    except ZeroDivisionError as error:
        print("bug", "a bug" in str(error))
    print("halved", engine.halved_to)
"""


@pytest.mark.parametrize(
    ("what", "printed", "last"),
    [
        ("all well", 20, "halved None"),
        ("halved", 20, "halved 2"),
        ("error", 4, "ToolError five item 5 ends the run"),
        ("bug", 4, "bug True"),
        ("refused", 0, "ToolError model no such model"),
        ("poison", 4, "ToolError actor engine ray: 4 actors died over the same 2 inputs, from 4: "),
        ("no opening", 0, "ToolError actor engine ray: no actor comes up: "),
        ("endless", 21, "ahead "),
    ],
)
def test_what_a_worker_meets(two_nodes: TwoNodes, tmp_path: Path, what: str, printed: int, last: str) -> None:
    (tmp_path / "toy.py").write_text(TOY)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "toy.py"), what],
        env=two_nodes.env,
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=True,
    )
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:printed] == [str(number * number) for number in range(printed)]
    said = [line for line in lines[printed:] if last.partition(" ")[0] in line]
    assert said
    assert said[0].startswith(last)
    if what == "endless":
        # Batches of two for two actors: two with each, as many that wait, and twice as many that are done or begun.
        assert int(said[0].split()[1]) <= 2 * 2 * 10


BLAMED = """
import os, signal, sys, threading, time
from _toolio.compute.memory import Batch
from _toolio.engines import ray_actors
from _toolio.engines.ray_actors import Pool
from _toolio.engines.ray_engine import RayEngine
from _toolio.engines.slots import Slots
from _toolio.errors import ToolError

class Toy:
    threads, per_call = 0, 1
    def __init__(self, device):
        self.at_once = Batch(1)
    def __call__(self, items):
        if items == ["poison"]:
            time.sleep(1.5)
            os.kill(os.getpid(), signal.SIGKILL)
        yield from items

class Behind(Slots):
    def take(self, waiting):
        actor = super().take(waiting)
        if threading.current_thread().name == "innocent":
            time.sleep(0.5)  # the other call is with the actor by then
        return actor

ray_actors.Slots = Behind

def work(name):
    try:
        print(name, pool.work([name]))
    except ToolError as error:
        print(name, error.kind, error)

with RayEngine("cpu", actors=1, say=print):
    pool = Pool(Toy, "cpu", 1, 0, print)
    calls = [threading.Thread(target=work, args=(name,), name=name) for name in ("poison", "innocent")]
    for each in calls:
        each.start()
    for each in calls:
        each.join()
    pool.close()
"""


def test_no_input_is_blamed_for_what_its_actor_died_of(two_nodes: TwoNodes, tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(BLAMED)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "toy.py")],
        env=two_nodes.env, capture_output=True, text=True, timeout=HANGS, check=True,
    )  # fmt: skip
    assert "innocent ['innocent']\n" in done.stdout
    assert "poison actor engine ray: 4 actors died over the same 1 input, from poison: " in done.stdout


@pytest.mark.slow
def test_clusters_of_one_run_one_after_the_other(
    run: Any, people_folder: Path, tmp_path: Path, short_folder: str
) -> None:
    """Each shard starts one; Ray reads a token once a process."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": short_folder}
    detect = ("facetools", "detect", "--in", people_folder, "--engine", "ray", "--actors", "1")
    done = run(*detect, "--shard", "1-2/2", "--into", tmp_path / "shards", env=env)
    assert (done.code, done.err) == (run(*detect[:4], env=env).code, "")
    assert sorted(path.name for path in (tmp_path / "shards").glob("*.done")) == [
        "0001-of-0002.done",
        "0002-of-0002.done",
    ]
    assert not Path(short_folder, ".ray").exists()
    refused = run(*detect, "--gpus-per-actor", "1000", env=env)  # nobody can add them to a cluster of this run
    assert (refused.code, refused.out, refused.err.count("\n")) == (1, b"", 1)
    assert refused.err.startswith("facetools: error: --gpus-per-actor 1000: this machine has ")


@pytest.mark.slow
def test_a_cluster_that_asks_for_a_token(run: Any, names: Path, short_folder: str) -> None:
    """It lies in the home folder; whoever joins says that it is to be used, or is told to."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": short_folder}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    head = ["start", "--head", "--block", "--num-cpus=1", "--include-dashboard=false", "--disable-usage-stats"]
    where = [f"--port={port}", f"--temp-dir={short_folder}", "--node-ip-address=127.0.0.1"]
    token = Path(short_folder, ".ray", "auth_token")
    token.parent.mkdir()
    token.write_text("0123456789abcdef" * 4)  # where there is one, `ray start` asks for it
    started = subprocess.Popen(
        [Path(sys.executable).with_name("ray"), *head, *where],
        env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    joining = env | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    detect = ("facetools", "detect", "--in", "-", "--engine", "ray", "--actors", "1")
    try:
        wait_for(port)
        done = run(*detect, stdin=names.read_bytes(), env=joining | {"RAY_AUTH_MODE": "token"})
        alone = run(*detect[:4], stdin=names.read_bytes(), env=env)
        assert (done.code, done.out, done.err) == (alone.code, alone.out, alone.err)
        refused = run(*detect, stdin=names.read_bytes(), env=joining)
        token.unlink()
        without = run(*detect, stdin=names.read_bytes(), env=joining | {"RAY_AUTH_MODE": "token"})
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        started.wait(HANGS)
    assert (refused.code, refused.out) == (1, b"")
    assert refused.err.endswith("; if it has been started with a token, set RAY_AUTH_MODE=token\n")
    assert (without.code, without.out, without.err.count("\n")) == (1, b"", 1)
    assert "Token authentication is enabled but no " in without.err


def wait_for(port: int) -> None:
    end = time.monotonic() + HANGS
    while time.monotonic() < end:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.2)
    raise AssertionError("the cluster does not come up")
