"""Train a run: load the data, train, evaluate once on the test split, write the run's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from anychannel.cost.profile import profile
from anychannel.data import ImageDataset, appearance
from anychannel.evaluation import Evaluation, choose_subsets, evaluate, fit_temperatures
from anychannel.models import Classifier, adapt, create_model, load_model
from anychannel.models.adapt import is_saved
from anychannel.models.saving import SOURCES_OF_WEIGHTS, describe_model
from anychannel.nn.stems import MaskedStem
from anychannel.results.run import FORMAT, RunError, read_record, warn_unfinished
from anychannel.runs.config import ConfigError, RunConfig, flatten
from anychannel.runs.data import describe_data, describe_fold, find_changes, load_data
from anychannel.runs.environment import command_line, describe_environment
from anychannel.runs.examples import FILE as EXAMPLES
from anychannel.runs.examples import collect_examples
from anychannel.runs.folder import acquire, fill_in_rate, prepare_folder
from anychannel.runs.overview import describe_start
from anychannel.tracking import Track, check_trackers, open_track
from anychannel.training import FitResult, fit
from anychannel.training.early_stopping import ALL_FIGURES
from anychannel.training.loss import check_distillation
from anychannel.training.metrics import plain_row
from anychannel.training.step_parts import check_missing_channels, training_sampler
from anychannel.utils.files import LOCK, remove_leftovers, write_atomically, write_json, write_text
from anychannel.utils.options import check_options
from anychannel.utils.processes import join, lost_processes_named, main_first, on_main, share
from anychannel.utils.progress import show_line
from anychannel.utils.seeds import seeded
from anychannel.utils.sizes import plain_size

NETWORK = (
    "model",
    "model_options",
    "stem",
    "stem_options",
    "norm",
    "channels",
    "num_classes",
    "classes",
    "checkpoint",
    "channel_sampling",
    "sampling_options",
    "sampling_seed",
)
"""Parameters of ``adapt`` that other settings give, so ``adapt_options`` may not."""


class RunStopped(Exception):  # noqa: N818  # not an error: the caller needs no more epochs
    """Raised by ``on_epoch`` to end a run early; the message gives the reason."""


def build_model(config: RunConfig, dataset: ImageDataset) -> Classifier:
    """Build the configured network for a data set's channels and classes. The weights depend on the run's seed."""
    all_at_once = config.norm == "auto" and config.training.sampler == "full"  # no subset needs separate statistics
    common: dict[str, Any] = {
        "channels": dataset.channels,
        "num_classes": len(dataset.classes),
        "stem": config.stem,
        "stem_options": config.stem_options,
        "model_options": config.model_options,
        "norm": "shared" if all_at_once else config.norm,
        "classes": dataset.classes,
    }
    if weights := sorted(set(config.model_options) & set(SOURCES_OF_WEIGHTS)):
        raise ConfigError(f"model_options.{weights[0]} is about weights; use --pretrained or --checkpoint FILE")
    with seeded(config.training.seed, 0):
        if not (config.pretrained or config.checkpoint or is_saved(config.model)):
            if config.adapt_options or config.source_channels:
                raise ConfigError(
                    "adapt_options and source_channels apply to trained weights; add --pretrained or --checkpoint FILE"
                )
            return create_model(config.model, **common)
        if config.pretrained and (config.checkpoint or is_saved(config.model)):
            holder = "checkpoint" if config.checkpoint else f"the run {config.model}"
            raise ConfigError(f"pretrained has no effect: {holder} has the weights; leave it out")
        check_options(adapt, config.adapt_options, "adapt_options.", reserved=NETWORK)
        chosen = {} if config.source_channels is None else {"source_channels": config.source_channels}
        adapted: Classifier = adapt(
            config.model, checkpoint=config.checkpoint, **common, **(config.adapt_options | chosen)
        )
        return adapted


def train_run(
    config: RunConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    cost: bool | None = None,
    split: str = "test",
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    allow_pipe: bool = False,
) -> Path:
    """Train a network, evaluate its best weights once, and write the run's folder.

    In a distributed program every process calls this. The processes train one network together. Only the main process
    reads and writes the folder, so the others, perhaps on other machines, need no access to it.

    Args:
        config: the settings.
        folder: folder for the run. It must be new or empty, unless ``resume`` is set.
        resume: continue an unfinished run of the same configuration. A finished run is left as it is, unless
            ``training.epochs`` is larger than before: then another cycle starts from its weights, see ``fit``.
        cache_dir: folder of the cache of decoded images.
        progress: show progress on standard error.
        cost: also measure FLOPs, memory and latency. None is True for a new run, and what it was started with for one
            that goes on.
        split: split to evaluate. ``val`` leaves the test images unread, for runs among which one is selected; it is
            also what data without a test split are evaluated on.
        on_epoch: called with the metrics of each epoch; may raise ``RunStopped``.
        allow_pipe: run the commands that ``config`` gives as ``wds:pipe:COMMAND``. The run does not record this.

    Returns:
        The folder.

    Raises:
        RunError: the folder holds another run, holds a run although ``resume`` is not set, or is in use by another
            process; or the data have changed since the run began.
        RunStopped: raised by ``on_epoch``; the status in ``run.json`` is ``stopped``.
        Interrupted: SIGINT or SIGTERM ended it; the status is ``interrupted``, and ``resume`` continues it.
        DataError, ConfigError, ValueError: the data or a setting cannot be used. Nothing has been written.
    """
    tuned = bool(config.pretrained or config.checkpoint or is_saved(config.model))
    device = join(config.training.device)
    home, given = Path(folder), config
    config = on_main(lambda: fill_in_rate(given, home, tuned=tuned))  # recorded as it is used
    on_main(lambda: check_trackers(config.track or ()))
    if not on_main(lambda: prepare_folder(config, home, resume)):
        return home
    every = replace(config, only_channels=None)
    whole = main_first(
        lambda: load_data(every, cache_dir=cache_dir, progress=progress and share().is_main, allow_pipe=allow_pipe)
    )
    if not on_main(lambda: "groups" in read_record(home) if (home / "run.json").is_file() else True):
        whole = replace(whole, channels=whole.channels.with_groups({}))  # resumed, of a version without groups
    dataset = whole if config.only_channels is None else whole.select(config.only_channels)
    split = split if len(dataset.test) else "val"
    on_main(lambda: check_data(config, home, dataset))
    model, teacher = main_first(lambda: prepare_networks(config, dataset))
    measure = cost if cost is not None else on_main(lambda: started_with_cost(home))
    run = describe_run(config, home, dataset, model)
    run |= {"cost": measure, "file_channels": list(whole.channels.names)}
    shown = progress and share().is_main
    starts = describe_start(config, given, home, dataset, model, device) if shown else []
    lock = FileLock(home / LOCK)
    try:
        on_main(lambda: open_folder(config, home, run, lock, resume=resume))
        for line in starts:
            show_line(line)
        with status_written(home, run), lost_processes_named(), tracked(config, home, run) as track:

            def log_epoch(row: dict[str, Any]) -> None:
                track.log_epoch(row)
                if on_epoch is not None:
                    on_epoch(row)

            result = fit(
                model,
                dataset.train,
                dataset.val,
                config.training,
                teacher=teacher,
                folder=home,
                resume=resume,
                progress=progress,
                on_epoch=log_epoch,
            )
            run |= summarise(result)
            best = load_model(home) if share().is_main else model  # fit left it with the same weights
            settings: dict[str, Any] = {
                "subsets": config.subsets,
                "device": str(device),
                "precision": config.training.precision,
                "progress": progress,
                "distributed": True,
            }
            if not dataset.has_several:
                fit_temperatures(best, dataset.val, **settings)
                on_main(lambda: write_json(home / "model.json", describe_model(best)))
            evaluation = evaluate(best, getattr(dataset, split), split=split, **settings)
            on_main(lambda: close_folder(config, home, dataset, evaluation, cost=measure, progress=progress))
            track.log_evaluation(evaluation, result.best_epoch)
    finally:
        lock.release()
    return home


@contextmanager
def status_written(home: Path, run: dict[str, Any]) -> Iterator[None]:
    """Write into ``run.json`` how the enclosed work ended."""
    try:
        yield
    except BaseException as error:
        if share().is_main:
            kinds = ((KeyboardInterrupt, "interrupted"), (RunStopped, "stopped"), (BaseException, "failed"))
            status = next(name for kind, name in kinds if isinstance(error, kind))
            with suppress(OSError):  # the original error matters more
                write_json(home / "run.json", run | {"status": status, "error": str(error)})
        raise
    on_main(lambda: write_json(home / "run.json", run | {"status": "finished"}))


@contextmanager
def tracked(config: RunConfig, home: Path, run: dict[str, Any]) -> Iterator[Track]:
    """Open the run's trackers in the main process. The other processes get none."""
    track = Track()

    def open_here() -> None:
        nonlocal track
        track = open_track(config.track or (), home, name=run["name"], settings=flatten(config.to_dict()))

    on_main(open_here)
    try:
        yield track
    except BaseException:
        track.close(finished=False)
        raise
    track.close(finished=True)


