"""Every distance in 60 digits, which share nothing with the tool."""

import mpmath
import numpy as np

DISTANCES = ("angle", "l1", "mean_abs", "rel_l1", "l2", "rel_l2", "max_abs", "changed")


def exact(a, b):
    """Every distance in 60 digits, by other formulas: the angle as an arccos, which 60 digits can afford."""
    with mpmath.workdps(60):
        a, b = ([mpmath.mpf(x) for x in np.asarray(t, np.float64).ravel().tolist()] for t in (a, b))
        n = len(a)
        d = [y - x for x, y in zip(a, b, strict=True)]
        l1, l2 = mpmath.fsum(map(abs, d)), mpmath.sqrt(mpmath.fsum(x * x for x in d))
        a1, a2, b2 = mpmath.fsum(map(abs, a)), mpmath.norm(a), mpmath.norm(b)
        cosine = mpmath.fdot(a, b) / (a2 * b2) if a2 and b2 else None
        return {
            "angle": None if cosine is None else mpmath.acos(max(-1, min(1, cosine))) / mpmath.pi,
            "l1": l1 / mpmath.sqrt(n),
            "mean_abs": l1 / n,
            "rel_l1": l1 / a1 if a1 else None,
            "l2": l2,
            "rel_l2": l2 / a2 if a2 else None,
            "max_abs": max(map(abs, d)),
            "changed": mpmath.mpf(sum(x != 0 for x in d)) / n,
        }  # fmt: skip
