"""Convert other people's weights into extractor files."""
