"""Dequantize weights: read codes that are stored with scales as the weights that they represent, in float64.

What can be read is read exactly; what cannot is an error of that tensor, or of the whole model, and never a number.
"""

from berttools.checkpoints.quantized.reading import with_scales

__all__ = ["with_scales"]
