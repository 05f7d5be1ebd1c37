"""Multinomial logistic regression on standardised rows, fitted to a stated distance from its one answer.

What is minimised over weights W [D, people] and biases b is, with z_i a standardised row and y_i its person::

    F(W, b) = sum_i CE(W^T z_i + b, y_i) + |W|^2 / 2

which is what scikit-learn's ``make_pipeline(StandardScaler(), LogisticRegression())`` minimises. Less |W|^2 / 2 it is
still convex, so F has one minimum W*, and with the biases at their best for W::

    |W - W*| <= |dF/dW|

in Frobenius norms. A fit here ends by that bound, so it ends at the same answer wherever it starts. Without the bound
a start from another fit would be seen in the result: what those weights knew of photos that are no longer there fades
only by the L2 term, whose slope is thousands of times smaller than those that a fit usually stops by.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from _toolio.errors import ToolError

if TYPE_CHECKING:
    from torch import Tensor

Rows = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

TOLERANCE = 0.01
"""How far weights may be from the exact ones, all together; their norm is about 12 for 118 people. float32 can tell
down to 0.001; below that fits are computed in float64."""

LEVER = 10.0
"""What a bias is multiplied by, for a row: that makes errors of biases, which have no L2 term, as visible in the
gradient as those of weights. Where people are told apart well nothing else does."""

MOST_PRODUCTS = 800
"""Products with the Hessian after which Newton's method is given up: it has lost its way, and takes tens otherwise."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A fit, for rows as they are, not standardised.

    Attributes
    ----------
    weights, biases
        float64 [D, people], float64 [people].
    """

    weights: npt.NDArray[np.float64]
    biases: npt.NDArray[np.float64]

    def scores(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Score rows, float64 [n, people], the higher the likelier: ``rows @ weights + biases``."""
        import torch

        with one_thread():
            found = torch.from_numpy(rows).double() @ torch.from_numpy(self.weights)
            return (found + torch.from_numpy(self.biases)).numpy()


@dataclass(frozen=True)
class Axes:
    """Principal axes of standardised rows. Along them the Hessian is nearly diagonal, which is easy to invert.

    Attributes
    ----------
    turn
        float64 [D, D], an axis a column.
    spread
        float64 [D], the sum of squares along each.
    """

    turn: Tensor
    spread: Tensor


Slope: TypeAlias = "tuple[float, Tensor, Tensor]"
"""A function's value, its gradient, and the shares that its Hessian is made of."""


class Convex(Protocol):
    """A function of weights [D + 1, columns] that ``descend`` finds the minimum of."""

    def slope(self, weights: Tensor) -> Slope:
        """Give the value, the gradient, and the shares that ``bend`` asks for."""

    def bend(self, shares: Tensor, step: Tensor) -> Tensor:
        """Multiply the Hessian, where the shares are from, by a step."""

    def relax(self, slope: Tensor) -> Tensor:
        """Multiply by something like the Hessian's inverse: symmetric, positive, the same each time."""


