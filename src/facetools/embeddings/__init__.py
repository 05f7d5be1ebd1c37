"""Embed faces; read and write files of embeddings; compute their distances."""
