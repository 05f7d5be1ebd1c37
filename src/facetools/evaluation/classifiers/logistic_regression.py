"""Multinomial logistic regression on standardised rows, fitted to a stated distance from its unique minimum.

The objective over weights W [D, people] and biases b is, with z_i a standardised row and y_i its person::

    F(W, b) = sum_i CE(W^T z_i + b, y_i) + |W|^2 / 2

which is what scikit-learn's ``make_pipeline(StandardScaler(), LogisticRegression())`` minimises. Less |W|^2 / 2 it is
still convex, so F has one minimum W*, and with the biases at their best for W::

    |W - W*| <= |dF/dW|

in Frobenius norms. A fit here stops by that bound, so it reaches the same minimum from any start. Without the bound
a warm start would be seen in the result: what the weights learned of photos that are no longer there decays only by
the L2 term, whose gradient is thousands of times smaller than usual stopping tolerances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from _toolio.compute.device import one_thread
from _toolio.errors import ToolError

if TYPE_CHECKING:
    from torch import Tensor

Rows = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

TOLERANCE = 0.01
"""Frobenius distance of weights from the exact ones, at most; their norm is about 12 for 118 people. float32 resolves
0.001; below that fits are computed in float64."""

LEVER = 10.0
"""Factor of the bias in a row: errors of biases, which have no L2 term, become as visible in the gradient as those of
weights. Where people are well separated nothing else shows them."""

MOST_PRODUCTS = 800
"""Hessian products after which Newton's method is abandoned: it does not converge; otherwise it takes tens."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A fit, for rows that are not standardised.

    Attributes
    ----------
    weights, biases
        float64 [D, people], float64 [people].
    """

    weights: npt.NDArray[np.float64]
    biases: npt.NDArray[np.float64]

    def scores(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Return scores of rows, float64 [n, people], the higher the likelier: ``rows @ weights + biases``."""
        import torch

        with one_thread():
            found = torch.from_numpy(rows).double() @ torch.from_numpy(self.weights)
            return (found + torch.from_numpy(self.biases)).numpy()


@dataclass(frozen=True)
class Axes:
    """Principal axes of standardised rows, along which the Hessian is nearly diagonal and easy to invert.

    Attributes
    ----------
    turn
        float64 [D, D], one axis a column.
    spread
        float64 [D], the sum of squares along each.
    """

    turn: Tensor
    spread: Tensor


Slope: TypeAlias = "tuple[float, Tensor, Tensor]"
"""A function's value, its gradient, and the probabilities that determine its Hessian."""


class Convex(Protocol):
    """A function of weights [D + 1, columns] that ``descend`` finds the minimum of."""

    def slope(self, weights: Tensor) -> Slope:
        """Return the value, the gradient, and the probabilities that ``bend`` takes."""

    def bend(self, shares: Tensor, step: Tensor) -> Tensor:
        """Return the product of a step and the Hessian at these probabilities."""

    def relax(self, slope: Tensor) -> Tensor:
        """Return the preconditioned gradient: an approximate inverse Hessian, symmetric, positive and constant."""


