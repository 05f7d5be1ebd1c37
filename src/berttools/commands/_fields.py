"""Fields of records that several commands share, as the man pages describe them."""

MEASURED = {
    "chance": "What the metric is at best where every text of --dev gets the same label.",
    "one_label": "The label that every text of --dev got; absent where they differ.",
    "first_loss": "In the first record: mean training loss of the first tenth of the steps.",
    "dev_loss": "Mean loss on --dev: cross-entropy, squared error of a regression, or the mean binary cross-entropy of"
    " multi-label data.",
    "accuracy": "Share of correct predictions; for classes, as are the next three. Of multi-label data the share of"
    " texts all of whose classes are predicted, and no other.",
    "f1": "F1 of the second of two classes; of more the mean.",
    "macro-f1": "Mean of all classes' F1; of multi-label data too.",
    "matthews": "Matthews' correlation.",
    "pearson": "Pearson's correlation; for a regression.",
    "spearman": "Spearman's rank correlation; for a regression.",
    "micro-f1": "F1 of all decisions together; of multi-label data, as are the next two.",
    "label_thresholds": "For each class the probability from which on it is predicted: that of its largest F1 on --dev."
    " Metrics are with these, and config.json keeps those of the best evaluation.",
    "score_at_half": "The metric with a threshold of 0.5 for every class.",
}

TEXTS = {
    "train": "Texts to train on.",
    "train_cut": "How many of them were truncated.",
    "dev": "Texts to evaluate on.",
    "dev_cut": "How many of them were truncated.",
    "learning_rate": "The peak learning rate of what was tuned; of mask-tune that of the head.",
    "head_learning_rate": "That of the head.",
    "base_sha256": "Digest of the base's tensors.",
    "reason": "Why there is no score.",
}