def started_with_cost(home: Path) -> bool:
    """Whether the run in a folder measures its cost; True for a new one."""
    return not (home / "run.json").is_file() or bool(read_record(home).get("cost", True))


def check_data(config: RunConfig, home: Path, dataset: ImageDataset) -> None:
    """Refuse to resume a run on other data."""
    changes = find_changes(read_record(home), dataset) if (home / "run.json").is_file() else []
    if changes:
        raise RunError(
            f"the data in {config.data} are not those that the run in {home} began with ({'; '.join(changes)}); "
            "restore them to continue the run, or start a new one with another --out"
        )


def prepare_networks(config: RunConfig, dataset: ImageDataset) -> tuple[Classifier, Classifier | None]:
    """Build the network and load its teacher, after checking all settings that depend on the data."""
    training = config.training
    training.watched(several=dataset.has_several)  # raises if the figure is not measured of these images
    training_sampler(training, dataset.channels)  # raises if an option does not fit
    warn_unfinished(*(path for path in (config.model, config.teacher) if path is not None and is_saved(path)))
    model = build_model(config, dataset)
    check_missing_channels(model, dataset.train, dataset.val)
    if config.subsets is not None:
        check_subsets(model, config.subsets)
    teacher = None if config.teacher is None else load_model(config.teacher)
    check_distillation(training, model, teacher, several=dataset.has_several)
    return model, teacher


