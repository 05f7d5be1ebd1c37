"""Be a process of a ``warm_server.py``: ``warm_client.py SOCKET TOOL ARGUMENT...`` is ``TOOL ARGUMENT...``.

Hands its streams over, passes signals on and ends as the other process has ended. Imports next to nothing.
"""

import marshal
import os
import signal
import socket
import struct
import sys


def main() -> None:
    path, tool, *arguments = sys.argv[1:]
    ignored = [number for number in (signal.SIGINT, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_IGN]
    asked = marshal.dumps(
        {
            "tool": tool,
            "arguments": list(map(os.fsencode, arguments)),
            "environment": dict(os.environb),
            "folder": os.getcwdb(),  # noqa: PTH109 - pathlib takes as long to import as all the rest
            "ignored": list(map(int, ignored)),
        }
    )
    passed = [number for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) if number not in ignored]
    signal.pthread_sigmask(signal.SIG_BLOCK, passed)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(path)
    socket.send_fds(connection, [struct.pack("I", len(asked))], [0, 1, 2])
    connection.sendall(asked)
    for stream in (0, 1, 2):
        os.close(stream)
    (pid,) = struct.unpack("i", connection.recv(4))
    for number in passed:
        signal.signal(number, lambda number, _: os.kill(pid, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, passed)
    (code,) = struct.unpack("i", connection.recv(4))
    if code < 0:
        if -code != signal.SIGKILL:  # which cannot be handled, and is not
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
