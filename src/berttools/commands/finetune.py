"""The command ``berttools finetune``."""

from __future__ import annotations

from _toolio.cli import options
from berttools.classifier.inference import Precision
from berttools.commands import _training as own
from berttools.commands._options import ColumnsOption, MaxLength, MetricOption, PrecisionOption
from berttools.tuning import finetune as tuning_run

SCHEMA = "berttools.finetune/1"
COLUMNS = ("metric", "epoch", "step", "loss", "dev_loss", "best", "path", "tuned", "parameters", "stored", "reason")


def finetune(
    base: own.Base,
    train: own.Train,
    out: own.Out,
    dev: own.Dev = None,
    columns: ColumnsOption = None,
    task: own.TaskOption = tuning_run.Task.auto,
    new_head: own.NewHead = False,
    metric: MetricOption = None,
    only: own.Only = None,
    group: own.Group = None,
    layers: own.Layers = None,
    freeze: own.Freeze = None,
    save: own.SaveOption = tuning_run.Save.model,
    epochs: own.Epochs = 3,
    max_steps: own.MaxSteps = None,
    evaluate_every: own.Every = None,
    patience: own.Patience = None,
    batch: own.Batch = 32,
    accumulate: own.Accumulate = 1,
    learning_rate: own.LearningRate = 5e-5,
    head_learning_rate: own.HeadLearningRate = None,
    warmup: own.Warmup = 0.1,
    weight_decay: own.Decay = 0.01,
    clip: own.Clip = 1.0,
    max_length: MaxLength = None,
    precision: PrecisionOption = Precision.auto,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
) -> int:
    """Tune a model on labelled texts, or its critical layers.

    Lines are {"text":..., "label":...}, or with text_a and text_b for pairs. A base without a head for whole texts gets
    a new one for the labels of --train. AdamW; one record a measurement, first field the metric, then one of the whole.
    The weights of the best measurement are written. What is not tuned has no gradient and no moments, and no backward
    pass goes below the lowest layer that is tuned.

    Each measurement leaves PATH.checkpoint, from which --resume goes on to what an uninterrupted run would have
    written. Runs under torchrun on several devices.
    """
    asked = tuning_run.Asked(
        base, train, out, dev, columns, task, new_head, metric, only, group, layers, freeze, save, epochs, max_steps,
        evaluate_every, patience, batch, accumulate, learning_rate, head_learning_rate, warmup, weight_decay, clip,
        max_length, precision, seed, resume, force,
    )  # fmt: skip
    return own.tune(SCHEMA, COLUMNS, asked, device)
