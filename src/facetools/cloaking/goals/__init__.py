"""Where attacks stop: what a cloak must reach, people to hide among, faces that have reached it."""
