"""What the man pages say besides the options: the fields of each command's records, and examples."""

from _toolio.manual import Page

PAGES = {
    "layerdiff": Page(
        fields={
            "angle": "Angle between the two tensors as vectors, over pi: 0 same direction, 0.5 orthogonal, 1 opposite.",
            "name": "The tensor's name in the base.",
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
        ),
    ),
}
