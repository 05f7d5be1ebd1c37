"""Draw what was done to photos: grids of clean and cloaked, contact sheets of faces."""
