"""Classification heads used only during fine-tuning: softmax and ArcFace."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

NAMES = ("softmax", "arcface")


class Head(nn.Module):
    """A head initialised from the mean embedding of each class, so that the first steps do not undo the network.

    Parameters
    ----------
    embeddings
        float32 [n, D] of the network that will be tuned.
    labels
        int [n], 0 to ``people`` - 1; each occurs.
    people
        P.

    Attributes
    ----------
    centre
        float32 [D], the mean embedding. It is most of an embedding for some networks (two people's embeddings by dlib
        have a cosine of 0.8 or so) and separates nobody from anybody.
    """

    centre: Tensor

    def __init__(self, embeddings: Tensor, labels: Tensor, people: int) -> None:
        super().__init__()
        self.register_buffer("centre", embeddings.mean(0))
        sums = torch.zeros(people, embeddings.shape[1], device=embeddings.device).index_add_(0, labels, embeddings)
        self.means = sums / labels.bincount(minlength=people)[:, None] - self.centre  # [P, D]

    def scores(self, embeddings: Tensor) -> Tensor:
        """Return class scores [B, P] of float32 [B, D] embeddings, higher is likelier."""
        raise NotImplementedError

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each face, [B]."""
        return F.cross_entropy(self.scores(embeddings), labels, reduction="none")


class Softmax(Head):
    """A linear layer and cross-entropy, as in arXiv 2106.14851; initialised as the nearest-mean classifier.

    With z an embedding less the mean one in units of their root mean square length, and c_y a person's mean z, scores
    begin as ``-sharpness / 2 |z - c_y|^2`` less what all share.
    """

    SHARPNESS = 16.0

    def __init__(self, embeddings: Tensor, labels: Tensor, people: int) -> None:
        super().__init__(embeddings, labels, people)
        length = (embeddings - self.centre).square().sum(1).mean().sqrt().clamp(min=1e-12)
        self.register_buffer("length", length)
        means = self.means / length
        self.weight = nn.Parameter(self.SHARPNESS * means)
        self.bias = nn.Parameter(-self.SHARPNESS / 2 * means.square().sum(1))

    def scores(self, embeddings: Tensor) -> Tensor:
        """Return class scores [B, P] of float32 [B, D] embeddings."""
        return F.linear((embeddings - self.centre) / self.get_buffer("length"), self.weight, self.bias)


class ArcFace(Head):
    """Additive angular margin (Deng et al. 2019, arXiv 1801.07698, eq. 3): CE of ``s cos(angle + m [own person])``.

    Angles are those of embeddings less the mean one; s = 64 and m = 0.5 as in the paper.
    """

    SCALE, MARGIN = 64.0, 0.5

    def __init__(self, embeddings: Tensor, labels: Tensor, people: int) -> None:
        super().__init__(embeddings, labels, people)
        self.weight = nn.Parameter(F.normalize(self.means))

    def scores(self, embeddings: Tensor) -> Tensor:
        """Return class scores [B, P] of float32 [B, D] embeddings, without the margin."""
        return self.SCALE * self._cosines(embeddings)

    def _cosines(self, embeddings: Tensor) -> Tensor:
        return F.linear(F.normalize(embeddings - self.centre), F.normalize(self.weight))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of each face, [B]."""
        cosines = self._cosines(embeddings)
        own = cosines.gather(1, labels[:, None]).clamp(-1 + 1e-6, 1 - 1e-6)
        narrower = torch.cos(own.acos() + self.MARGIN)
        # Past pi - m the cosine would rise again: go on with a straight line instead, as the authors' code does.
        narrower = torch.where(
            own > math.cos(math.pi - self.MARGIN), narrower, own - self.MARGIN * math.sin(self.MARGIN)
        )
        return F.cross_entropy(self.SCALE * cosines.scatter(1, labels[:, None], narrower), labels, reduction="none")


def make_head(name: str, embeddings: Tensor, labels: Tensor, people: int) -> Head:
    """Return a new head by its name, one of ``NAMES``."""
    return (ArcFace if name == "arcface" else Softmax)(embeddings, labels, people)
