"""What the man pages say besides the options: the fields of each command's records, and examples."""

from _toolio.manual import Page

PAGES = {
    "layerdiff": Page(
        fields={
            "angle": "Angle between the two tensors as vectors, over pi: 0 same direction, 0.5 orthogonal, 1 opposite.",
            "name": "The tensor's name in the base.",
            "base": "Which checkpoint is the base of this record; given, with ft, where several pairs are compared.",
            "ft": "Which checkpoint is the fine-tuned one.",
            "by": "layer, group or model, where tensors are added up: the distances are of them laid end to end.",
            "tensors": "How many were added up, a tied copy not counted again; left_out could not be compared.",
            "n": "Entries that were added up.",
            "name_ft": "Its name in the fine-tuned model, where that differs.",
            "layer": "Number of its layer, from 0; null where it belongs to none.",
            "group": "Q, K, V, AO, I or O for the matrices of a transformer layer; null for all else.",
            "shape": "Of the tensor; shape_ft is given where that differs.",
            "angle_rad": "The angle in radians, with all its digits.",
            "l1": "sum|d| / sqrt(n), where d is fine-tuned minus base and n the number of entries.",
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
}
