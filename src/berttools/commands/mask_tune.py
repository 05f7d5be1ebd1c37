"""The command ``berttools mask-tune``."""

from __future__ import annotations

from _toolio.cli import options
from berttools.classifier.inference import Precision
from berttools.commands import _mask_options as own
from berttools.commands import _training as usual
from berttools.commands._options import ColumnsOption, MaxLength, MetricOption, PrecisionOption
from berttools.mask_tuning import run
from berttools.mask_tuning.recipe import Method, Pattern
from berttools.masks.coding import Code
from berttools.tuning import finetune as tuning_run

SCHEMA = "berttools.mask-tune/1"
COLUMNS = ("metric", "epoch", "step", "loss", "dev_loss", "inference", "best", "path", "sparsity", "bytes", "reason")


def mask_tune(
    base: usual.Base,
    train: usual.Train,
    out: own.Out,
    dev: usual.Dev = None,
    columns: ColumnsOption = None,
    task: usual.TaskOption = tuning_run.Task.auto,
    new_head: usual.NewHead = False,
    metric: MetricOption = None,
    method: own.MethodOption = Method.bernoulli,
    initial_sparsity: own.InitialSparsity = 0.0,
    target_sparsity: own.TargetSparsity = None,
    pattern: own.PatternOption = Pattern.free,
    only: usual.Only = None,
    group: usual.Group = None,
    layers: usual.Layers = None,
    freeze: usual.Freeze = None,
    pooler: own.PoolerOption = run.Pooler.freeze,
    score_learning_rate: own.ScoreRate = None,
    initial_score: own.InitialScore = None,
    learning_rate: usual.LearningRate = 1e-3,
    refit_head: own.Refit = False,
    distill: own.Teacher = None,
    code: own.CodeOption = Code.auto,
    epochs: usual.Epochs = 3,
    max_steps: usual.MaxSteps = None,
    evaluate_every: usual.Every = None,
    patience: usual.Patience = None,
    batch: usual.Batch = 32,
    accumulate: usual.Accumulate = 1,
    warmup: usual.Warmup = 0.1,
    weight_decay: usual.Decay = 0.01,
    clip: usual.Clip = 1.0,
    max_length: MaxLength = None,
    precision: PrecisionOption = Precision.auto,
    seed: options.Seed = 0,
    resume: options.Resume = False,
    force: options.Force = False,
    device: options.Device = "auto",
) -> int:
    """Fine-tune by zeroing weights of a frozen base.

    Each matrix of the encoder, or each that --group, --layers, --only and --freeze leave, gets a score a weight; only
    scores and the head are learned (--learning-rate is the head's). The file holds the masks and the head, and
    apply-mask makes a model of it and the base. Texts, metrics, --resume and torchrun are as for finetune.

    With --dev each measurement is of the mask that would be stored: scores above 0, or one draw where that is better.
    """
    asked = run.MaskAsked(
        base, train, out, dev, columns, task, new_head, metric, only, group, layers, freeze, tuning_run.Save.delta,
        epochs, max_steps, evaluate_every, patience, batch, accumulate, learning_rate, None, warmup, weight_decay, clip,
        max_length, precision, seed, resume, force, method, pattern, initial_sparsity, target_sparsity, initial_score,
        score_learning_rate, pooler, refit_head, distill, code,
    )  # fmt: skip
    return usual.tune(SCHEMA, COLUMNS, asked, device, run.MaskRun)
