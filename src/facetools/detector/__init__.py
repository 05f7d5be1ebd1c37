"""Detect cloaked faces: prediction, network, crops, file, training, calibration and threshold."""
