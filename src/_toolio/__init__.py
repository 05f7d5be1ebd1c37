"""Private plumbing of facetools and berttools.

Knows no face and no BERT word. Everything here needs only the standard library at import, except
``cli.app`` and ``cli.options``, which describe command lines and so need typer.
"""
