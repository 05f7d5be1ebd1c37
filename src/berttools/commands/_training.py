"""Options of ``finetune`` and ``mask-tune``, and the run of either as one of several processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from _toolio.cli.options import completion, finite
from _toolio.cli.progress import track
from _toolio.compute.distributed import count_processes, device_of, failing_together, hush, join
from _toolio.files.claims import claimed
from _toolio.streams.records import Order, RecordWriter
from berttools.commands._options import groups, warn
from berttools.tuning.config import FinetuneConfig, Save, Task

LESS_MEMORY = "a higher --accumulate, which changes no gradient, a smaller --batch, or a smaller --max-length"


Base = Annotated[Path, typer.Option("--base", metavar="DIR", help="The pre-trained model: a folder of transformers'.")]
Train = Annotated[str, typer.Option("--train", metavar="FILE", help="Texts with labels: .jsonl, .csv or .tsv.")]
Dev = Annotated[
    str | None, typer.Option("--dev", metavar="FILE", help="Texts to evaluate on. Without: the last weights are kept.")
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="PATH", help="The folder to write, or with --save delta the file.")
]
SaveOption = Annotated[
    Save, typer.Option("--save", help="The whole model, or only what differs from the base: see apply-delta.")
]
TaskOption = Annotated[
    Task,
    typer.Option(
        "--task",
        help="What a new head predicts. auto: regression if a label is a fraction, multilabel if they are lists.",
    ),
]
NewHead = Annotated[bool, typer.Option("--new-head", help="Replace the base's own head by a new one for these labels.")]
Only = Annotated[
    list[str] | None,
    typer.Option(
        metavar="REGEX|-",
        help="Tune only tensors whose name it matches, and the head; repeatable. -: those that stdin names, a name or "
        "a record of layerdiff or score-layers a line: a tensor, its part, a layer or a group.",
    ),
]
Group = Annotated[
    str | None,
    typer.Option(
        metavar="Q,K",
        autocompletion=completion(groups),
        help="Tune only matrices of these groups, and the head.",
    ),
]
Layers = Annotated[str | None, typer.Option(metavar="8-11", help="Tune only these layers, and the head.")]
Freeze = Annotated[
    list[str] | None,
    typer.Option(metavar="REGEX|Q,K", help="Freeze tensors whose name it matches, or of these groups; repeatable."),
]
Epochs = Annotated[int, typer.Option(min=1, help="Passes over the training texts.")]
MaxSteps = Annotated[int | None, typer.Option(min=1, metavar="N", help="Steps in all, whatever --epochs says.")]
Every = Annotated[
    int | None, typer.Option(min=1, metavar="STEPS", help="Steps between evaluations. Default: an epoch.")
]
Patience = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Stop early after so many evaluations without a better one.")
]
Batch = Annotated[int, typer.Option(min=1, help="Texts a step, over all processes.")]
Accumulate = Annotated[
    int,
    typer.Option(
        min=1, metavar="N",
        help="Take a step's texts in so many parts: less memory, and the same gradient, dropout included.",
    ),
]  # fmt: skip
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--learning-rate", "--lr", min=1e-9, max=1.0, callback=finite,
        help="The peak learning rate. Default: 5e-5; 1e-4 for parts that --only, --group or --layers choose.",
    ),
]  # fmt: skip
HeadLearningRate = Annotated[
    float | None,
    typer.Option(
        "--head-learning-rate", "--head-lr", min=1e-9, max=1.0, callback=finite,
        help="The head's own peak. Default: --learning-rate; of a new head beside parts at least 1e-3.",
    ),
]  # fmt: skip
Warmup = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, callback=finite, help="Share of the steps until the peak; then linear decay to 0."),
]
Decay = Annotated[
    float,
    typer.Option(
        min=0.0, max=1.0, callback=finite, help="AdamW's weight decay of matrices; biases and norms have none."
    ),
]
Clip = Annotated[float, typer.Option(min=0.0, callback=finite, help="Largest norm of the gradient; 0 for no limit.")]


@failing_together
def tune(
    schema: str, columns: tuple[str, ...], config: FinetuneConfig, device: str, function: Callable[..., Iterator[Any]]
) -> int:
    """Run a fine-tuning or mask tuning, as one of several processes or alone; return the exit code.

    Parameters
    ----------
    schema, columns
        Of the records.
    config
        What ``function`` is called with.
    device
        The value of ``--device``.
    function
        ``berttools.tuning.finetune`` or ``berttools.mask_tuning.mask_tune``.
    """
    processes = count_processes()
    config.check(writes=processes.leads)
    hush(processes)
    claim = claimed(config.out if processes.leads else None, replace=config.force)
    with claim, RecordWriter(schema, "score", columns, order=Order.made, makes_files=True) as writer:
        from _toolio.compute.device import enough_memory, pick_device, reproducible
        from berttools.checkpoints.model_folder import silent_transformers

        place = pick_device(device_of(processes, device))
        with reproducible(place), join(processes, place), enough_memory(place, LESS_MEMORY), silent_transformers():
            for record in function(config, device=place, processes=processes, progress=_progress, warn=warn):
                writer.emit(record)
        writer.sum_up(f"{config.out} is written")
        return writer.exit_code


def _progress(steps: range) -> Iterator[int]:
    return track(steps, "tuning", len(steps))
