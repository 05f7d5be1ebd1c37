"""Embed faces; read and write files of embeddings; distances between them."""
