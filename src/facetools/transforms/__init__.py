"""Transforms of photos: preprocessing, augmentation, differentiable views."""
