"""The detector of cloaked faces: network, crops, calibration, file, training."""
