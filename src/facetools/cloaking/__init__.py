"""Run an attack on the faces of photos and measure the change."""
