"""What the man pages say besides the options: the fields of each command's records, and examples."""

from _toolio.cli.manual import Page

_MEASURED = {
    "dev_loss": "Mean loss of --dev: cross-entropy, or squared error of numbers.",
    "accuracy": "Share of right classes; for classes, as are the next three.",
    "f1": "Of the second of two classes; of more the mean.",
    "macro-f1": "The mean of all classes' F1.",
    "matthews": "Matthews' correlation.",
    "pearson": "Correlation of values; for numbers.",
    "spearman": "Correlation of ranks; for numbers.",
}

_TEXTS = {
    "train": "Texts to train on.",
    "train_cut": "How many of them were too long for the model and were cut.",
    "dev": "Texts to measure on.",
    "dev_cut": "How many of them were cut.",
    "base_sha256": "Digest of the base's tensors.",
    "reason": "Why there is no score.",
}

PAGES = {
    "layerdiff": Page(
        fields={
            "angle": "Angle between the two tensors as vectors, over pi: 0 same direction, 0.5 orthogonal, 1 opposite.",
            "name": "The tensor's name in the base.",
            "base": "Which checkpoint is the base of this record; given, with ft, where several pairs are compared.",
            "ft": "Which checkpoint is the fine-tuned one.",
            "by": "layer, group or model, where tensors are added up: the distances are of them laid end to end.",
            "tensors": "How many were added up, a tied copy not counted again; left_out could not be compared, or are"
            " whole numbers that are no quantised weights, such as position ids.",
            "n": "Entries that were added up.",
            "name_ft": "Its name in the fine-tuned model, where that differs.",
            "layer": "Number of its layer, from 0; null where it belongs to none.",
            "group": "Q, K, V, AO, I or O for the matrices of a transformer layer; null for all else.",
            "shape": "Of the tensor; shape_ft is given where that differs.",
            "angle_rad": "The angle in radians, with all its digits.",
            "l1": "sum|d| / sqrt(n), d being fine-tuned minus base and n the number of entries: a scale chosen here.",
            "mean_abs": "sum|d| / n.",
            "rel_l1": "sum|d| over the sum of the base's absolute values.",
            "l2": "Length of d.",
            "rel_l2": "Length of d over the length of the base.",
            "max_abs": "Largest |d|.",
            "changed": "Fraction of entries that differ.",
            "rounding_angle": "Where dtypes differ: the angle over pi that storing the finer side in the coarser dtype"
            " makes by itself. A measured angle no larger says nothing.",
            "part": "Of a matrix that holds several: axis, start and stop of its rows (0) or columns (1); shape too.",
            "svd_share": "With --svd K: the share of the change's energy in its K largest singular values, 0 to 1;"
            " null for what is no matrix or did not change.",
            "baseline_angle": "With --baseline: the base's distance to the fresh initialisation; baseline_l1 and"
            " baseline_rel_l2 too.",
            "tied_to": "The tensor that this one is a copy of in its own model.",
            "dtype": "Of the base's tensor; dtype_ft is given where that differs.",
            "only_in": "base or ft, for a tensor of one side only.",
            "not_finite": "How many entries of each side are NaN or infinite.",
            "reason": "Why there is no angle or no distance.",
            "error": "What went wrong with this tensor: kind and message.",
        },
        examples=(
            ("berttools layerdiff base/ ft/ | sort", "Rank the tensors, least moved first."),
            (
                'berttools layerdiff base/ ft/ | grep \'"group":"V"\' | sort -r | head -3',
                "The three value matrices that moved most.",
            ),
            (
                "berttools layerdiff base.safetensors ft/model.safetensors.index.json > moved.jsonl",
                "A single file against shards.",
            ),
            ("berttools layerdiff base/ ft/ --by layer --csv", "How far each layer moved, for a spreadsheet."),
            (
                "berttools layerdiff base/ ft/ --group V,O --heatmap moved.png | sort -r | head -4",
                "Values and outputs only, drawn by layer too.",
            ),
            (
                "berttools layerdiff base/ ft/ ft2/ --pairs --by model",
                "Are two fine-tuned models nearer to the base than to each other?",
            ),
        ),
    ),
    "finetune": Page(
        fields={
            "score": "The metric that ranks, on --dev; null without.",
            "metric": "Which one that is.",
            "epoch": "Passes over the training texts so far; in the last record, those of the best measurement.",
            "step": "Steps so far, likewise.",
            "loss": "Mean loss of the training texts since the measurement before.",
            **_MEASURED,
            "best": "Whether it is better than every measurement before: these weights are kept.",
            "path": "What was written. With the fields below, in the last record only.",
            "save": "model or delta.",
            "tensors": "How many were tuned.",
            "tuned": "How many values they have.",
            "parameters": "How many values the model has that could be tuned.",
            "stored": "How many values were written.",
            **_TEXTS,
        },
        examples=(
            (
                "berttools finetune --base base/ --train train.jsonl --dev dev.jsonl --out tuned/",
                "Tune all of a model.",
            ),
            (
                "berttools layerdiff base/ ft/ | sort -r | head -8 | berttools finetune --base base/ --only -"
                " --train train.jsonl --dev dev.jsonl --save delta --out task.safetensors",
                "Tune the eight tensors that moved most when all were tuned, and store only these and the head.",
            ),
            (
                "berttools finetune --base base/ --layers 1 --group Q,V --freeze classifier.bias --train train.jsonl"
                " --dev dev.jsonl --metric matthews --patience 2 --out tuned/",
                "Queries and values of layer 1, and of the head all but a bias.",
            ),
            (
                "berttools finetune --base base/ --train pairs.tsv --columns text_a=first,text_b=second,label=near"
                " --out tuned/",
                "Pairs of texts with numbers to come near to.",
            ),
            (
                "torchrun --nproc-per-node 2 -m berttools finetune --base base/ --train train.jsonl --dev dev.jsonl"
                " --out tuned/",
                "On two devices.",
            ),
        ),
    ),
    "apply-delta": Page(
        fields={
            "share": "Share of the model's values that come from the delta.",
            "path": "The folder that was written.",
            "base": "The base.",
            "delta": "The delta.",
            "tensors": "How many tensors come from the delta.",
            "from_delta": "How many values that is.",
            "from_base": "How many values come from the base.",
            "base_sha256": "Digest of the base's tensors.",
        },
        examples=(("berttools apply-delta base/ task.safetensors --out tuned/", "Restore a model that was tuned."),),
    ),
    "mask-tune": Page(
        fields={
            "score": "The metric that ranks, on --dev; null without.",
            "metric": "Which one that is.",
            "epoch": "Passes over the training texts so far; in the last record, those of the best measurement.",
            "step": "Steps so far, likewise.",
            "loss": "Mean loss of the training texts since the measurement before; masks are drawn anew each step.",
            **_MEASURED,
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
            **_TEXTS,
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
    ),
    "apply-mask": Page(
        fields={
            "sparsity": "Share of the masked matrices' entries that are zeroed.",
            "path": "The folder that was written.",
            "base": "The base.",
            "mask": "The mask file.",
            "tensors": "How many tensors the folder's weights are.",
            "mask_bytes": "Bytes of the mask itself.",
            "dense_bytes": "Bytes of the head, and of what else the mask file holds as it is.",
            "matrices": "How many matrices are masked.",
            "weights": "How many entries they have.",
            "zeroed": "How many of those are zeroed.",
            "code": "How the mask is coded: bits, entropy, conditional; several are joined by +.",
            "masked_sha256": "Digest of the base's matrices that are masked, and of no other tensor.",
            "bytes": "Bytes of the mask file.",
        },
        examples=(
            ("berttools apply-mask base/ task.mask.safetensors --out task/", "Write the model of a task as a folder."),
        ),
    ),
    "maskdiff": Page(
        fields={
            "sparsity": "Of one mask: share of the entries that are zeroed.",
            "jaccard": "Of two masks: entries that both zero over those that either does; null where neither does.",
            "mask": "The mask file; of two the first, a.",
            "mask_b": "The second, b.",
            "by": "tensor, layer, group or model: what the record is about.",
            "name": "The matrix, as the model's state dict calls it.",
            "layer": "Number of its layer, from 0; null where it belongs to none.",
            "group": "Q, K, V, AO, I or O; null for all else.",
            "part": "Of a matrix that holds several: axis, start and stop of its rows (0) or columns (1); shape too.",
            "shape": "Of the matrix, or of the part.",
            "weights": "Entries of the masked matrices.",
            "zeroed": "How many of them are zeroed.",
            "bytes": "Bytes that the code takes; of a part, an equal share of them.",
            "bits_per_weight": "Bits of code over entries.",
            "tensors": "How many matrices were added up, each part as one.",
            "code": "bits, entropy or conditional; several are joined by +.",
            "dense_bytes": "With --by model: bytes of the head, and of what else is in the file as it is.",
            "file_bytes": "With --by model: bytes of the file.",
            "masked_sha256": "With --by model: digest of the base's matrices that are masked, as mask-tune's record has"
            " it. Masks of the same matrices are of one base where they have the same.",
            "sparsity_a": "Share of the entries that a zeroes.",
            "sparsity_b": "Share that b zeroes.",
            "hamming": "Entries that one zeroes and the other does not.",
            "overlap": "Entries that both zero.",
            "overlap_expected": "How many that would be by chance, each mask zeroing as many entries of each matrix.",
            "z": "overlap less overlap_expected, in standard deviations of the hypergeometric distribution.",
            "left_out_a": "With --by model: how many matrices a masks and b does not; absent where there is none.",
            "left_out_b": "How many b masks and a does not, likewise.",
            "reason": "Why there is no jaccard or no z.",
            "error": "Why a matrix that both mask, or all of them, cannot be compared: kind and message.",
        },
        examples=(
            ("berttools maskdiff task.mask.safetensors --by group", "What a mask zeroes of each group."),
            ("berttools maskdiff task.mask.safetensors --by layer | sort -r | head -1", "The sparsest layer."),
            (
                "berttools maskdiff task.mask.safetensors other.mask.safetensors --base base/ --by model",
                "Do two masks zero the same?",
            ),
            (
                "berttools maskdiff task.mask.safetensors --by layer --heatmap zeros.png --csv",
                "By layer for a spreadsheet, and a picture by layer and group.",
            ),
        ),
    ),
    "mask-control": Page(
        fields={
            "sparsity": "Share of the masked matrices' entries that are zeroed: that of the mask it is a control of.",
            "path": "The mask file that was written.",
            "kind": "random or magnitude.",
            "mask": "The mask it is a control of.",
            "base": "The base.",
            "mask_bytes": "Bytes of the mask itself.",
            "dense_bytes": "Bytes of the head, and of what else is stored as it is.",
            "matrices": "How many matrices are masked.",
            "weights": "How many entries they have.",
            "zeroed": "How many of those are zeroed.",
            "code": "How the mask is coded: bits, entropy, conditional; several are joined by +.",
            "masked_sha256": "Digest of the base's matrices that are masked, and of no other tensor.",
            "bytes": "Bytes of the file.",
        },
        examples=(
            (
                "berttools mask-control base/ task.mask.safetensors --kind random --out random.mask.safetensors",
                "As many zeros at random places.",
            ),
            (
                "berttools mask-control base/ task.mask.safetensors --kind magnitude --out small.mask.safetensors"
                " && berttools maskdiff task.mask.safetensors small.mask.safetensors --base base/ --by model",
                "As many zeros among the smallest weights, and how many of them the mask has too.",
            ),
        ),
    ),
    "predict": Page(
        fields={
            "score": "The chance of the label, 0 to 1; of a model that gives numbers, the number.",
            "label": "The likeliest class, or the number with all its digits.",
            "scores": "The chance of every class.",
            "task": "With --mask: the task of the line, as in the input. One that no mask has is an error,"
            " unknown-task, with one --mask too. A line without is of the only mask; of several it is an error.",
            "gold": "The gold that the input had, or else its label, if it had one.",
            "text": "As in the input, as are text_a, text_b and any other field.",
            "truncated": "How many tokens at the text's end were left out; absent where none.",
            "error": "What is wrong with this line, or was before: kind and message.",
        },
        examples=(
            ("berttools predict --model ft/ --in dev.jsonl | sort | head -3", "The three least certain labels."),
            (
                """echo '{"text":"a fine day"}' | berttools predict --model ft/""",
                "Label what a pipe brings.",
            ),
            (
                """echo '{"task":"other","text":"a fine day"}' | berttools predict --base base/"""
                " --mask task.mask.safetensors --mask other.mask.safetensors",
                "Each line by the mask that it names, all over one base.",
            ),
        ),
    ),
    "evaluate": Page(
        fields={
            "score": "The metric.",
            "metric": "Which one: accuracy, f1, macro-f1 or matthews of classes; pearson or spearman of numbers.",
            "task": "Which task was judged; absent where the records are of one or none.",
            "interval": "95% of it, by bootstrap over texts.",
            "n": "How many predictions were judged.",
            "classes": "How many classes there are.",
            "reason": "Why there is no score.",
            "error": "What is wrong with this line, or was with an input of predict: kind and message.",
        },
        examples=(
            ("berttools predict --model ft/ --in dev.jsonl | berttools evaluate", "What a model is worth."),
            ("berttools predict --model ft/ --in dev.jsonl | berttools evaluate --metric f1", "By one metric."),
        ),
    ),
}
