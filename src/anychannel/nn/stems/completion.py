"""Linear completion: every missing channel replaced by its best linear estimate, folded into the kernel.

With the channels' covariance C over the training pixels, the best linear estimate of all channels from those of a
subset S is x_hat = M_S x_S with M_S = C[:, S] C[S, S]^-1 (the conditional mean of a Gaussian). A convolution of the
completed image is a convolution of the present channels with the kernel W_S = W M_S, so completion costs nothing: no
parameters, no further arithmetic, one static convolution over the channels that are there.

Where images are normalised with statistics other than the data's own, as a pretrained network wants it, the channels'
means mu are not zero; the estimate is then x_hat = mu + M_S (x_S - mu_S), and its constant part W (mu - M_S mu_S) joins
the bias. The padding around an image is completed like the rest of it.

Kin: Smieja et al., "Processing of missing data by neural networks", NeurIPS 2018, and Przewiezlikowski et al.,
"MisConv: Convolutional Neural Networks for Missing Data", WACV 2022, which integrate over missing pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.module_utils import HALF
from anychannel.nn.stems.base import ConvGeometry
from anychannel.nn.stems.static import StaticStem
from anychannel.nn.stems.table import every_subset, label

RESIDUALS = ("none", "missing", "subset")
MOST_SOLVED = 4096
"""Subsets whose completion matrices are kept."""


def completion_matrix(covariance: Tensor, subset: Subset, ridge: float) -> Tensor:
    """M_S = C[:, S] (C[S, S] + ridge * mean variance * I)^-1, of shape (C, k); rows of present channels are exact.

    Args:
        covariance: (C, C), symmetric, positive semi-definite, in normalised units.
        subset: the k present channels.
        ridge: share of the mean variance added to the diagonal, so that channels that repeat each other stay solvable.

    Raises:
        ValueError: the present channels' covariance is singular, and the ridge is 0.
    """
    present = list(subset)
    covariance = covariance.to(torch.promote_types(covariance.dtype, torch.float32))  # no solver takes half precision
    block = covariance[present][:, present]
    diagonal = ridge * block.diagonal().mean() * torch.eye(len(present), dtype=block.dtype, device=block.device)
    try:
        estimate = torch.linalg.solve(block + diagonal, covariance[present]).T
    except RuntimeError as error:
        raise ValueError(
            f"the covariance of channels {', '.join(map(str, present))} is singular, so that none of them can be "
            f"estimated from with ridge={ridge:g}; give a ridge above 0 (1e-4 by default)"
        ) from error
    exact = torch.zeros_like(estimate)
    exact[present, range(len(present))] = 1
    is_present = torch.zeros(len(covariance), 1, dtype=torch.bool, device=block.device)
    is_present[present] = True
    return torch.where(is_present, exact, estimate)


def swept_matrix(covariance: Tensor, present: Tensor, ridge: float) -> Tensor:
    """``completion_matrix`` of the channels marked in ``present``, in tensor operations alone.

    Sweeping a covariance matrix on the present channels leaves the regression of the missing ones on them (Beaton 1964;
    Goodnight, "A Tutorial on the SWEEP Operator", The American Statistician 33, 1979). Sweeping on channel k, with c
    its column and d its pivot, is A - (c - e_k)(c - e_k)^T / d - 2 e_k e_k^T, here switched off where k is missing. In
    float64, since the pivots of channels that repeat each other are as small as the ridge.

    Args:
        covariance: (C, C), symmetric, positive semi-definite.
        present: (C,) ones and zeros.
        ridge: see ``completion_matrix``.

    Returns:
        (C, C) float64: M_S in the present channels' columns, zeros in the others.
    """
    present, covariance = present.double(), covariance.double()
    units = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    swept = covariance + units * (ridge * (covariance.diagonal() * present).sum() / present.sum())
    for channel, unit in enumerate(units):
        column = swept[:, channel] - unit
        change = torch.outer(column, column) / swept[channel, channel] + 2 * torch.outer(unit, unit)
        swept = swept - present[channel] * change
    return torch.where(present[:, None] > 0, units, swept) * present


def total(bias: Tensor | None, added: Sequence[Tensor]) -> Tensor | None:
    """A bias and what is added to it; None where there is nothing."""
    terms = [*([] if bias is None else [bias]), *added]
    return functools.reduce(torch.add, terms) if terms else None


class CompletionStem(StaticStem):
    """A plain convolution whose kernel for a subset is W M_S; on the full set exactly ``nn.Conv2d``.

    Args:
        in_chans, out_chans, geometry, bias: see ``Stem``.
        correlation: (C, C) correlation of the channels over the training pixels, which is their covariance after
            normalisation; None starts from independent channels, which is ``static``. Where images are not normalised
            to unit variance, the covariance itself.
        offset: (C,) mean of the normalised channels; None where it is zero.
        ridge: see ``completion_matrix``.
        learn_covariance: learn the covariance with the network, as L L^T with L a full matrix that starts at its
            square root.
        residual: ``none``, or a learned correction of the kernel that starts at zero. ``missing``: one for each pair of
            a missing and a present channel, summed over the missing ones; (C, C) pairs whatever the subsets.
            ``subset``: one for each subset, of at most eight channels.
        presence: learn a bias for each channel, zero at the start, that is added where the channel is missing, so that
            the network can tell which channels it is given. A batch norm with statistics for each subset takes it away
            again.

    Raises:
        ValueError: the correlation is not a symmetric (C, C) matrix, or an option is out of range.
    """

    uses_correlation: ClassVar[bool] = True

    def __init__(
        self,
        in_chans: int,
        out_chans: int,
        geometry: ConvGeometry,
        bias: bool = False,
        *,
        correlation: Sequence[Sequence[float]] | None = None,
        offset: Sequence[float] | None = None,
        ridge: float = 1e-4,
        learn_covariance: bool = False,
        residual: str = "none",
        presence: bool = False,
    ) -> None:
        super().__init__(in_chans, out_chans, geometry, bias)
        if residual not in RESIDUALS:
            raise ValueError(f"unknown residual {residual!r}; use one of {', '.join(RESIDUALS)}")
        if ridge < 0:
            raise ValueError(f"ridge must not be negative, got {ridge}")
        self.ridge = ridge
        self.learn_covariance = learn_covariance
        measured = self.check_correlation(correlation)
        self.root: nn.Parameter | None = None
        self.covariance: Tensor
        if learn_covariance:
            values, vectors = torch.linalg.eigh(measured)
            self.root = nn.Parameter(vectors * values.clamp(min=1e-6).sqrt())
        else:
            self.register_buffer("covariance", measured)
        self.solved: dict[Subset, tuple[Tensor, int, Tensor]] = {}
        self.residual = nn.Parameter(torch.zeros(in_chans, *self.weight.shape)) if residual == "missing" else None
        self.residuals = self.zeros_by_subset() if residual == "subset" else None
        self.presence = nn.Parameter(torch.zeros(in_chans, out_chans)) if presence else None
        if offset is not None and len(offset) != in_chans:
            raise ValueError(f"offset needs one value for each of the {in_chans} channels, got {len(offset)}")
        self.offset: Tensor
        values = [0.0] * in_chans if offset is None else list(offset)
        self.register_buffer("offset", torch.tensor(values, dtype=torch.float32))
        self.has_offset = any(values)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move with the model, but keep a learned covariance in float32, as buffers are.

        A missing channel's estimate is a difference of large numbers where channels repeat each other: of eight bands
        with a correlation of 0.997, rounded to bfloat16, it takes three times one and minus three times another.
        """
        exact = None if self.root is None else self.root.detach()
        super()._apply(fn, recurse)
        if self.root is not None and exact is not None and self.root.dtype in HALF:
            self.root.data = exact.to(self.root.device)
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.has_offset = bool(self.offset.any())

    def zeros_by_subset(self) -> nn.ParameterDict:
        """A kernel of zeros for each subset but the full set.

        Raises:
            ValueError: there are too many subsets.
        """
        _full, *subsets = every_subset(self.in_chans, "residual 'subset'", "residual 'missing'")
        out, _, *edges = self.weight.shape
        return nn.ParameterDict({label(subset): torch.zeros(out, len(subset), *edges) for subset in subsets})

    def check_correlation(self, correlation: Sequence[Sequence[float]] | Tensor | None) -> Tensor:
        """The correlation as a float32 matrix."""
        if correlation is None:
            return torch.eye(self.in_chans)
        matrix = torch.as_tensor(correlation, dtype=torch.float32).detach().cpu().clone()
        if matrix.shape != (self.in_chans, self.in_chans) or not torch.allclose(matrix, matrix.T, atol=1e-5):
            raise ValueError(
                f"correlation must be a symmetric {self.in_chans} x {self.in_chans} matrix, got shape "
                f"{tuple(matrix.shape)}"
            )
        return matrix

    def matrix(self, subset: Subset) -> Tensor:
        """M_S of shape (C, k); with a measured covariance it is solved for once, and again when that changes."""
        if self.root is not None:
            return completion_matrix(self.root @ self.root.T, subset, self.ridge).to(self.weight.dtype)
        measured, dtype = self.covariance, self.weight.dtype
        if type(measured) is not Tensor or measured.is_inference() or torch.compiler.is_compiling():
            return completion_matrix(measured, subset, self.ridge).to(dtype)
        known, version, matrix = self.solved.get(subset, (None, 0, measured))
        if known is not measured or version != measured._version or matrix.dtype != dtype:
            with torch.inference_mode(mode=False), torch.no_grad():  # a later training may use it
                matrix = completion_matrix(measured, subset, self.ridge).to(dtype)
            if len(self.solved) >= MOST_SOLVED:
                self.solved.clear()
            self.solved[subset] = (measured, measured._version, matrix)
        return matrix

    def kernel(self, subset: Subset) -> Tensor:
        """W_S of shape (out, k, kh, kw), in float32 whatever autocast says."""
        if len(subset) == self.in_chans:
            return self.weight
        present = list(subset)
        with torch.autocast(self.weight.device.type, enabled=False):
            kernel = torch.einsum("ocyx,ck->okyx", self.weight, self.matrix(subset))
            if self.residual is not None:
                missing = [position for position in range(self.in_chans) if position not in subset]
                kernel = kernel + self.residual[missing][:, :, present].sum(0)
            if self.residuals is not None:
                kernel = kernel + self.residuals[label(subset)]
        return kernel

    def bias_for(self, subset: Subset) -> Tensor | None:
        """The bias, the constant part of the missing channels' estimates, and what tells that they are missing."""
        if len(subset) == self.in_chans:
            return self.bias
        added = []
        with torch.autocast(self.weight.device.type, enabled=False):
            if self.has_offset:
                offset = self.offset.to(self.weight.dtype)
                constant = offset - self.matrix(subset) @ offset[list(subset)]
                added.append(self.weight.sum((2, 3)) @ constant)
            if self.presence is not None:
                missing = [position for position in range(self.in_chans) if position not in subset]
                added.append(self.presence[missing].sum(0))
        return total(self.bias, added)

    def matrix_where(self, present: Tensor) -> Tensor:
        """M_S with zero columns for the missing channels, (C, C)."""
        covariance = self.covariance if self.root is None else self.root @ self.root.T
        return swept_matrix(covariance, present, self.ridge).to(self.weight.dtype)

    def bias_where(self, present: Tensor) -> Tensor | None:
        """As ``bias_for``."""
        added = []
        if self.has_offset:
            offset = self.offset.to(self.weight.dtype)
            added.append(self.weight.sum((2, 3)) @ (offset - self.matrix_where(present) @ offset))
        if self.presence is not None:
            added.append((1 - present) @ self.presence)
        return total(self.bias, added)

    def kernel_where(self, present: Tensor) -> Tensor:
        """W_S with zeros for the missing channels."""
        kernel = torch.einsum("ocyx,ck->okyx", self.weight, self.matrix_where(present))
        if self.residual is not None:
            kernel = kernel + torch.einsum("mocyx,m->ocyx", self.residual, 1 - present) * present[:, None, None]
        for name, residual in ({} if self.residuals is None else self.residuals).items():
            subset = [int(position) for position in name.split("_")]
            others = [position for position in range(self.in_chans) if position not in subset]
            is_this = present[subset].prod() * (1 - present[others]).prod()
            kernel = kernel.index_add(1, torch.tensor(subset, device=kernel.device), is_this * residual)
        return kernel