def check_subsets(model: Classifier, subsets: Sequence[str]) -> None:
    """Refuse subsets on which the trained network could not be evaluated."""
    chosen, _, _ = choose_subsets(model.channels, subsets)
    if isinstance(model.stem, MaskedStem) and chosen != [model.channels.full]:
        raise ConfigError(
            f"the masked stem accepts only the channels that it is trained on, {', '.join(model.channels.names)}, but "
            f"subsets names {' / '.join(map(model.channels.key, chosen))}; leave subsets out, or choose another stem"
        )


def describe_run(config: RunConfig, home: Path, dataset: ImageDataset, model: Classifier) -> dict[str, Any]:
    """The entries of ``run.json`` that are known before training."""
    training = config.training
    return {
        "format": FORMAT,
        "name": config.name or home.resolve().name,
        "report_name": config.report_name,
        "model": model.spec.model,
        "stem": config.stem,
        "norm": model.spec.norm,
        "sampler": training.sampler,
        "dataset": dataset.name,
        **describe_data(dataset),
        **({"split": dataset.how} if dataset.how else {}),
        **({"several_labels": True} if dataset.has_several else {}),
        "class_counts": dataset.count_classes(),
        **describe_fold(config),
        "groups": {group: list(names) for group, names in dataset.channels.members.items()},
        **({"patterns": patterns} if (patterns := dataset.count_patterns()) else {}),
        **({"skipped": list(dataset.skipped)} if dataset.skipped else {}),
        **({"converted": dict(dataset.converted)} if dataset.converted else {}),
        "image_size": plain_size(dataset.image_size),
        "image_type": dataset.val.images.dtype.name,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "epochs_planned": training.epochs,
        "batch_size": training.batch_size,
        "augment": training.augment,
        "seed": training.seed,
        "processes": share().count,
        "status": "running",
    }


def open_folder(config: RunConfig, home: Path, run: dict[str, Any], lock: FileLock, *, resume: bool) -> None:
    """Lock the folder and write the files that are known before training."""
    home.mkdir(parents=True, exist_ok=True)
    acquire(lock, home)
    remove_leftovers(home)
    prepare_folder(config, home, resume, locked=True)
    write_text(home / "config.toml", config.to_toml())
    commands = home / "command.txt"  # one line for each start of the run
    earlier = commands.read_text(encoding="utf-8") if commands.is_file() else ""
    write_text(commands, earlier + command_line() + "\n")
    write_json(home / "environment.json", describe_environment(config.training.device, config.training.precision))
    write_json(home / "run.json", run)


def close_folder(
    config: RunConfig, home: Path, dataset: ImageDataset, evaluation: Evaluation, *, cost: bool, progress: bool
) -> None:
    """Write the evaluation, the example images, how the training images look, and the cost."""
    evaluation.save(home)
    split = getattr(dataset, evaluation.split)
    examples, pixels = collect_examples(split, dataset.channels.names, dataset.classes, evaluation)
    write_json(home / "examples.json", examples)
    (home / "gap.json").unlink(missing_ok=True)  # of earlier weights, if the run went on
    for file, array in ((EXAMPLES, pixels), (appearance.FILE, appearance.sample_appearance(dataset))):
        write_atomically(home / file, partial(np.save, arr=array, allow_pickle=False))
    if cost:
        batch_size, device = config.training.batch_size, config.training.device
        measured = profile(
            load_model(home),
            batch_size=batch_size,
            image_size=dataset.image_size,
            device=device,
            progress=progress,
        )
        write_json(home / "cost.json", measured)


def summarise(result: FitResult) -> dict[str, Any]:
    """The entries of ``run.json`` that are known after training."""
    best = next((row for row in result.rows if row["epoch"] == result.best_epoch), None)
    keys = {f"{kind}_{name}" for kind in ("train", "val") for name in ("loss", "exact_match", *ALL_FIGURES)}
    return {
        "epochs_run": len(result.rows),
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
        "settled": result.recomputed_statistics,
        "monitor": result.monitor,
        **({"timed_out": True} if result.timed_out else {}),
        **({"cycles": list(result.cycles)} if result.cycles else {}),
        "seconds": round(sum(row["seconds"] for row in result.rows), 1),
        "best": None if best is None else {key: value for key, value in plain_row(best).items() if key in keys},
    }
