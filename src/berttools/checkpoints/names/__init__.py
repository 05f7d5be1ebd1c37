"""Names of tensors: what wraps them, which layer of which stack they belong to, the names of two models aligned."""

from typing import TYPE_CHECKING

from _toolio.lazy import exporter

if TYPE_CHECKING:
    from berttools.checkpoints.names.alignment import Alignment, AmbiguousNamesError, align_names, base_names
    from berttools.checkpoints.names.prefixes import modern_name

__all__ = ["Alignment", "AmbiguousNamesError", "align_names", "base_names", "modern_name"]

__getattr__ = exporter(__name__, dict.fromkeys(__all__, "alignment") | {"modern_name": "prefixes"})
