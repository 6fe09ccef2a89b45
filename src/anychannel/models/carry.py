"""Batch norm statistics of subsets, brought along when a classifier gets other channels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from anychannel.nn.bn_statistics import add_entries
from anychannel.nn.classifier import Classifier
from anychannel.nn.subset_batchnorm import NORMS, SubsetBatchNorm, by_subset


@torch.no_grad()
def carry_norms(old: Classifier, new: Classifier, known: Sequence[int | None]) -> None:
    """Give subsets the statistics that they have in the classifier that ``new`` was made of, in place.

    A subset with channels that ``old`` does not know takes those of its known ones, where every subset of ``new`` has
    statistics of its own; otherwise it shares, as a subset of unknown channels alone does.

    Args:
        old: nothing is brought along unless its subsets have statistics of their own, and nothing else for themselves.
        new: has the same batch norms, and norm ``shared`` or ``statistics``.
        known: for each channel of ``new`` its position in ``old``, or None.
    """
    banks = {path: module for path, module in old.backbone.named_modules() if isinstance(module, SubsetBatchNorm)}
    if not banks or not all(bank.tied for bank in banks.values()):
        return
    names = next(iter(banks.values())).entries
    places = {position: i for i, position in enumerate(known) if position is not None}
    sources = {}
    for name in names:
        before = [int(position) for position in name.split("_")]
        if all(position in places for position in before):
            sources[by_subset(tuple(sorted(places[position] for position in before)))] = name
    if NORMS[new.spec.norm].own_statistics:
        for subset in new.channels.subsets():
            part = by_subset(tuple(sorted(position for i in subset if (position := known[i]) is not None)))
            if part in names:
                sources[by_subset(subset)] = part
    sources.pop(by_subset(new.channels.full), None)
    if not sources:
        return
    add_entries(new, list(sources))
    for path, bank in banks.items():
        mine = new.backbone.get_submodule(path)
        assert isinstance(mine, SubsetBatchNorm)
        for name, source in sources.items():
            for key, value in bank.entries[source].named_buffers():
                mine.entries[name].get_buffer(key).copy_(value)
