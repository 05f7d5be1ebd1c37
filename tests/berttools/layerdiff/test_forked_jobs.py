import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from berttools.layerdiff.forked_jobs import Crew
from conftest import children


def run(job, count, processes, width=1):
    crew = Crew(job, count, width, processes=processes)
    try:
        return [list(crew.result(number)) for number in range(count)]
    finally:
        crew.close()


@pytest.mark.parametrize("processes", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 50, 40_000])
def test_every_job_in_order(processes, count):
    assert run(lambda number: (number, 0.5), count, processes, width=2) == [[n, 0.5] for n in range(count)]


def wait_for_all(folder, processes):
    """Return once so many processes have come here: on a busy machine one could do the others' jobs meanwhile."""
    (folder / str(os.getpid())).touch()
    wait_for_files(folder, processes)


def wait_for_files(folder, count):
    deadline = time.monotonic() + 300
    while len(list(folder.iterdir())) < count and time.monotonic() < deadline:
        time.sleep(0.005)


def test_copies_share_the_work(tmp_path):
    def job(number):
        wait_for_all(tmp_path, 3)
        return (os.getpid(),)

    assert len({pid for (pid,) in run(job, 60, 3)}) == 3


@pytest.mark.parametrize("processes", [1, 3])
def test_a_run_is_of_one_process(processes, tmp_path):
    def job(number):
        wait_for_all(tmp_path, processes)
        return number, os.getpid()

    starts = [0, 1, 5, 6, 30]
    crew = Crew(job, 40, 2, processes=processes, starts=starts)
    done = [crew.result(number) for number in range(40)]
    crew.close()
    assert [number for number, _ in done] == list(range(40))
    for first, end in zip(starts, [*starts[1:], 40], strict=True):
        assert len({pid for _, pid in done[first:end]}) == 1
    assert len({pid for _, pid in done}) == processes


def test_what_a_job_raises_is_raised_where_its_result_is_wanted():
    def job(number):
        if number == 7:
            raise ValueError("seven")
        return (number,)

    crew = Crew(job, 20, 1, processes=3)
    for number in range(20):
        if number == 7:
            with pytest.raises(ValueError, match="seven"):
                crew.result(number)
        else:
            assert list(crew.result(number)) == [number]
    crew.close()


def test_what_a_job_raises_is_not_raised_where_another_is_waited_for():
    parent = os.getpid()

    def job(number):
        if os.getpid() != parent:
            time.sleep(0.3)  # so that this process meanwhile takes the jobs behind
        if number in (2, 3, 4):
            raise ValueError(number)
        return (number,)

    crew = Crew(job, 8, 1, processes=2)
    for number in range(8):
        if number in (2, 3, 4):
            with pytest.raises(ValueError, match=str(number)):
                crew.result(number)
        else:
            assert list(crew.result(number)) == [number]
    crew.close()


def test_copies_go_on_behind_a_job_that_raises(tmp_path):
    parent = os.getpid()

    def job(number):
        if number == 0:
            raise ValueError
        if os.getpid() == parent:
            wait_for_files(tmp_path, 4)
        else:
            (tmp_path / str(number)).touch()
        return (os.getpid() != parent,)

    crew = Crew(job, 20, 1, processes=2)
    with pytest.raises(ValueError):
        crew.result(0)
    assert sum(crew.result(number)[0] for number in range(1, 20)) > 3
    crew.close()


def test_a_copy_that_is_killed_is_done_without():
    parent = os.getpid()

    def job(number):
        if os.getpid() != parent:
            os.kill(os.getpid(), 9)
        return (number,)

    assert run(job, 20, 3) == [[n] for n in range(20)]


def test_no_copy_is_left():
    before = children()
    crew = Crew(lambda number: (time.sleep(60), 0)[1:], 3, 1, processes=3)
    assert len(children() - before) == 2
    crew.close()
    assert children() == before


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_no_copy_outlives_its_parent(kind):
    """The jobs left would take a minute; Ctrl-C reaches all processes of a terminal, a kill one."""
    code = (
        "import signal, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
        "from berttools.layerdiff.forked_jobs import Crew\n"
        "crew = Crew(lambda number: (time.sleep(0.1), 0.0)[1:], 2000, 1, processes=3)\n"
        "print(*crew._children, flush=True)\n"
        "for number in range(2000): crew.result(number)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )
    copies = [int(number) for number in parent.stdout.readline().split()]
    assert len(copies) == 2
    (os.killpg if kind == signal.SIGINT else os.kill)(parent.pid, kind)
    parent.communicate(timeout=600)
    deadline = time.monotonic() + 300
    while any(is_running(copy) for copy in copies):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
