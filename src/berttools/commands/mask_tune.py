"""The command ``berttools mask-tune``."""

from __future__ import annotations

from _toolio.cli import options
from _toolio.cli.manual import Page
from berttools import mask_tuning
from berttools.commands._fields import MEASURED, TEXTS
from berttools.commands._mask_options import (
    Beside,
    CodeOption,
    DistanceOption,
    HeadRate,
    InitialScore,
    InitialSparsity,
    MethodOption,
    Out,
    PatternOption,
    PoolerOption,
    Refit,
    ScoreRate,
    TargetSparsity,
    Teacher,
)
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
    Layers,
    MaxSteps,
    NewHead,
    Only,
    Patience,
    TaskOption,
    Train,
    Warmup,
    tune,
)
from berttools.mask_tuning.config import MaskTuneConfig

SCHEMA = "berttools.mask-tune/1"
COLUMNS = ("metric", "epoch", "step", "loss", "dev_loss", "inference", "best", "path", "sparsity", "bytes", "reason")


def mask_tune(
    base: Base,
    train: Train,
    out: Out,
    dev: Dev = MaskTuneConfig.dev,
    columns: ColumnsOption = MaskTuneConfig.columns,
    task: TaskOption = MaskTuneConfig.task,
    new_head: NewHead = MaskTuneConfig.new_head,
    metric: MetricOption = MaskTuneConfig.metric,
    method: MethodOption = MaskTuneConfig.method,
    initial_sparsity: InitialSparsity = MaskTuneConfig.initial_sparsity,
    target_sparsity: TargetSparsity = MaskTuneConfig.target_sparsity,
    pattern: PatternOption = MaskTuneConfig.pattern,
    only: Only = MaskTuneConfig.only,
    group: Group = MaskTuneConfig.group,
    layers: Layers = MaskTuneConfig.layers,
    freeze: Freeze = MaskTuneConfig.freeze,
    pooler: PoolerOption = MaskTuneConfig.pooler,
    beside: Beside = MaskTuneConfig.beside,
    score_learning_rate: ScoreRate = MaskTuneConfig.score_learning_rate,
    initial_score: InitialScore = MaskTuneConfig.initial_score,
    distance: DistanceOption = MaskTuneConfig.distance,
    learning_rate: HeadRate = MaskTuneConfig.learning_rate,
    refit_head: Refit = MaskTuneConfig.refit_head,
    distill: Teacher = MaskTuneConfig.distill,
    code: CodeOption = MaskTuneConfig.code,
    epochs: Epochs = MaskTuneConfig.epochs,
    max_steps: MaxSteps = MaskTuneConfig.max_steps,
    evaluate_every: Every = MaskTuneConfig.evaluate_every,
    patience: Patience = MaskTuneConfig.patience,
    batch: Batch = MaskTuneConfig.batch,
    accumulate: Accumulate = MaskTuneConfig.accumulate,
    warmup: Warmup = MaskTuneConfig.warmup,
    weight_decay: Decay = MaskTuneConfig.weight_decay,
    clip: Clip = MaskTuneConfig.clip,
    max_length: MaxLength = MaskTuneConfig.max_length,
    precision: options.PrecisionChoice = MaskTuneConfig.precision,
    seed: options.Seed = MaskTuneConfig.seed,
    resume: options.Resume = MaskTuneConfig.resume,
    force: options.Force = MaskTuneConfig.force,
    device: options.Device = "auto",
) -> int:
    """Fine-tune by zeroing weights of a frozen base.

    Each matrix of the encoder, or each that --group, --layers, --only and --freeze leave, gets a score a weight; only
    scores and the head are learned (--learning-rate is the head's). The file holds the masks and the head, and
    apply-mask makes a model of it and the base. Texts, metrics, dropout, --resume and torchrun are as for finetune.

    With --dev each evaluation is of the mask that would be stored: scores above 0, or one draw where that is better.
    """
    config = MaskTuneConfig(
        base=base, train=train, out=out, dev=dev, columns=columns, task=task, new_head=new_head, metric=metric,
        only=only, group=group, layers=layers, freeze=freeze, epochs=epochs, max_steps=max_steps,
        evaluate_every=evaluate_every, patience=patience, batch=batch, accumulate=accumulate,
        learning_rate=learning_rate, warmup=warmup, weight_decay=weight_decay, clip=clip, max_length=max_length,
        precision=precision, seed=seed, resume=resume, force=force, method=method, initial_sparsity=initial_sparsity,
        target_sparsity=target_sparsity, pattern=pattern, pooler=pooler, beside=beside,
        score_learning_rate=score_learning_rate, initial_score=initial_score, distance=distance, refit_head=refit_head,
        distill=distill, code=code,
    )  # fmt: skip
    return tune(SCHEMA, COLUMNS, config, device, mask_tuning.mask_tune)


PAGE = Page(
    fields={
        "score": "The metric that ranks, on --dev; null without.",
        "metric": "Which one that is.",
        "epoch": "Passes over the training texts so far; in the last record, those of the best evaluation.",
        "step": "Steps so far, likewise.",
        "loss": "Mean training loss since the evaluation before; masks are drawn again at each step.",
        **MEASURED,
        "inference": "The mask that was evaluated: threshold, scores above 0 (for topk the largest), or draw, one"
        " draw with the probabilities of the scores.",
        "score_at_threshold": "The metric of threshold.",
        "score_of_draw": "The metric of draw. The better of both is kept.",
        "best": "Whether it is better than every evaluation before: this mask is kept.",
        "refitted": "With --refit-head: whether the head that was tuned again was better, and kept.",
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
            "Masks of some groups only, with a fifth of each matrix zeroed at the beginning.",
        ),
        (
            "berttools layerdiff --matrices base/ ft/ | sort -r | head -8"
            " | berttools mask-tune --base base/ --only - --train train.jsonl --dev dev.jsonl"
            " --out task.mask.safetensors",
            "Masks of the matrices that moved most when all was tuned.",
        ),
        (
            "berttools mask-tune --base base/ --train train.jsonl --dev dev.jsonl --method topk"
            " --target-sparsity 0.5 --distill ft/ --out task.mask.safetensors",
            "Half of each matrix, with a tuned model as the teacher.",
        ),
    ),
)
