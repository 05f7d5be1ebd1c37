"""Fields of records that several commands share, as the man pages describe them."""

MEASURED = {
    "dev_loss": "Mean loss of --dev: cross-entropy, or squared error of numbers.",
    "accuracy": "Share of right classes; for classes, as are the next three.",
    "f1": "Of the second of two classes; of more the mean.",
    "macro-f1": "The mean of all classes' F1.",
    "matthews": "Matthews' correlation.",
    "pearson": "Correlation of values; for numbers.",
    "spearman": "Correlation of ranks; for numbers.",
}

TEXTS = {
    "train": "Texts to train on.",
    "train_cut": "How many of them were too long for the model and were cut.",
    "dev": "Texts to measure on.",
    "dev_cut": "How many of them were cut.",
    "base_sha256": "Digest of the base's tensors.",
    "reason": "Why there is no score.",
}
