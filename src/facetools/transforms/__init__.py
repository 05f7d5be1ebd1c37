"""What happens to photos: preprocessing, augmentation, differentiable views."""
