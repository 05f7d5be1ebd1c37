"""Several processes: what they tell each other, and that the leading one leaves last."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from _toolio.compute.distributed import Processes

PROGRAM = textwrap.dedent("""
    import json, os, sys, time
    import torch, torch.distributed
    from torch.distributed import distributed_c10d
    from _toolio.compute.distributed import count_processes, join

    def refuse(*words, **more):
        raise AssertionError("a tensor that Python made was given to a thread of gloo's")

    processes = count_processes()
    with join(processes, torch.device("cpu")):
        for name in ("broadcast", "all_gather", "broadcast_object_list", "all_gather_object"):
            setattr(torch.distributed, name, refuse)
            setattr(distributed_c10d, name, refuse)
        module = torch.nn.Linear(2, 1)
        with torch.no_grad():
            module.weight.fill_(1.0)
        wrapped = processes.wrap(module)
        wrapped(torch.full((1, 2), float(processes.rank))).sum().backward()
        found = {
            "agree": [processes.agree({"number": n} if processes.leads else None) for n in range(3)],
            "total": [processes.total(0.1 * (processes.rank + 1)), processes.total(1.0)],
            "gradient": module.weight.grad.tolist(),
        }
        if not processes.leads:
            time.sleep(0.5)
            print(json.dumps(found), flush=True)
    if processes.leads:
        print(json.dumps(found), flush=True)
""")


def run_all(world: int, program: str) -> list[subprocess.CompletedProcess[str]]:
    """Start processes as torchrun does, the first of which keeps the store."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("TORCHELASTIC")}
    environ |= {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**environ, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]
    ended = [(each, *each.communicate(timeout=1200)) for each in started]
    return [subprocess.CompletedProcess(each.args, each.returncode, out, err) for each, out, err in ended]


def _free_port() -> str:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def test_processes_tell_each_other_and_end_well() -> None:
    ended = run_all(3, PROGRAM)
    assert [each.returncode for each in ended] == [0, 0, 0], [each.stderr for each in ended]
    numbers = '"agree": [{"number": 0}, {"number": 1}, {"number": 2}]'
    for each in ended:
        assert numbers in each.stdout
        # The mean over processes of what each has seen: 0, 1 and 2.
        assert '"total": [0.6000000000000001, 3.0], "gradient": [[1.0, 1.0]]' in each.stdout


def test_the_leading_process_goes_last() -> None:
    program = PROGRAM.replace(
        "if processes.leads:\n    print(json", "print(time.monotonic())\nif processes.leads:\n    print(json"
    ).replace("print(json.dumps(found), flush=True)", "pass")
    times = [float(each.stdout) for each in run_all(2, program)]
    assert times[0] > times[1] - 0.4  # the other sleeps half a second before it leaves


@pytest.mark.parametrize("culprit", [0, 1])
def test_a_process_that_fails_leaves_no_other_waiting(culprit: int) -> None:
    program = textwrap.dedent(f"""
        import torch
        from _toolio.errors import ToolError
        from _toolio.compute.distributed import count_processes, join

        processes = count_processes()
        try:
            with join(processes, torch.device("cpu")):
                processes.agree(None)
                if processes.rank == {culprit}:
                    raise ToolError("the culprit")
                processes.total(1.0)
        except ToolError as error:
            print(error.message)
    """)
    ended = run_all(2, program)
    assert [each.returncode for each in ended] == [0, 0], [each.stderr for each in ended]
    assert ended[culprit].stdout == "the culprit\n"
    assert ended[1 - culprit].stdout in (
        f"process {culprit} has failed; see what it said\n", "the leading process has gone; see what it said\n",
    )  # fmt: skip


def test_one_process_alone_asks_nobody() -> None:
    alone = Processes()
    assert (alone.agree("x"), alone.total(2.5)) == ("x", 2.5)
