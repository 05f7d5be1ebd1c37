"""Fields of records that several commands share, as the man pages describe them."""

MEASURED = {
    "dev_loss": "Mean loss on --dev: cross-entropy, or squared error of a regression.",
    "accuracy": "Share of correct predictions; for classes, as are the next three.",
    "f1": "F1 of the second of two classes; of more the mean.",
    "macro-f1": "Mean of all classes' F1.",
    "matthews": "Matthews' correlation.",
    "pearson": "Pearson's correlation; for a regression.",
    "spearman": "Spearman's rank correlation; for a regression.",
}

TEXTS = {
    "train": "Texts to train on.",
    "train_cut": "How many of them were truncated.",
    "dev": "Texts to evaluate on.",
    "dev_cut": "How many of them were truncated.",
    "base_sha256": "Digest of the base's tensors.",
    "reason": "Why there is no score.",
}
