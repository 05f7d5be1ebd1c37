"""Train detectors: examples, windows cut from them, the trainer, validation on unseen sources, all of it in order."""
