"""Linear completion: each missing channel is replaced by its best linear estimate, folded into the kernel.

With the channels' covariance C over the training pixels, the best linear estimate of all channels from those of a
subset S is x_hat = M_S x_S with M_S = C[:, S] C[S, S]^-1 (the conditional mean of a Gaussian). A convolution of the
completed image is a convolution of the present channels with the kernel W_S = W M_S. So completion adds no parameters,
and an image costs one static convolution of its present channels.

If images are normalised with other statistics than the data's, as for a pretrained network, the channels' means mu are
not zero. The estimate is then x_hat = mu + M_S (x_S - mu_S), and its constant part W (mu - M_S mu_S) joins the bias.
The padding around an image is completed like the rest of it.

One channel says nothing about colour, and its best linear estimate of the others tints the whole image: dark parts
towards the mean's colour, bright parts away from it. A network of photographs has seen grey images, and few of one
tint. With ``grey_single`` a channel on its own is copied to the missing ones that resemble it, in the files' units.

Kin: Smieja et al., "Processing of missing data by neural networks", NeurIPS 2018, and Przewiezlikowski et al.,
"MisConv: Convolutional Neural Networks for Missing Data", WACV 2022, which integrate over missing pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from anychannel.channels import Subset
from anychannel.nn.module_utils import HALF
from anychannel.nn.stems.base import StemShape
from anychannel.nn.stems.static import StaticStem, every_subset
from anychannel.nn.subset_batchnorm import by_subset

RESIDUALS = ("none", "missing", "subset")
MOST_SOLVED = 4096
"""Number of subsets whose completion matrices are kept."""


def completion_matrix(covariance: Tensor, subset: Subset, ridge: float) -> Tensor:
    """M_S = C[:, S] (C[S, S] + ridge * mean variance * I)^-1, of shape (C, k); rows of present channels are exact.

    ``covariance`` (C, C) is symmetric and positive semi-definite, in normalised units. The ridge keeps channels that
    repeat each other solvable.
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
    float64, since the pivots of channels that repeat each other are as small as the ridge. The result (C, C) is M_S in
    the present channels' columns and zero in the others.
    """
    present, covariance = present.double(), covariance.double()
    units = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
    swept = covariance + units * (ridge * (covariance.diagonal() * present).sum() / present.sum())
    for channel, unit in enumerate(units):
        column = swept[:, channel] - unit
        change = torch.outer(column, column) / swept[channel, channel] + 2 * torch.outer(unit, unit)
        swept = swept - present[channel] * change
    return torch.where(present[:, None] > 0, units, swept) * present


def add(bias: Tensor | None, value: Tensor) -> Tensor:
    """The sum of a bias, if there is one, and a value."""
    return value if bias is None else bias + value


class CompletionStem(StaticStem):
    """A plain convolution whose kernel for a subset is W M_S; on the full set exactly ``nn.Conv2d``.

    Args:
        correlation: (C, C) covariance of the normalised channels over the training pixels: their correlation, if
            images are normalised to unit variance. None means independent channels, which makes it ``static``.
        offset: (C,) mean of the normalised channels; None means zero.
        ridge: share of the mean variance that is added to the covariance's diagonal.
        learn_covariance: learn the covariance with the network, as L L^T with a full matrix L.
        residual: ``none``, or a learned correction of the kernel that starts at zero: ``missing`` has one for each pair
            of a missing and a present channel, ``subset`` one for each subset of at most eight channels.
        levels: (2, C) the normalised values of 0 and the normalised size of 1, in the files' units; None means unknown.
        grey_single: copy a channel that is present alone to the missing channels that resemble it (see
            ``resembling``), in place of their estimates. Those that do not are estimated.
        presence: learn a bias for each channel that is added if the channel is missing, so that the network knows
            which channels it gets. A batch norm with statistics for each subset cancels it.
    """

    uses_correlation: ClassVar[bool] = True

    def __init__(
        self,
        shape: StemShape,
        *,
        correlation: Sequence[Sequence[float]] | None = None,
        offset: Sequence[float] | None = None,
        levels: Sequence[Sequence[float]] | None = None,
        ridge: float = 1e-4,
        learn_covariance: bool = False,
        residual: str = "none",
        presence: bool = False,
        grey_single: bool = False,
    ) -> None:
        super().__init__(shape)
        if residual not in RESIDUALS:
            raise ValueError(f"unknown residual {residual!r}; use one of {', '.join(RESIDUALS)}")
        if ridge < 0:
            raise ValueError(f"ridge must not be negative, got {ridge}")
        self.ridge = ridge
        self.covariance: Tensor
        self.offset: Tensor
        self.root = nn.Parameter(torch.zeros(self.in_chans, self.in_chans)) if learn_covariance else None
        if not learn_covariance:
            self.register_buffer("covariance", torch.eye(self.in_chans))
        self.register_buffer("offset", torch.zeros(self.in_chans))
        self.levels: Tensor
        self.grey_single = grey_single
        if grey_single:
            self.register_buffer("levels", torch.zeros(2, self.in_chans))
        self.measure(correlation, offset, levels)
        self.solved: dict[Subset, tuple[Tensor, int, Tensor]] = {}
        self.residual = nn.Parameter(torch.zeros(self.in_chans, *self.weight.shape)) if residual == "missing" else None
        self.residuals: nn.ParameterDict | None = None
        if residual == "subset":
            _full, *subsets = every_subset(self.in_chans, "residual 'subset'", "residual 'missing'")
            shapes = {by_subset(each): (self.out_chans, len(each), *self.geometry.kernel_size) for each in subsets}
            self.residuals = nn.ParameterDict({name: torch.zeros(size) for name, size in shapes.items()})
        self.presence = nn.Parameter(torch.zeros(self.in_chans, self.out_chans)) if presence else None

    @torch.no_grad()
    def measure(
        self,
        correlation: Sequence[Sequence[float]] | None,
        offset: Sequence[float] | None,
        levels: Sequence[Sequence[float]] | None = None,
    ) -> None:
        measured = self.check_correlation(correlation)
        if offset is not None and len(offset) != self.in_chans:
            raise ValueError(f"offset needs one value for each of the {self.in_chans} channels, got {len(offset)}")
        if self.root is not None:
            values, vectors = torch.linalg.eigh(measured)
            self.root.copy_(vectors * values.clamp(min=1e-6).sqrt())
        else:
            self.covariance.copy_(measured)
        self.offset.copy_(torch.tensor([0.0] * self.in_chans if offset is None else list(offset)))
        if self.grey_single:
            self.levels.copy_(torch.zeros(2, self.in_chans) if levels is None else torch.tensor(levels))
        self.find_constants()

    def find_constants(self) -> None:
        """Note whether estimates have a constant part, which need not be added if it is zero."""
        self.has_offset = bool(self.offset.any()) or (self.grey_single and bool(self.levels[0].any()))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # a learned covariance stays in float32, as buffers do: rounded to bfloat16, eight bands with a correlation of
        # 0.997 have estimates such as three times one band minus three times another
        exact = None if self.root is None else self.root.detach()
        super()._apply(fn, recurse)
        if self.root is not None and exact is not None and self.root.dtype in HALF:
            self.root.data = exact.to(self.root.device)
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.find_constants()

    def no_weight_decay(self) -> set[str]:
        return {"presence"}

    def check_correlation(self, correlation: Sequence[Sequence[float]] | Tensor | None) -> Tensor:
        """The correlation as a float32 matrix."""
        count = self.in_chans
        if correlation is None:
            return torch.eye(count)
        matrix = torch.as_tensor(correlation, dtype=torch.float32).detach().cpu().clone()
        if matrix.shape != (count, count) or not torch.allclose(matrix, matrix.T, atol=1e-5):
            raise ValueError(
                f"correlation must be a symmetric {count} x {count} matrix, got shape {tuple(matrix.shape)}"
            )
        return matrix

    def resembling(self, covariance: Tensor) -> Tensor:
        """(C, C): whether row's channel may be a copy of column's, for channels that measure alike in one unit.

        Their means differ by at most half a standard deviation, their standard deviations by at most half, and each
        explains at least half of the other's variance.
        """
        zero, step = self.levels.to(covariance.dtype)
        deviation = covariance.diagonal().sqrt()
        correlation = covariance / (deviation[:, None] * deviation)
        known = step > 0
        scale = torch.where(known, step, torch.ones_like(step))
        mean, spread = (self.offset.to(covariance.dtype) - zero) / scale, deviation / scale
        smaller = torch.minimum(spread[:, None], spread)
        near = (mean[:, None] - mean).abs() <= 0.5 * smaller
        alike = torch.maximum(spread[:, None], spread) <= 1.5 * smaller
        found: Tensor = near & alike & (correlation >= 0.5**0.5) & known
        return found

    def solve(self, covariance: Tensor, subset: Subset) -> Tensor:
        """M_S of shape (C, k)."""
        matrix = completion_matrix(covariance, subset, self.ridge)
        if self.grey_single and len(subset) == 1:
            step = self.levels[1].to(matrix)
            copied = (step / step[subset[0]])[:, None]
            matrix = torch.where(self.resembling(covariance)[:, list(subset)], copied, matrix)
        return matrix.to(self.weight.dtype)

    def matrix(self, subset: Subset) -> Tensor:
        """M_S of shape (C, k); a measured covariance is solved once, and again when it changes."""
        if self.root is not None:
            return self.solve(self.current_covariance(), subset)
        measured, dtype = self.covariance, self.weight.dtype
        if torch.compiler.is_compiling() or type(measured) is not Tensor or measured.is_inference():
            return self.solve(measured, subset)
        known, version, matrix = self.solved.get(subset, (None, 0, measured))
        if known is not measured or version != measured._version or matrix.dtype != dtype:
            with torch.inference_mode(mode=False), torch.no_grad():  # training may use it later
                matrix = self.solve(measured, subset)
            if len(self.solved) >= MOST_SOLVED:
                self.solved.clear()
            self.solved[subset] = (measured, measured._version, matrix)
        return matrix

    @property
    def estimates(self) -> bool:
        return super().estimates and self.residual is None and self.residuals is None

    def estimate(self, subset: Subset) -> Tensor:
        return super().estimate(subset) if len(subset) == self.in_chans else self.matrix(subset)

    def estimate_where(self, present: Tensor) -> Tensor:
        return self.matrix_where(present)

    def kernel(self, subset: Subset) -> Tensor:
        """W_S of shape (out, k, kh, kw), in float32 even under autocast."""
        if len(subset) == self.in_chans:
            return self.weight
        present = list(subset)
        with torch.autocast(self.weight.device.type, enabled=False):
            kernel = torch.einsum("ocyx,ck->okyx", self.weight, self.matrix(subset))
            if self.residual is not None:
                missing = [position for position in range(self.in_chans) if position not in subset]
                kernel = kernel + self.residual[missing][:, :, present].sum(0)
            if self.residuals is not None:
                kernel = kernel + self.residuals[by_subset(subset)]
        return kernel

    def bias_for(self, subset: Subset) -> Tensor | None:
        """The bias, the constant part of the missing channels' estimates, and ``presence``."""
        bias: Tensor | None = self.bias
        if len(subset) == self.in_chans:
            return bias
        with torch.autocast(self.weight.device.type, enabled=False):
            if self.has_offset:
                matrix, present = self.matrix(subset), list(subset)
                offset = self.offset.to(self.weight.dtype)
                constant = offset - matrix @ offset[present]
                if self.grey_single and len(subset) == 1:
                    zero = self.levels[0].to(matrix)
                    copied = self.resembling(self.current_covariance())[:, present[0]]
                    constant = torch.where(copied, zero - matrix @ zero[present], constant)
                bias = add(bias, self.weight.sum((2, 3)) @ constant)
            if self.presence is not None:
                missing = [position for position in range(self.in_chans) if position not in subset]
                bias = add(bias, self.presence[missing].sum(0))
        return bias

    def current_covariance(self) -> Tensor:
        """The covariance (C, C), measured or learned."""
        return self.covariance if self.root is None else self.root @ self.root.T

    def copied_where(self, present: Tensor) -> Tensor:
        """(C,): which channels are copies of the only present one."""
        return (self.resembling(self.current_covariance()).to(present.dtype) @ present * (present.sum() == 1)) > 0

    def matrix_where(self, present: Tensor) -> Tensor:
        """M_S with zero columns for the missing channels, (C, C)."""
        matrix = swept_matrix(self.current_covariance(), present, self.ridge)
        if self.grey_single:
            step = self.levels[1].to(matrix)
            safe = torch.where(step > 0, step, torch.ones_like(step))
            matrix = torch.where(self.copied_where(present)[:, None], safe[:, None] / safe * present, matrix)
        return matrix.to(self.weight.dtype)

    def bias_where(self, present: Tensor) -> Tensor | None:
        bias: Tensor | None = self.bias
        if self.has_offset:
            matrix, offset = self.matrix_where(present), self.offset.to(self.weight.dtype)
            constant = offset - matrix @ offset
            if self.grey_single:
                zero = self.levels[0].to(matrix)
                constant = torch.where(self.copied_where(present), zero - matrix @ zero, constant)
            bias = add(bias, self.weight.sum((2, 3)) @ constant)
        if self.presence is not None:
            bias = add(bias, (1 - present) @ self.presence)
        return bias

    def kernel_where(self, present: Tensor) -> Tensor:
        kernel = torch.einsum("ocyx,ck->okyx", self.weight, self.matrix_where(present))
        if self.residual is not None:
            kernel = kernel + torch.einsum("mocyx,m->ocyx", self.residual, 1 - present) * present[:, None, None]
        for name, residual in ({} if self.residuals is None else self.residuals).items():
            subset = [int(position) for position in name.split("_")]
            others = [position for position in range(self.in_chans) if position not in subset]
            is_this = present[subset].prod() * (1 - present[others]).prod()
            kernel = kernel.index_add(1, torch.tensor(subset, device=kernel.device), is_this * residual)
        return kernel