class Objective:
    """The objective F for some rows. The last of ``D + 1`` weights of a person is the bias / ``LEVER``.

    Parameters
    ----------
    train, labels, people
        float32 [n, D]; int [n], from 0 to ``people`` - 1.
    kind
        torch.float32 or torch.float64.
    axes
        Axes to rotate rows to; None: their own. They do not change the minimum.

    Attributes
    ----------
    stiffness
        [D + 1, people], about the Hessian's diagonal. It changes how fast the minimum is reached, not where it is.
    """

    def __init__(self, train: Rows, labels: Labels, people: int, kind: Any, axes: Axes | None = None) -> None:
        import torch

        exact = torch.from_numpy(train).double()
        self.mean, self.deviation = exact.mean(0), exact.std(0, correction=0)
        flat = 10 * torch.finfo(torch.float32).eps * self.mean.abs().clamp(min=1e-30)
        self.deviation[self.deviation < flat] = 1.0
        exact.sub_(self.mean).div_(self.deviation)
        self.axes = axes or Axes(*torch.linalg.eigh(exact.T @ exact)[::-1])
        count, width = exact.shape
        self.rows = torch.full((count, width + 1), LEVER, dtype=kind)
        self.rows[:, :width] = exact.to(kind) @ self.axes.turn.to(kind)
        self.labels, self.people = torch.from_numpy(labels), people
        self.ridge = torch.ones(width + 1, 1, dtype=kind)
        self.ridge[width] = 0
        # The Hessian's diagonal is spread / people + 1 at zero weights, and has hundreds of times less of the spread at
        # the end; L-BFGS takes a third more steps with either end of the way.
        spread = torch.ones(width + 1, 1, dtype=kind) * LEVER**2 * count
        spread[:width, 0] = self.axes.spread.clamp(min=0)
        self.stiffness = (spread * (0.1 / people) + 1).repeat(1, people)

    def slope(self, weights: Tensor) -> Slope:
        """Return F, its gradient, and the probability of each person for each row."""
        shares = (self.rows @ weights).log_softmax(1)
        shrunk = self.ridge * weights
        own = self.labels[:, None]
        loss = -shares.gather(1, own).double().sum() + (weights * shrunk).double().sum() / 2
        shares.exp_()
        surplus = shares.scatter_add(1, own, shares.new_full(own.shape, -1))
        return float(loss), (self.rows.T @ surplus).add_(shrunk), shares

    def bend(self, shares: Tensor, step: Tensor) -> Tensor:
        """Return the Hessian product: Z^T (P * (U - sum(P * U))) + ridge * step, with U = Z step."""
        moved = (self.rows @ step).mul_(shares)
        moved.sub_(shares * moved.sum(1, keepdim=True))
        return (self.rows.T @ moved).add_(self.ridge * step)

    def relax(self, slope: Tensor) -> Tensor:
        """Divide by ``stiffness`` where people differ; of their mean the Hessian is the L2 term, exactly."""
        soft = 1 / self.stiffness
        step = slope * soft
        step -= soft * (step.sum(1, keepdim=True) / soft.sum(1, keepdim=True))
        return step.add_(slope.mean(1, keepdim=True) * self.ridge)

    def diagonal(self, shares: Tensor) -> Tensor:
        """Return the Hessian's diagonal."""
        return (self.rows.square().T @ (shares * (1 - shares))).add_(self.ridge)

    def bias_step(self, slope: Tensor, shares: Tensor) -> Tensor:
        """Return Newton's step of the biases; their Hessian is a graph Laplacian, so equal steps change nothing."""
        import torch

        shares = shares.double()
        hessian = torch.diag(shares.sum(0)) - shares.T @ shares + 1 / self.people
        step: Tensor = torch.linalg.lstsq(hessian, -slope[-1].double()[:, None] / LEVER).solution[:, 0]
        return (step - step.mean()).to(slope.dtype)

    def unstandardised(self, weights: Tensor) -> Weights:
        """Return weights for rows that are not standardised."""
        weights = weights.double()
        scaled = self.axes.turn @ weights[:-1] / self.deviation[:, None]
        return Weights(scaled.numpy(), (weights[-1] * LEVER - self.mean @ scaled).numpy())


class Column:
    """F as a function of one person's weights, the others fixed: about 24 times less to compute."""

    def __init__(self, objective: Objective, weights: Tensor, person: int, stiffness: Tensor) -> None:
        self._objective, self._stiffness = objective, stiffness[:, person : person + 1]
        others = objective.rows @ weights
        others[:, person] = -float("inf")
        self._others = others.logsumexp(1, keepdim=True)
        self._own = (objective.labels == person).to(others.dtype)[:, None]

    def slope(self, weights: Tensor) -> Slope:
        """Return F up to a constant, its gradient, and the person's probability for each row."""
        import torch

        lead = self._objective.rows @ weights - self._others
        shrunk = self._objective.ridge * weights
        loss = (torch.nn.functional.softplus(lead) - self._own * lead).double().sum()
        shares = lead.sigmoid()
        slope = (self._objective.rows.T @ (shares - self._own)).add_(shrunk)
        return float(loss + (weights * shrunk).double().sum() / 2), slope, shares

    def bend(self, shares: Tensor, step: Tensor) -> Tensor:
        """Return the Hessian product."""
        moved = (self._objective.rows @ step).mul_(shares * (1 - shares))
        return (self._objective.rows.T @ moved).add_(self._objective.ridge * step)

    def relax(self, slope: Tensor) -> Tensor:
        """Divide by the stiffness."""
        return slope / self._stiffness


def descend(convex: Convex, weights: Tensor, tolerance: float) -> tuple[Tensor, Slope]:
    """Minimise by Newton's method until the gradient's norm is ``tolerance``, or as far as it converges.

    Steps are inexact, by conjugate gradients. Returned are the weights and the slope there.
    """
    loss, slope, shares = convex.slope(weights)
    products = 0
    while (norm := float(slope.norm())) > tolerance and products < MOST_PRODUCTS:
        goal = max(0.5 * tolerance, min(0.2, 0.3 * norm**0.5) * norm)
        step, used = _newton_step(convex, slope, shares, goal)
        products += used
        falling, length = float((slope * step).sum()), 1.0
        for _ in range(20):
            there = convex.slope(weights + length * step)
            rising = float((there[1] * step).sum())
            # The loss may not resolve a small step, its slope along the step does.
            if rising <= -0.5 * falling and there[0] <= loss + 1e-6 * max(loss, 1.0):
                break
            length /= 4
        else:
            break
        weights, (loss, slope, shares) = weights + length * step, there
    return weights, (loss, slope, shares)