class Problem:
    """F for some rows. The last of ``D + 1`` weights of a person is the bias / ``LEVER``.

    Parameters
    ----------
    train, labels, people
        float32 [n, D]; int [n], from 0 to ``people`` - 1.
    kind
        torch.float32 or torch.float64.
    axes
        To turn rows on to; None: their own. They make no difference to the answer.

    Attributes
    ----------
    stiffness
        [D + 1, people], about the Hessian's diagonal. It decides how fast the minimum is reached, not where that is.
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
        """Give F, its gradient, and the probability of each person for each row."""
        shares = (self.rows @ weights).log_softmax(1)
        shrunk = self.ridge * weights
        own = self.labels[:, None]
        loss = -shares.gather(1, own).double().sum() + (weights * shrunk).double().sum() / 2
        shares.exp_()
        surplus = shares.scatter_add(1, own, shares.new_full(own.shape, -1))
        return float(loss), (self.rows.T @ surplus).add_(shrunk), shares

    def bend(self, shares: Tensor, step: Tensor) -> Tensor:
        """Multiply the Hessian: Z^T (P * (U - sum(P * U))) + ridge * step, with U = Z step."""
        moved = (self.rows @ step).mul_(shares)
        moved.sub_(shares * moved.sum(1, keepdim=True))
        return (self.rows.T @ moved).add_(self.ridge * step)

    def relax(self, slope: Tensor) -> Tensor:
        """Divide by ``stiffness`` what people differ in; what they share has the L2 term for its Hessian, exactly."""
        soft = 1 / self.stiffness
        step = slope * soft
        step -= soft * (step.sum(1, keepdim=True) / soft.sum(1, keepdim=True))
        return step.add_(slope.mean(1, keepdim=True) * self.ridge)

    def diagonal(self, shares: Tensor) -> Tensor:
        """Give the Hessian's diagonal."""
        return (self.rows.square().T @ (shares * (1 - shares))).add_(self.ridge)

    def bias_step(self, slope: Tensor, shares: Tensor) -> Tensor:
        """Give Newton's step of the biases alone. Their Hessian is a graph's Laplacian: equal steps change nothing."""
        import torch

        shares = shares.double()
        hessian = torch.diag(shares.sum(0)) - shares.T @ shares + 1 / self.people
        step: Tensor = torch.linalg.lstsq(hessian, -slope[-1].double()[:, None] / LEVER).solution[:, 0]
        return (step - step.mean()).to(slope.dtype)

    def unstandardised(self, weights: Tensor) -> Weights:
        """Give weights for rows as they are."""
        weights = weights.double()
        scaled = self.axes.turn @ weights[:-1] / self.deviation[:, None]
        return Weights(scaled.numpy(), (weights[-1] * LEVER - self.mean @ scaled).numpy())


class Column:
    """F as a function of one person's weights only, the others' being kept: two dozen times less to compute."""

    def __init__(self, problem: Problem, weights: Tensor, person: int, stiffness: Tensor) -> None:
        self._problem, self._stiffness = problem, stiffness[:, person : person + 1]
        others = problem.rows @ weights
        others[:, person] = -float("inf")
        self._others = others.logsumexp(1, keepdim=True)
        self._own = (problem.labels == person).to(others.dtype)[:, None]

    def slope(self, weights: Tensor) -> Slope:
        """Give F less what is the same whatever the weights, its gradient, and the person's probability for rows."""
        import torch

        lead = self._problem.rows @ weights - self._others
        shrunk = self._problem.ridge * weights
        loss = (torch.nn.functional.softplus(lead) - self._own * lead).double().sum()
        shares = lead.sigmoid()
        slope = (self._problem.rows.T @ (shares - self._own)).add_(shrunk)
        return float(loss + (weights * shrunk).double().sum() / 2), slope, shares

    def bend(self, shares: Tensor, step: Tensor) -> Tensor:
        """Multiply the Hessian."""
        moved = (self._problem.rows @ step).mul_(shares * (1 - shares))
        return (self._problem.rows.T @ moved).add_(self._problem.ridge * step)

    def relax(self, slope: Tensor) -> Tensor:
        """Divide by the stiffness."""
        return slope / self._stiffness


def descend(convex: Convex, weights: Tensor, tolerance: float) -> tuple[Tensor, Slope]:
    """Go to where the gradient's norm is ``tolerance`` by Newton's method, or as far as it leads.

    Each step is found with conjugate gradients, exactly enough to be worth it. The slope at the end is given back with
    the weights.
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
            # The loss may not tell a small step from none, its slope along the step can.
            if rising <= -0.5 * falling and there[0] <= loss + 1e-6 * max(loss, 1.0):
                break
            length /= 4
        else:
            break
        weights, (loss, slope, shares) = weights + length * step, there
    return weights, (loss, slope, shares)


def _newton_step(convex: Convex, slope: Tensor, shares: Tensor, goal: float) -> tuple[Tensor, int]:
    """Solve Hessian @ step = -slope by preconditioned conjugate gradients until the rest's norm is ``goal``."""
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


