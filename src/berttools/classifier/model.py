"""Open sequence classifiers of transformers: a base with a new head, or a fine-tuned model.

transformers is imported when a model is opened; nothing is downloaded, and no code of a folder is run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _toolio.compute.device import seeded
from _toolio.errors import ToolError
from _toolio.foreign_code import STDERR, STDOUT, PanicError, discarded, panics_raised
from berttools.checkpoints.config_numbers import check_numbers
from berttools.checkpoints.files import open_checkpoint, refuse_emptied
from berttools.checkpoints.model_folder import (
    check_folder,
    has_head,
    inner_folder,
    json_fault,
    silent_transformers,
    without_kernels,
)
from berttools.checkpoints.names.layers import locate
from berttools.classifier.head import check_config, check_shapes, config_fields, labels_of
from berttools.classifier.limits import InputLimits, limits_of, settle_padding
from berttools.texts.labels import Labels

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray


@dataclass(slots=True)
class Classifier:
    """A model, its tokenizer and its labels.

    Attributes
    ----------
    model
        A transformers model for sequence classification, float32, on the CPU.
    tokenizer
        The tokenizer of the same folder.
    labels
        The labels of the model's outputs.
    new
        Names of parameters that the folder lacked and that were initialised at random: a new head.
    limits
        The largest inputs that the model takes.
    """

    model: Any
    tokenizer: Any
    labels: Labels
    new: frozenset[str]
    limits: InputLimits

    @property
    def longest(self) -> int:
        """Largest number of tokens that the model takes."""
        return self.limits.length

    @property
    def head(self) -> frozenset[str]:
        """Names of parameters that belong to the task: outside the encoder, or new."""
        inside = f"{self.model.base_model_prefix}."
        return self.new | {name for name, _ in self.model.named_parameters() if not name.startswith(inside)}


@contextmanager
def _transformers_at(folder: Path) -> Iterator[None]:
    """Keep transformers silent, and turn what it raises into one line about the folder."""
    try:
        with silent_transformers():
            yield
    except ToolError:
        raise
    except Exception as error:
        # transformers raises whatever a wrong field leads to.
        if fault := json_fault(folder):
            raise ToolError(fault, kind="bad-model") from error
        why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ToolError(f"{folder}: transformers cannot open it: {why.rstrip('.')}", kind="bad-model") from error


def open_base(folder: Path, labels: Labels | None, *, seed: int = 0) -> Classifier:
    """Open a model to fine-tune, with its own head or with a new one.

    Torch's generators and transformers' logging are as before when it returns.

    Parameters
    ----------
    folder
        A model's folder.
    labels
        Labels of a new head; None keeps the folder's own head and labels.
    seed
        Seed of a new head's initialisation.

    Raises
    ------
    ToolError
        If the folder holds no such model, no tokenizer, or no weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    check_folder(folder)
    folder = inner_folder(folder)
    checkpoint = open_checkpoint(folder)  # says better than transformers what is wrong with weights
    refuse_emptied(checkpoint)
    check_numbers(checkpoint.config, folder)
    if labels is None:
        check_config(checkpoint.config, folder)
    with _transformers_at(folder), seeded(seed % 2**63):
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        without_kernels(config)
        for key, value in config_fields(labels).items() if labels else ():
            setattr(config, key, value)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, local_files_only=True, trust_remote_code=False, dtype=torch.float32,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
        # It prints fields that it does not know, among the records, and of a panic what the error tells.
        with discarded(STDOUT, STDERR), panics_raised():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            _try(tokenizer)
    limits = limits_of(model, tokenizer)
    settle_padding(model, tokenizer, folder, limits.rows)
    mismatched = {key: shapes for key, *shapes in loading["mismatched_keys"]}
    new = {*loading["missing_keys"], *mismatched}
    inside = f"{model.base_model_prefix}."
    # A pooler stands between encoder and head, and some bases have none.
    if odd := min((name for name in new if name.startswith(inside) and "pooler" not in name), default=None):
        raise ToolError(
            f"{folder}: its weights have no {odd}, or of another shape, as its config.json wants it of a"
            f" {type(model).__name__}; are both of the same model?",
            kind="bad-model",
        )
    _refuse_left_out_layers(folder, model, loading["unexpected_keys"])
    if labels is None:
        check_shapes(folder, config.num_labels, mismatched)
    elif has_head(folder):
        new |= _draw_head(model, seed)
    return Classifier(model, tokenizer, labels or labels_of(model.config), frozenset(new), limits)


