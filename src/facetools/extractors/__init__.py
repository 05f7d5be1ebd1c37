"""Extractors: networks that turn an aligned face chip into an embedding. One file an architecture.

An architecture is a module here; its name is its file name. It has ``SETTINGS``, what its networks usually
want, ``network(state)``, which builds one around tensors under its own names, and ``canonical(state)``, which
brings tensors of other people's layouts under these names. No module here is imported before it is needed.
"""