def settle(problem: Problem, weights: Tensor, tolerance: float) -> Tensor | None:
    """Go on from some weights until they are ``tolerance`` from the exact ones by the bound; None if that fails.

    Weights that are there already are returned as they are.
    """
    for _ in range(3):
        weights, (_, slope, shares) = descend(problem, weights, tolerance)
        if not float(slope.norm()) <= tolerance:
            return None
        # The bound is for biases at their best, and where rows are told apart well the slope hardly shows if they are.
        step = problem.bias_step(slope, shares)
        if float(step.abs().max()) <= tolerance:
            return weights
        weights = weights.clone()
        weights[-1] += step / LEVER
    return None


def fit_cold(train: Rows, labels: Labels, people: int, tolerance: float = TOLERANCE) -> tuple[Problem, Tensor]:
    """Fit from zero weights.

    Parameters
    ----------
    train, labels, people
        As for ``Problem``.
    tolerance
        |W - W*| at most.

    Returns
    -------
    The problem, with the Hessian's diagonal at the end for its ``stiffness``, and its weights.

    Raises
    ------
    ToolError
        The tolerance could not be reached.
    """
    import torch

    kinds = [torch.float32] * (tolerance >= 1e-3) + [torch.float64]
    for kind in kinds:
        problem = Problem(train, labels, people, kind)
        weights = _roughly(problem, 3e-6 if kind is torch.float32 else 1e-9)
        problem.stiffness = problem.diagonal(problem.slope(weights)[2])
        settled = settle(problem, weights, tolerance)
        if settled is not None:
            return problem, settled
    raise ToolError(f"the linear classifier could not be fitted to within {tolerance:g}", kind="no-fit")


def _roughly(problem: Problem, tolerance: float, most_steps: int = 2000) -> Tensor:
    """Descend from zero with L-BFGS, which no start can lead astray, in steps of the size that ``stiffness`` tells."""
    import torch

    scale, count = problem.stiffness[:, :1].sqrt(), len(problem.rows)
    scaled = torch.zeros_like(problem.stiffness)

    def objective() -> Any:
        loss, slope, _ = problem.slope(scaled / scale)
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
    optimizer.step(objective)  # type: ignore[no-untyped-call]
    return scaled / scale


class Refits:
    """A fit, and fits to the same rows with those of one person replaced.

    A fit to replaced rows starts from the first one, with the person's own weights found anew on their new rows, and
    is let go by the bound only, so that it is as near to a cold fit as any two fits are.

    Parameters
    ----------
    train, labels, people
        As for ``Problem``.
    """

    def __init__(self, train: Rows, labels: Labels, people: int) -> None:
        self._people = people
        with one_thread():
            self._problem, self._weights = fit_cold(train, labels, people)

    def first(self) -> Weights:
        """Give the fit to the first rows."""
        return self._problem.unstandardised(self._weights)

    def replaced(self, person: int, train: Rows, labels: Labels) -> Weights:
        """Fit to other rows: those of all people but that one are the first ones."""
        with one_thread():
            problem = Problem(train, labels, self._people, self._problem.rows.dtype, self._problem.axes)
            problem.stiffness = self._problem.stiffness
            weights = self._weights
            if not float(problem.slope(weights)[1].norm()) <= TOLERANCE:
                weights = _with_own(problem, weights, person)
            settled = settle(problem, weights, TOLERANCE)
            if settled is None:
                problem, settled = fit_cold(train, labels, self._people)
            return problem.unstandardised(settled)


def _with_own(problem: Problem, weights: Tensor, person: int) -> Tensor:
    """Find one person's weights from zero, the others' being kept; then move all so that their mean is zero again."""
    column = Column(problem, weights, person, problem.stiffness)
    weights = weights.clone()
    weights[:, person : person + 1] = descend(column, weights.new_zeros(len(weights), 1), 0.05)[0]
    return weights - weights.mean(1, keepdim=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread, which gives the same bits on every machine.

    More would wait for each other: where something else is on the cores, products this small take ten times as long.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
