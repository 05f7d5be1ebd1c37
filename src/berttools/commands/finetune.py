"""The command ``berttools finetune``."""

from __future__ import annotations

from _toolio.cli import options
from _toolio.cli.manual import Page
from berttools import tuning
from berttools.commands._fields import MEASURED, TEXTS
from berttools.commands._options import ColumnsOption, MaxLength, MetricOption
from berttools.commands._training import (
    Accumulate,
    Base,
    Batch,
    Clip,
    Decay,
    Dev,
    Epochs,
    Every,
    Freeze,
    Group,
    HeadLearningRate,
    Layers,
    LearningRate,
    MaxSteps,
    NewHead,
    Only,
    Out,
    Patience,
    SaveOption,
    TaskOption,
    Train,
    Warmup,
    tune,
)
from berttools.tuning.config import FinetuneConfig

SCHEMA = "berttools.finetune/1"
COLUMNS = ("metric", "epoch", "step", "loss", "dev_loss", "best", "path", "tuned", "parameters", "stored", "reason")


def finetune(
    base: Base,
    train: Train,
    out: Out,
    dev: Dev = FinetuneConfig.dev,
    columns: ColumnsOption = FinetuneConfig.columns,
    task: TaskOption = FinetuneConfig.task,
    new_head: NewHead = FinetuneConfig.new_head,
    metric: MetricOption = FinetuneConfig.metric,
    only: Only = FinetuneConfig.only,
    group: Group = FinetuneConfig.group,
    layers: Layers = FinetuneConfig.layers,
    freeze: Freeze = FinetuneConfig.freeze,
    save: SaveOption = FinetuneConfig.save,
    epochs: Epochs = FinetuneConfig.epochs,
    max_steps: MaxSteps = FinetuneConfig.max_steps,
    evaluate_every: Every = FinetuneConfig.evaluate_every,
    patience: Patience = FinetuneConfig.patience,
    batch: Batch = FinetuneConfig.batch,
    accumulate: Accumulate = FinetuneConfig.accumulate,
    learning_rate: LearningRate = FinetuneConfig.learning_rate,
    head_learning_rate: HeadLearningRate = FinetuneConfig.head_learning_rate,
    warmup: Warmup = FinetuneConfig.warmup,
    weight_decay: Decay = FinetuneConfig.weight_decay,
    clip: Clip = FinetuneConfig.clip,
    max_length: MaxLength = FinetuneConfig.max_length,
    precision: options.PrecisionChoice = FinetuneConfig.precision,
    seed: options.Seed = FinetuneConfig.seed,
    resume: options.Resume = FinetuneConfig.resume,
    force: options.Force = FinetuneConfig.force,
    device: options.Device = "auto",
) -> int:
    """Tune a model on labelled texts, or its critical layers.

    Lines are {"text":..., "label":...}, or with text_a and text_b for pairs; a label that is a list is of multi-label
    data. A base without a head for whole texts gets
    a new one for the labels of --train. AdamW; one record an evaluation, first field the metric, then one of the whole.
    The weights of the best evaluation are written. What is not tuned has no gradient and no moments, and no backward
    pass goes below the lowest layer that is tuned.

    What dropout drops of a text follows from --seed, the step and the text: --accumulate and the number of processes
    change a step by rounding only, but for models that lay texts out as one list of tokens, or time first (XLNet).

    Each evaluation leaves PATH.checkpoint, from which --resume goes on to what an uninterrupted run would have
    written. Runs under torchrun on several devices.
    """
    config = FinetuneConfig(
        base=base, train=train, out=out, dev=dev, columns=columns, task=task, new_head=new_head, metric=metric,
        only=only, group=group, layers=layers, freeze=freeze, save=save, epochs=epochs, max_steps=max_steps,
        evaluate_every=evaluate_every, patience=patience, batch=batch, accumulate=accumulate,
        learning_rate=learning_rate, head_learning_rate=head_learning_rate, warmup=warmup, weight_decay=weight_decay,
        clip=clip, max_length=max_length, precision=precision, seed=seed, resume=resume, force=force,
    )  # fmt: skip
    return tune(SCHEMA, COLUMNS, config, device, tuning.finetune)


PAGE = Page(
    fields={
        "score": "The metric that ranks, on --dev; null without.",
        "metric": "Which one that is.",
        "epoch": "Passes over the training texts so far; in the last record, those of the best evaluation.",
        "step": "Steps so far, likewise.",
        "loss": "Mean training loss since the evaluation before.",
        **MEASURED,
        "best": "Whether it is better than every evaluation before: these weights are kept.",
        "path": "What was written. With the fields below, in the last record only.",
        "save": "model or delta.",
        "tensors": "How many tensors were tuned.",
        "tuned": "How many values they have.",
        "parameters": "How many values the model has that could be tuned.",
        "stored": "How many values were written.",
        **TEXTS,
    },
    examples=(
        (
            "berttools finetune --base base/ --train train.jsonl --dev dev.jsonl --out tuned/",
            "Tune all of a model.",
        ),
        (
            "berttools layerdiff --matrices base/ ft/ | sort -r | head -8 | berttools finetune --base base/ --only -"
            " --train train.jsonl --dev dev.jsonl --save delta --out task.safetensors",
            "Tune the eight matrices that moved most when all was tuned, and store only these and the head.",
        ),
        (
            "berttools finetune --base base/ --layers 1 --group Q,V --freeze classifier.bias --train train.jsonl"
            " --dev dev.jsonl --metric matthews --patience 2 --out tuned/",
            "Queries and values of layer 1, and of the head all but a bias.",
        ),
        (
            "berttools finetune --base base/ --train pairs.tsv --columns text_a=first,text_b=second,label=near"
            " --out tuned/",
            "Pairs of texts with values to regress.",
        ),
        (
            "torchrun --nproc-per-node 2 -m berttools finetune --base base/ --train train.jsonl --dev dev.jsonl"
            " --out tuned/",
            "On two devices.",
        ),
    ),
)