def _try(tokenizer: Any) -> None:
    """Tokenise a text and a pair, so that a tokenizer that panics is refused before any work is done."""
    for second in (None, ["a"]):
        try:
            with panics_raised():
                tokenizer(["a"], second, verbose=False)
        except PanicError:
            raise
        except Exception:  # noqa: S112 - of these words; others it may know
            continue


def _refuse_left_out_layers(folder: Path, model: Any, unexpected: Iterable[str]) -> None:
    """Refuse weights of more layers than the configuration has: transformers leaves the rest out without a word.

    What a layer of the model does not know is left out: files of old hold buffers, such as GPT-2's ``masked_bias``.
    """
    inside = f"{model.base_model_prefix}."
    last: dict[str, int] = {}
    for name, _ in model.named_parameters():
        if place := locate(name):
            last[place.path] = max(place.layer, last.get(place.path, 0))
    for name in sorted(unexpected):
        place = locate(name)
        own = place and next((last[path] for path in (place.path, inside + place.path) if path in last), None)
        if place and own is not None and place.layer > own:
            raise ToolError(
                f"{folder}: its weights have {name}, and by its config.json the model has layers 0 to {own};"
                " are both of the same model?",
                kind="bad-model",
            )


def open_model(folder: Path) -> Classifier:
    """Open a fine-tuned model, to predict with it.

    Raises
    ------
    ToolError
        As ``open_base``; or if the folder holds no head.
    """
    check_folder(folder)
    if not has_head(folder):
        raise ToolError(f"{folder}: has no head that labels texts; tune it with berttools finetune", kind="no-head")
    opened = open_base(folder, None)
    if missing := sorted(opened.new):
        raise ToolError(f"{folder}: its weights lack {missing[0]}; copy them again", kind="no-head")
    opened.model.eval()
    return opened


def refuse_not_finite(folder: Path, model: Any) -> None:
    """Refuse a model with NaN or infinite weights: training would have no loss, whatever its learning rate.

    Raises
    ------
    ToolError
        Kind ``"not-finite"``; the message names the first such tensor.
    """
    import torch

    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not torch.isfinite(parameter).all():
            counts = [(int(torch.isnan(parameter).sum()), "NaN"), (int(torch.isinf(parameter).sum()), "infinite")]
            found = " and ".join(f"{count} {what}" for count, what in counts if count)
            raise ToolError(
                f"{folder}: {name} has {found} of {parameter.numel()} values; copy the weights again, or take them from"
                " an earlier checkpoint",
                kind="not-finite",
            )


def _draw_head(model: Any, seed: int) -> set[str]:
    """Initialise a head again if the folder had one for other labels; return the names of its parameters."""
    inside = f"{model.base_model_prefix}."
    drawn = set()
    with seeded(seed % 2**63):
        for name, module in model.named_modules():
            own = {f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)}
            if own and not f"{name}.".startswith(inside):
                module._is_hf_initialized = False
                for parameter in module.parameters(recurse=False):
                    parameter._is_hf_initialized = False
                model._init_weights(module)
                drawn |= own
    return drawn


def state_arrays(model: torch.nn.Module) -> dict[str, NDArray[Any]]:
    """Return a model's state dict as arrays, a tied tensor once."""
    state, seen = {}, set()
    for name, tensor in model.state_dict().items():
        if (place := (tensor.data_ptr(), tuple(tensor.shape))) not in seen or not tensor.numel():
            state[name] = tensor.detach().cpu().contiguous().numpy()
            seen.add(place)
    return state


def config_text(model: Any) -> str:
    """Return the text of a model's config.json, as transformers writes it."""
    import copy

    config = copy.deepcopy(model.config)
    config.architectures, config.dtype = [type(model).__name__], "float32"
    return str(config.to_json_string())
