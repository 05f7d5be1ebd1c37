"""Extractors: networks that turn an aligned face chip into an embedding. One file an architecture.

An architecture is a module of ``architectures``; its name is its file name. It has ``SETTINGS``, the usual settings of
its networks, ``network(state, options)``, which builds one from tensors under its own names, and ``canonical(state)``,
which maps tensors of other projects' layouts to these names. None is imported before it is needed.
"""
