"""Convert weight files of other projects into extractor files."""
