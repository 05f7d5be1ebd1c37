"""Random-initialisation baseline: a model of the same configuration that was never trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.compute.device import seeded
from _toolio.errors import ToolError
from _toolio.tensors.reader import ArrayTensor, FlatTensor
from berttools.checkpoints.config_numbers import check_numbers
from berttools.checkpoints.files import Checkpoint, Stored
from berttools.checkpoints.model_folder import silent_transformers, without_kernels

if TYPE_CHECKING:
    import torch

RANDOM_INIT = "random-init"


class _InMemory:
    """Tensors of a model in memory."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors = tensors

    def flat(self, name: str) -> FlatTensor:
        """Return a tensor as flat values in C order."""
        return ArrayTensor(self._tensors[name].detach().contiguous().numpy())


def random_init(base: Checkpoint, seed: int) -> Checkpoint:
    """Return a randomly initialised model of the base's configuration, as its pre-training began.

    The whole model is in memory, in float32, by transformers; code from the folder is not run.

    Parameters
    ----------
    base
        A folder with a config.json.
    seed
        Of torch's generator.

    Raises
    ------
    ToolError
        Kind ``"bad-config"``: there is no configuration, or transformers knows none such.
    """
    if not base.config:
        raise ToolError(
            f"{base.path}: no config.json to initialise a model from; give the base's folder", kind="bad-config"
        )
    check_numbers(base.config, base.path)
    import torch
    import transformers

    try:
        # Layers draw from the generator of the whole process, and from no other.
        with silent_transformers(), seeded(seed):
            config = transformers.AutoConfig.from_pretrained(base.path, local_files_only=True, trust_remote_code=False)
            without_kernels(config)
            kind = _class_of(transformers, config)
            model = kind._from_config(config, dtype=torch.float32)
    except Exception as error:
        # transformers raises whatever a wrong field leads to.
        first = str(error).strip().splitlines()[:1]
        raise ToolError(
            f"{base.path / 'config.json'}: no model can be made of it: {first[0] if first else type(error).__name__}",
            kind="bad-config",
        ) from error
    tensors: dict[str, torch.Tensor] = model.state_dict()
    source = _InMemory(tensors)
    path = Path(RANDOM_INIT)
    return Checkpoint(path, {name: (Stored("F32", tuple(t.shape), path), source) for name, t in tensors.items()})


def _class_of(transformers: Any, config: Any) -> Any:
    """Return the class that the base was saved from, so that its head has a counterpart too."""
    names = config.architectures or []
    found = getattr(transformers, names[0], None) if names else None
    return found if hasattr(found, "_from_config") else type(transformers.AutoModel.from_config(config))
