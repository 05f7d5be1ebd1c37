"""Recognisers that a model trainer might use: nearest neighbour, logistic regression, end to end."""
