"""Evaluate a finished run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from anychannel.data.sources.folders import read_names
from anychannel.evaluation import Evaluation, evaluate
from anychannel.models.saving import read_model
from anychannel.nn.stems import MaskedStem
from anychannel.results.run import RunError, read_record, warn_unfinished
from anychannel.runs.config import RunConfig
from anychannel.runs.data import find_changes, load_data
from anychannel.runs.folder import check_evaluation


def evaluate_run(
    folder: str | Path,
    *,
    subsets: Sequence[str] | None = None,
    by: str | None = None,
    tta: str | Sequence[str] | None = None,
    split: str | None = None,
    data: str | None = None,
    data_channels: str | Sequence[str] | None = None,
    allow_untrained: bool = False,
    allow_unfinished: bool = False,
    save: bool = False,
    cache_dir: str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Evaluate the best weights of a run.

    Args:
        folder: the run's folder.
        subsets: channel subsets as ``"R,G"``. None uses the run's own choice.
        by: ``groups`` or ``channels``, see ``evaluate``; not beside ``subsets``, and in place of the run's own choice.
        tta: test-time augmentation, as in ``evaluate``.
        split: ``train``, ``val`` or ``test``. None is ``test``, or ``val`` if the data have no test split.
        data: another folder with images of the same classes. Its channels are matched to the run's by name.
        data_channels: channel names of that folder in file order. None reads its ``channels.txt``, else uses the run's
            names.
        allow_untrained: let the masked stem try subsets that it was not trained on.
        allow_unfinished: read test images with the weights that a run which is not finished has so far. Otherwise this
            raises RunError.
        save: replace the evaluation in the run's folder. The data must be the run's own.
        cache_dir, progress: see ``train_run``.
    """
    if by is not None and subsets is not None:
        raise RunError("by chooses subsets where none are named; leave out by (--by), or the subsets (--channels)")
    config = check_evaluation(folder, split or "test", data, allow_unfinished=allow_unfinished)
    warn_unfinished(folder)
    model = read_model(folder, twin=True)
    if allow_untrained and isinstance(stem := model.stem, MaskedStem):
        stem.allow_untrained = True
    if data_channels is not None and data is None:
        raise RunError("data_channels names the channels of other data; give data too, or leave it out")
    read = config
    if data is not None:
        names = read_names(Path(data).expanduser() / "channels.txt") if data_channels is None else data_channels
        read = RunConfig.from_dict(config.to_dict() | {"data": data} | ({} if names is None else {"channels": names}))
    dataset = load_data(read, cache_dir=cache_dir, progress=progress)
    split = split or ("test" if len(dataset.test) else "val")
    changes = find_changes(read_record(folder), dataset) if save else []
    if changes:
        raise RunError(
            f"the data in {read.data} are not the run's own ({'; '.join(changes)}), so their evaluation cannot "
            f"replace the one in {folder}; evaluate them without --save"
        )
    evaluation = evaluate(
        model,
        dataset,
        subsets=config.subsets if subsets is None and by is None else subsets,
        by=by,
        tta=tta,
        device=config.training.device,
        precision=config.training.precision,
        progress=progress,
        split=split,
    )
    if save:
        evaluation.save(folder)
    return evaluation
