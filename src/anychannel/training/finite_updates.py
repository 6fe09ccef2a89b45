"""Skip steps whose loss, gradients or batch norm statistics are not finite.

A flag on the device decides whether a step's update happens. The host reads it one step late, so it does not wait.
After several skipped steps in a row, training continues in float32; if that does not help, it ends with an error. All
processes get the same flag, since loss, gradients and statistics are summed over all of them first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from anychannel.training.bn_statistics import batch_norms
from anychannel.utils.hardware import start_reading
from anychannel.utils.plurals import plural

IN_A_ROW = 3
"""Number of skipped steps in a row that changes the precision or ends the training; an epoch's steps if fewer."""


class TrainingError(RuntimeError):
    """Training cannot continue; the message says where and what to try."""


class FiniteUpdates:
    """Applies an optimiser's updates if they are finite, and counts how many in a row are not.

    A skipped step restores the running statistics of the model's batch norms. The optimiser is ``fused``, so it reads
    the flag on the device. Training begins in ``precision``, ``bf16`` or ``fp32``, with ``steps`` steps an epoch.
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, *, precision: str, steps: int) -> None:
        self.optimizer = optimizer
        self.precision = precision
        self.most = min(IN_A_ROW, steps)
        self.tried = [precision]
        self.first: str | None = None
        self.skipped = torch.zeros((), dtype=torch.int64, device=next(model.parameters()).device)
        self.statistics = [
            value for norm in batch_norms(model) for value in norm.buffers(recurse=False) if value.is_floating_point()
        ]
        self.sizes = [value.numel() for value in self.statistics]
        self.streak = torch.zeros_like(self.skipped)
        self.unread: tuple[Callable[[], int], Callable[[], str]] | None = None
        self.kept = flatten(self.statistics, like=self.streak)

    @torch.no_grad()
    def step(self, *figures: Tensor) -> Tensor:
        """Update the weights if running statistics and ``figures`` are finite; return the flag, a () boolean."""
        found = flatten(self.statistics, like=self.streak)
        usable = torch.stack([figure.isfinite().all() for figure in (found, *figures)]).all()
        self.kept = torch.where(usable, found, self.kept)
        if self.statistics:
            torch._foreach_copy_(self.statistics, torch.split(self.kept, self.sizes))
        self.optimizer.found_inf = (~usable).float()  # type: ignore[attr-defined]  # what torch's GradScaler sets
        self.optimizer.step()
        self.skipped = self.skipped + ~usable
        self.streak = torch.where(usable, 0, self.streak + 1)
        return usable

    def follow(self, where: Callable[[], str]) -> None:
        """Check the step before this one; ``where`` describes this step, in case it was skipped.

        After several skipped steps in a row, switch to float32 with a warning; in float32, raise TrainingError.
        """
        self.look()
        self.unread = start_reading(self.streak), where

    def look(self) -> None:
        """Check the last step unless that was done."""
        if self.unread is None:
            return
        (read, where), self.unread = self.unread, None
        streak = read()
        if streak:
            self.first = self.first or where()
        if streak < self.most:
            return
        if self.precision == "fp32":
            raise TrainingError(
                f"loss or gradients were not finite in {plural(streak, 'step')} in a row, computed in "
                f"{' and then in '.join(self.tried)}; the last was {where()}; no weight was changed by them; lower lr, "
                "set clip_norm, or check these images"
            )
        self.precision = "fp32"
        self.tried.append("fp32")
        self.streak = torch.zeros_like(self.streak)
        warnings.warn(
            f"loss or gradients were not finite in {plural(streak, 'step')} in a row, computed in bf16; the last was "
            f"{where()}; training goes on in fp32",
            stacklevel=2,
        )

    def close_epoch(self, epoch: int, *, quiet: bool = False) -> int:
        """Return how many of an epoch's steps were skipped, with a warning if any was (not if ``quiet``)."""
        skipped = int(self.skipped)
        if skipped and not quiet:
            warnings.warn(
                f"epoch {epoch + 1}: {plural(skipped, 'step')} skipped, because loss or gradients were not finite; the "
                f"first was {self.first}",
                stacklevel=3,
            )
        self.first = None
        self.skipped = torch.zeros_like(self.skipped)
        return skipped

    def state_dict(self) -> dict[str, Any]:
        """What ``load_state_dict`` restores."""
        unread = None if self.unread is None else self.unread[1]()
        counts = {"streak": int(self.streak), "skipped": int(self.skipped)}
        return {"tried": self.tried, **counts, "first": self.first, "unread": unread}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a saved state, after the model's."""
        self.tried, self.first = list(state["tried"]), state["first"]
        self.precision = self.tried[-1]
        self.streak.fill_(state["streak"])
        self.skipped.fill_(state["skipped"])
        if state["unread"] is not None:
            self.unread = start_reading(self.streak), lambda: str(state["unread"])
        self.kept = flatten(self.statistics, like=self.streak)


def flatten(values: list[Tensor], *, like: Tensor) -> Tensor:
    """All values in one dimension, a copy on the device of ``like``."""
    return torch.cat([like.new_zeros(0, dtype=torch.float32), *(value.flatten() for value in values)])
