"""Private plumbing of facetools and berttools.

Knows no face and no BERT word. Everything here needs only the standard library at import, except
``app`` and ``options``, which describe command lines and so need typer.
"""