def _newton_step(convex: Convex, slope: Tensor, shares: Tensor, goal: float) -> tuple[Tensor, int]:
    """Solve Hessian @ step = -slope by preconditioned conjugate gradients until the residual's norm is ``goal``."""
    rest = -slope
    step, way = rest.new_zeros(rest.shape), convex.relax(rest)
    size, used = float((rest * way).sum()), 0
    while used < MOST_PRODUCTS:
        bent = convex.bend(shares, way)
        used += 1
        if not (curvature := float((way * bent).sum())) > 0:
            break  # rounding: there is nothing left to go by
        length = size / curvature
        step.add_(way, alpha=length)
        rest.sub_(bent, alpha=length)
        if not float(rest.norm()) > goal:
            break
        relaxed = convex.relax(rest)
        size, before = float((rest * relaxed).sum()), size
        way = relaxed.add_(way, alpha=size / before)
    return step, used


def settle(objective: Objective, weights: Tensor, tolerance: float) -> Tensor | None:
    """Refine weights until the bound puts them within ``tolerance`` of the exact ones; return None if that fails.

    Weights that are so already are returned as they are.
    """
    for _ in range(3):
        weights, (_, slope, shares) = descend(objective, weights, tolerance)
        if not float(slope.norm()) <= tolerance:
            return None
        # The bound holds for optimal biases, and where rows are well separated the slope hardly shows if they are.
        step = objective.bias_step(slope, shares)
        if float(step.abs().max()) <= tolerance:
            return weights
        weights = weights.clone()
        weights[-1] += step / LEVER
    return None


def fit_cold(train: Rows, labels: Labels, people: int, tolerance: float = TOLERANCE) -> tuple[Objective, Tensor]:
    """Fit from zero weights (cold start).

    Parameters
    ----------
    train, labels, people
        As for ``Objective``.
    tolerance
        |W - W*| at most.

    Returns
    -------
    objective, weights
        The objective, with the Hessian's diagonal at the end for its ``stiffness``, and [D + 1, people].

    Raises
    ------
    ToolError
        The tolerance could not be reached.
    """
    import torch

    kinds = [torch.float32] * (tolerance >= 1e-3) + [torch.float64]
    for kind in kinds:
        objective = Objective(train, labels, people, kind)
        weights = _roughly(objective, 3e-6 if kind is torch.float32 else 1e-9)
        objective.stiffness = objective.diagonal(objective.slope(weights)[2])
        settled = settle(objective, weights, tolerance)
        if settled is not None:
            return objective, settled
    raise ToolError(f"the linear classifier could not be fitted to within {tolerance:g}", kind="no-fit")


def _roughly(objective: Objective, tolerance: float, most_steps: int = 2000) -> Tensor:
    """Minimise from zero with L-BFGS, which converges from any start, scaled by ``stiffness``."""
    import torch

    scale, count = objective.stiffness[:, :1].sqrt(), len(objective.rows)
    scaled = torch.zeros_like(objective.stiffness)

    def closure() -> Any:
        loss, slope, _ = objective.slope(scaled / scale)
        scaled.grad = slope.div_(scale * count)
        return loss / count

    optimizer = torch.optim.LBFGS(
        [scaled],
        max_iter=most_steps,
        max_eval=2 * most_steps,
        tolerance_grad=tolerance,
        tolerance_change=0,
        history_size=20,
        line_search_fn="strong_wolfe",
    )
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return scaled / scale


class Refits:
    """A fit, and warm-started fits to the same rows with those of one person replaced.

    A refit starts from the first fit, with the person's own weights fitted to their new rows, and stops by the bound
    only, so that it is as close to a cold fit as any two fits are.

    Parameters
    ----------
    train, labels, people
        As for ``Objective``.
    """

    def __init__(self, train: Rows, labels: Labels, people: int) -> None:
        self._people = people
        with one_thread():
            self._objective, self._weights = fit_cold(train, labels, people)

    def first(self) -> Weights:
        """Return the fit to the first rows."""
        return self._objective.unstandardised(self._weights)

    def replaced(self, person: int, train: Rows, labels: Labels) -> Weights:
        """Return the fit to rows in which only that person's differ from the first ones."""
        with one_thread():
            objective = Objective(train, labels, self._people, self._objective.rows.dtype, self._objective.axes)
            objective.stiffness = self._objective.stiffness
            weights = self._weights
            if not float(objective.slope(weights)[1].norm()) <= TOLERANCE:
                weights = _with_own(objective, weights, person)
            settled = settle(objective, weights, TOLERANCE)
            if settled is None:
                objective, settled = fit_cold(train, labels, self._people)
            return objective.unstandardised(settled)


def _with_own(objective: Objective, weights: Tensor, person: int) -> Tensor:
    """Fit one person's weights from zero, the others fixed; then shift all so that their mean is zero again."""
    column = Column(objective, weights, person, objective.stiffness)
    weights = weights.clone()
    weights[:, person : person + 1] = descend(column, weights.new_zeros(len(weights), 1), 0.05)[0]
    return weights - weights.mean(1, keepdim=True)
