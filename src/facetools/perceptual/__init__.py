"""Perceptual distances between photos: SSIM, LPIPS, and the blur that SSIM needs."""
