"""The command ``berttools mask-tune``."""

from __future__ import annotations

from _toolio.cli import options
from _toolio.cli.manual import Page
from berttools.classifier.precision import Precision
from berttools.commands import _mask_options as own
from berttools.commands import _training as usual
from berttools.commands._fields import MEASURED, TEXTS
from berttools.commands._options import ColumnsOption, MaxLength, MetricOption, PrecisionOption
from berttools.mask_tuning import run
from berttools.mask_tuning.recipe import Method, Pattern
from berttools.masks import Code
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
    apply-mask makes a model of it and the base. Texts, metrics, dropout, --resume and torchrun are as for finetune.

    With --dev each measurement is of the mask that would be stored: scores above 0, or one draw where that is better.
    """
    asked = run.MaskAsked(
        base, train, out, dev, columns, task, new_head, metric, only, group, layers, freeze, tuning_run.Save.delta,
        epochs, max_steps, evaluate_every, patience, batch, accumulate, learning_rate, None, warmup, weight_decay, clip,
        max_length, precision, seed, resume, force, method, pattern, initial_sparsity, target_sparsity, initial_score,
        score_learning_rate, pooler, refit_head, distill, code,
    )  # fmt: skip
    return usual.tune(SCHEMA, COLUMNS, asked, device, run.MaskRun)


PAGE = Page(
    fields={
        "score": "The metric that ranks, on --dev; null without.",
        "metric": "Which one that is.",
        "epoch": "Passes over the training texts so far; in the last record, those of the best measurement.",
        "step": "Steps so far, likewise.",
        "loss": "Mean loss of the training texts since the measurement before; masks are drawn anew each step.",
        **MEASURED,
        "inference": "What the measured mask is: threshold, scores above 0 (for topk the largest), or draw, one"
        " draw of the chances that the scores are.",
        "score_at_threshold": "The metric of the one.",
        "score_of_draw": "The metric of the other. The better of both is kept.",
        "best": "Whether it is better than every measurement before: this mask is kept.",
        "refitted": "With --refit-head: whether the head that was tuned once more was better, and kept.",
        "path": "What was written. With the fields below, in the last record only.",
        "sparsity": "Share of the masked matrices' entries that are set to zero.",
        "zeroed": "How many that are.",
        "weights": "Of how many.",
        "matrices": "How many matrices are masked.",
        "bytes": "Of the file.",
        "mask_bytes": "Of the masks in it.",
        "dense_bytes": "Of the head in it.",
        "code": "How the masks are coded.",
        "masked_sha256": "Digest of the base's matrices that are masked, and of no other tensor.",
        **TEXTS,
    },
    examples=(
        (
            "berttools mask-tune --base base/ --train train.jsonl --dev dev.jsonl --out task.mask.safetensors",
            "Learn which weights to zero, of some thousands of texts; of a few, with a higher --score-lr.",
        ),
        (
            "berttools mask-tune --base base/ --train train.jsonl --dev dev.jsonl --initial-sparsity 0.2"
            " --group V,AO,O --refit-head --out task.mask.safetensors",
            "Masks of some groups only, that begin with a fifth of each matrix zeroed.",
        ),
        (
            "berttools layerdiff base/ ft/ --group Q,K,V,AO,I,O | sort -r | head -8"
            " | berttools mask-tune --base base/ --only - --train train.jsonl --dev dev.jsonl"
            " --out task.mask.safetensors",
            "Masks of what moved most when all was tuned.",
        ),
        (
            "berttools mask-tune --base base/ --train train.jsonl --dev dev.jsonl --method topk"
            " --target-sparsity 0.5 --distill ft/ --out task.mask.safetensors",
            "Half of each matrix, with a tuned model as the teacher.",
        ),
    ),
)
