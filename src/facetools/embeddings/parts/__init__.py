"""Embeddings in parts: a folder of files of embeddings, and a manifest of them."""
