"""Read the face finder's weights as plain arrays from the files that the ``mtcnn`` package installs.

The package is never imported: it would want TensorFlow. Its three files are LZ4 frames around joblib
pickles, and a pickle can run any code it likes, so they are not unpickled either. A small interpreter walks
the opcodes with inert stand-ins for the three names the files need and refuses every other one. Only numpy
is needed here.
"""

import hashlib
import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

import lz4.frame
import numpy as np
from numpy.typing import NDArray

from _toolio.errors import ToolError, in_one_line

__all__ = ["SHA256", "Net", "read_arrays", "state_dict", "weights_path"]

Net = Literal["pnet", "rnet", "onet"]

SHA256: Final[Mapping[Net, str]] = {
    "pnet": "ea6b0c3e685ebee3165326ad6484acc95f2ef78f1c94fbf40a55704fa989f7b5",
    "rnet": "cb00e6460f3c98b0bfafaba3c0a0ded4bdf6e62cee7174d969e8670d7e757fee",
    "onet": "94f6ea2f4cf985275ee958cdd762d17b6009348a4fb9d8c6be39ba73ffd22ca3",
}
REMEDY: Final = "try pip install --force-reinstall mtcnn==1.0.0"

# Layer names in the order in which the file lists their arrays: (kernel, bias) for a convolution or a dense
# layer, one array of slopes for a PReLU.
_LAYERS: Final[Mapping[Net, tuple[str, ...]]] = {
    "pnet": ("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "box", "face"),
    "rnet": ("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "fc4", "prelu4", "box", "face"),
    "onet": (
        *("conv1", "prelu1", "conv2", "prelu2", "conv3", "prelu3", "conv4", "prelu4"),
        *("fc5", "prelu5", "box", "landmarks", "face"),
    ),
}
# The dense layer behind the flattening, and the side of the square map that it flattens.
_FLATTENED: Final[Mapping[Net, tuple[str, int]]] = {"rnet": ("fc4", 3), "onet": ("fc5", 3)}


def weights_path(net: Net) -> Path:
    """Return the path of one network's weights in the installed ``mtcnn`` package.

    Parameters
    ----------
    net
        ``"pnet"``, ``"rnet"`` or ``"onet"``.

    Returns
    -------
    Path
        An existing file; its content is not checked here.

    Raises
    ------
    ToolError
        If the package or the file is not installed.
    """
    try:
        found = metadata.distribution("mtcnn").locate_file(f"mtcnn/assets/weights/{net}.lz4")
    except metadata.PackageNotFoundError:
        raise ToolError(
            "the face finder's weights are missing: package mtcnn is not installed, try pip install mtcnn==1.0.0",
            kind="weights_missing",
        ) from None
    path = Path(str(found))
    if not path.is_file():
        raise ToolError(f"the face finder's weights {path} are missing: {REMEDY}", kind="weights_missing")
    return path


def read_arrays(path: Path, *, sha256: str | None = None) -> list[NDArray[np.float32]]:
    """Read the list of float32 arrays in an LZ4-compressed joblib file without unpickling it.

    Parameters
    ----------
    path
        The file.
    sha256
        Its expected hash in hexadecimal; None skips the check, which is for tests.

    Returns
    -------
    list of float32 arrays
        In the file's order, each owning its memory.

    Raises
    ------
    ToolError
        If the file cannot be read, its hash differs, it is damaged, or it holds anything but arrays.
    """
    try:
        compressed = path.read_bytes()
    except OSError as error:
        raise ToolError(f"cannot read {path}: {error.strerror}, {REMEDY}", kind="weights_missing") from None
    if sha256 is not None and hashlib.sha256(compressed).hexdigest() != sha256:
        raise ToolError(f"{path} is not the file of mtcnn 1.0.0 (its sha256 differs), {REMEDY}", kind="hash")
    try:
        arrays = _interpret(lz4.frame.decompress(compressed))
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ToolError(f"{path} is damaged: {in_one_line(error)}, {REMEDY}", kind="damaged") from None
    return arrays


def state_dict(net: Net) -> dict[str, NDArray[np.float32]]:
    """Return one network's weights in PyTorch's layout, as :mod:`facetools.faces.mtcnn` names them.

    Parameters
    ----------
    net
        ``"pnet"``, ``"rnet"`` or ``"onet"``.

    Returns
    -------
    dict of str to float32 array
        Convolutions [out, in, height, width], dense layers [out, in], PReLU slopes and biases [out]. The
        dense layer behind the flattening takes its map as (height, width, channel).

    Raises
    ------
    ToolError
        If the file is missing, is not the known one, or does not hold the arrays of this network.
    """
    path = weights_path(net)
    arrays = iter(read_arrays(path, sha256=SHA256[net]))
    flattened, side = _FLATTENED.get(net, ("", 0))
    state: dict[str, NDArray[np.float32]] = {}
    try:
        for name in _LAYERS[net]:
            weight = next(arrays)
            if name.startswith("prelu"):
                state[f"{name}.weight"] = weight.reshape(-1)
                continue
            if name == flattened:
                weight = _columns_to_rows(weight, side)
            order = (3, 2, 0, 1) if weight.ndim == 4 else (1, 0)  # HWIO -> OIHW, or (in, out) -> (out, in)
            state[f"{name}.weight"] = np.ascontiguousarray(weight.transpose(order))
            state[f"{name}.bias"] = next(arrays)
    except (StopIteration, ValueError):
        raise ToolError(f"{path} does not hold the arrays of {net}, {REMEDY}", kind="damaged") from None
    return state


def _columns_to_rows(weight: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    # The original flattens its map column by column (W, H, C); ours is (H, W, C), which in channels_last
    # memory is no copy at all.
    return weight.reshape(side, side, -1, weight.shape[1]).swapaxes(0, 1).reshape(weight.shape)


# --- the interpreter ----------------------------------------------------------------------------------

_WRAPPER: Final = ("joblib.numpy_pickle", "NumpyArrayWrapper")
_ALLOWED: Final = {_WRAPPER, ("numpy", "ndarray"), ("numpy", "dtype")}


@dataclass(slots=True)
class _Inert:
    """Stands for what a pickle would construct: a name, what it is called with, what it is set to."""

    name: tuple[str, str]
    args: Any = ()
    array: NDArray[np.float32] | None = None
    state: Any = None


@dataclass(slots=True)
class _Machine:
    """The stack and the memo of the pickle format; a mark is the height of the stack when it was set."""

    stream: io.BytesIO
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: list[Any] = field(default_factory=list)

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def pop(self, count: int) -> tuple[Any, ...]:
        items = tuple(self.stack[-count:])
        if len(items) != count:
            raise ValueError("the pickle's stack is empty")
        del self.stack[-count:]
        return items


def _interpret(data: bytes) -> list[NDArray[np.float32]]:
    machine = _Machine(io.BytesIO(data))
    # genops reads one opcode at a time, so an opcode's handler may take raw bytes off the same stream.
    for opcode, argument, _ in pickletools.genops(machine.stream):
        handler = _OPCODES.get(opcode.name)
        if handler is None:
            raise ValueError(f"unexpected pickle opcode {opcode.name}")
        handler(machine, argument)
    (result,) = machine.stack
    if not isinstance(result, list) or not result:
        raise ValueError("it does not hold a list of arrays")
    arrays = [item.array for item in result if isinstance(item, _Inert) and item.array is not None]
    if len(arrays) != len(result):
        raise ValueError("it holds something that is not an array")
    return arrays


def _ignore(_: _Machine, __: Any) -> None:
    pass


def _push(machine: _Machine, value: Any) -> None:
    machine.stack.append(value)


def _stack_global(machine: _Machine, _: Any) -> None:
    name = machine.pop(2)
    if name not in _ALLOWED:
        raise ValueError(f"it names {'.'.join(map(str, name))}, which is not needed for arrays")
    machine.stack.append(_Inert((name[0], name[1])))


def _call(machine: _Machine, _: Any) -> None:
    function, arguments = machine.pop(2)
    if not isinstance(function, _Inert):
        raise ValueError("it calls something that is not a class")
    machine.stack.append(_Inert(function.name, arguments))


def _append_items(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.stack[-1].extend(items)


def _set_items(machine: _Machine, _: Any) -> None:
    items = machine.since_mark()
    machine.stack[-1].update(zip(items[::2], items[1::2], strict=True))


def _build(machine: _Machine, _: Any) -> None:
    (state,) = machine.pop(1)
    target = machine.stack[-1]
    target.state = state
    if target.name == _WRAPPER:
        # The array's bytes stand right here, between two opcodes, outside the pickle format.
        target.array = _inline_array(machine.stream, state)


def _inline_array(stream: io.BytesIO, state: dict[str, Any]) -> NDArray[np.float32]:
    dtype = state["dtype"]
    if dtype.args[0] != "f4" or dtype.state[1] != "<" or state["order"] != "C":
        raise ValueError("an array is not little-endian float32 in C order")
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.read(stream.read(1)[0])  # one byte says how many bytes of padding follow
    shape: tuple[int, ...] = state["shape"]
    size = 4 * int(np.prod(shape, dtype=object))
    raw = stream.read(size) if 0 < size <= len(stream.getbuffer()) else b""
    if size <= 0 or len(raw) != size:
        raise ValueError("an array is cut short")
    return np.frombuffer(raw, dtype="<f4").astype(np.float32).reshape(shape)


_OPCODES: Final[Mapping[str, Callable[[_Machine, Any], None]]] = {
    "PROTO": _ignore,
    "FRAME": _ignore,
    "STOP": _ignore,
    "NONE": lambda machine, _: _push(machine, None),
    "NEWTRUE": lambda machine, _: _push(machine, True),
    "NEWFALSE": lambda machine, _: _push(machine, False),
    "BININT": _push,
    "BININT1": _push,
    "BININT2": _push,
    "SHORT_BINUNICODE": _push,
    "EMPTY_LIST": lambda machine, _: _push(machine, []),
    "EMPTY_DICT": lambda machine, _: _push(machine, {}),
    "EMPTY_TUPLE": lambda machine, _: _push(machine, ()),
    "MARK": lambda machine, _: machine.marks.append(len(machine.stack)),
    "TUPLE": lambda machine, _: _push(machine, tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: _push(machine, machine.pop(1)),
    "TUPLE2": lambda machine, _: _push(machine, machine.pop(2)),
    "TUPLE3": lambda machine, _: _push(machine, machine.pop(3)),
    "MEMOIZE": lambda machine, _: machine.memo.append(machine.stack[-1]),
    "BINGET": lambda machine, index: _push(machine, machine.memo[index]),
    "APPENDS": _append_items,
    "SETITEMS": _set_items,
    "STACK_GLOBAL": _stack_global,
    "NEWOBJ": _call,
    "REDUCE": _call,
    "BUILD": _build,
}
