"""Do a run: read the data, train, read the test split once, write everything down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from anychannel.cost import profile
from anychannel.data import ImageDataset, load_dataset
from anychannel.evaluation import Evaluation, choose_subsets, evaluate
from anychannel.models import Classifier, adapt, create_model, load_model
from anychannel.models.adapt import is_saved
from anychannel.nn.channel_sampling import create_sampler
from anychannel.nn.stems import MaskedStem
from anychannel.runs.config import ConfigError, RunConfig, flatten
from anychannel.runs.environment import describe_environment
from anychannel.runs.examples import collect_examples
from anychannel.runs.folder import RunError, append_command, prepare_folder, read_config, read_record, take
from anychannel.runs.own_data import describe_data, find_changes, point_at
from anychannel.tracking import Track, check_trackers, open_track
from anychannel.training import FitResult, fit
from anychannel.training.distillation import check_distillation
from anychannel.training.patterns import check_patterns
from anychannel.training.randomness import seeded
from anychannel.utils.files import LOCK, write_json, write_text
from anychannel.utils.processes import join, lost_processes_named, main_first, on_main, share
from anychannel.utils.sizes import plain_size


class RunStopped(Exception):  # noqa: N818  # no error: who is told of the epochs wants no more of them
    """Raised by ``on_epoch`` to end a run before its time; the message says why."""


def load_data(config: RunConfig, *, cache_dir: str | Path | None = None, progress: bool = False) -> ImageDataset:
    """The data set that a configuration names."""
    try:
        dataset = load_dataset(
            config.data,
            channels=config.channels,
            size=config.size,
            classes=config.classes,
            cache_dir=cache_dir,
            progress=progress,
            **config.data_options,
        )
    except TypeError as error:
        raise ConfigError(f"data_options are not what load_dataset takes: {error}") from error
    return dataset if config.only_channels is None else dataset.select(config.only_channels)


def build_model(config: RunConfig, dataset: ImageDataset) -> Classifier:
    """The network that a configuration names, with the data set's channels and classes, from the run's seed.

    Raises:
        ConfigError: options of ``adapt`` are unknown, or are given where no trained weights are.
    """
    full = config.norm == "auto" and config.training.sampler == "full"  # no subset will have statistics to keep
    common: dict[str, Any] = {
        "channels": dataset.channels,
        "num_classes": len(dataset.classes),
        "stem": config.stem,
        "stem_options": config.stem_options,
        "model_options": config.model_options,
        "norm": "shared" if full else config.norm,
        "classes": dataset.classes,
    }
    with seeded(config.training.seed, 0):
        if config.pretrained or config.checkpoint or is_saved(config.model):
            chosen = dict(config.adapt_options)
            if config.source_channels is not None:
                chosen["source_channels"] = config.source_channels
            try:
                return adapt(config.model, checkpoint=config.checkpoint, **common, **chosen)
            except TypeError as error:
                raise ConfigError(f"adapt_options are not what adapt takes: {error}") from error
        if config.adapt_options or config.source_channels:
            raise ConfigError(
                "adapt_options and source_channels are about trained weights; add --pretrained, or --checkpoint FILE"
            )
        return create_model(config.model, **common)


def train_run(
    config: RunConfig,
    folder: str | Path,
    *,
    resume: bool = False,
    cache_dir: str | Path | None = None,
    progress: bool = False,
    cost: bool = True,
    split: str = "test",
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train, evaluate on test once with the best weights, and write the run's folder.

    In a program that was started as several processes, each of them calls this: they train one network together, and
    the main one reads and writes the folder; the others, perhaps on other machines, need not see it.

    Args:
        config: what to run.
        folder: where; it must be new or empty, unless ``resume``.
        resume: go on with an unfinished run of the same configuration; a finished one is left as it is.
        cache_dir: where decoded images are kept.
        progress: show progress on standard error.
        cost: also measure FLOPs, memory and latency.
        split: the images that the finished network is evaluated on; ``val`` leaves the test images unread, for runs
            among which one is chosen.
        on_epoch: called with each epoch's row; may raise ``RunStopped``.

    Returns:
        The folder.

    Raises:
        RunError: the folder holds another run, or one that ``resume`` was not asked for, or one that another process
            is working on; or its data are not those that it began with.
        RunStopped: ``on_epoch`` did; ``run.json`` says ``stopped``.
        DataError, ConfigError, ValueError: data or a setting cannot be used; nothing has been written then.
    """
    device = join(config.training.device)
    home = Path(folder)
    on_main(lambda: check_trackers(config.track or ()))
    if not on_main(lambda: prepare_folder(config, home, resume)):
        return home
    dataset = main_first(lambda: load_data(config, cache_dir=cache_dir, progress=progress and share().is_main))
    on_main(lambda: check_data(config, home, dataset))
    model, teacher = main_first(lambda: prepare_networks(config, dataset))
    run = describe_run(config, home, dataset, model)
    lock = FileLock(home / LOCK)
    try:
        on_main(lambda: open_folder(config, home, run, lock, resume=resume))
        with status_written(home, run), lost_processes_named(), tracked(config, home, run) as track:

            def tell(row: dict[str, Any]) -> None:
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
                on_epoch=tell,
            )
            run |= summarise(result)
            best = load_model(home) if share().is_main else model  # fit left it with the same weights
            evaluation = read_split(config, best, dataset, split, device=str(device), progress=progress)
            on_main(lambda: close_folder(config, home, dataset, evaluation, cost=cost))
            track.log_evaluation(evaluation, result.best_epoch)
    finally:
        lock.release()
    return home


@contextmanager
def status_written(home: Path, run: dict[str, Any]) -> Iterator[None]:
    """Leave in ``run.json`` how the work inside ended."""
    try:
        yield
    except BaseException as error:
        if share().is_main:
            kinds = {KeyboardInterrupt: "interrupted", RunStopped: "stopped"}
            status = kinds.get(type(error), "failed")
            with suppress(OSError):  # what ended the work is what to tell
                write_json(home / "run.json", run | {"status": status, "error": str(error)})
        raise
    on_main(lambda: write_json(home / "run.json", run | {"status": "finished"}))


@contextmanager
def tracked(config: RunConfig, home: Path, run: dict[str, Any]) -> Iterator[Track]:
    """The run's trackers, in the main process; the others get none."""
    opened = [Track()]

    def open_here() -> None:
        opened[0] = open_track(config.track or (), home, name=run["name"], settings=flatten(config.to_dict()))

    on_main(open_here)
    finished = False
    try:
        yield opened[0]
        finished = True
    finally:
        opened[0].close(finished=finished)


def check_data(config: RunConfig, home: Path, dataset: ImageDataset) -> None:
    """Refuse to go on with a run on other data than it began with.

    Raises:
        RunError: says what has changed.
    """
    changes = find_changes(read_record(home), dataset) if (home / "run.json").is_file() else []
    if changes:
        raise RunError(
            f"the data in {config.data} are not those that the run in {home} began with ({'; '.join(changes)}); "
            "restore them to go on with it, or train anew with another --out"
        )


def prepare_networks(config: RunConfig, dataset: ImageDataset) -> tuple[Classifier, Classifier | None]:
    """The network to train and its teacher, once everything that is refused has been refused."""
    training = config.training
    create_sampler(training.sampler, len(dataset.channels), **training.sampler_options)
    model = build_model(config, dataset)
    check_patterns(model, dataset.train, dataset.val)
    if config.subsets is not None:
        check_subsets(model, config.subsets)
    teacher = None if config.teacher is None else load_model(config.teacher)
    check_distillation(training, model, teacher)
    return model, teacher


def check_subsets(model: Classifier, subsets: Sequence[str]) -> None:
    """Refuse subsets that the network could not be evaluated on once it is trained.

    Raises:
        ChannelError: none is named, or a channel is unknown or repeats within a subset.
        ConfigError: the stem will take all channels alone.
    """
    chosen, _, _ = choose_subsets(model.channels, subsets)
    if isinstance(model.stem, MaskedStem) and chosen != [model.channels.full]:
        raise ConfigError(
            f"the masked stem takes just the channels that it is trained on, {', '.join(model.channels.names)}, but "
            f"subsets names {' / '.join(map(model.channels.key, chosen))}; leave subsets out, or choose another stem"
        )


def describe_run(config: RunConfig, home: Path, dataset: ImageDataset, model: Classifier) -> dict[str, Any]:
    """What ``run.json`` says from the start."""
    training = config.training
    return {
        "name": config.name or home.resolve().name,
        "report_name": config.report_name,
        "model": model.spec.model,
        "stem": config.stem,
        "norm": model.spec.norm,
        "sampler": training.sampler,
        "dataset": dataset.name,
        **describe_data(dataset),
        **({"patterns": patterns} if (patterns := dataset.count_patterns()) else {}),
        "image_size": plain_size(dataset.image_size),
        "image_type": dataset.val.images.dtype.name,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "epochs_planned": training.epochs,
        "batch_size": training.batch_size,
        "seed": training.seed,
        "processes": share().count,
        "status": "running",
    }


def open_folder(config: RunConfig, home: Path, run: dict[str, Any], lock: FileLock, *, resume: bool) -> None:
    """Take the folder, unless another process was faster, and write what is known before training."""
    home.mkdir(parents=True, exist_ok=True)
    take(lock, home)
    prepare_folder(config, home, resume, held=True)
    write_text(home / "config.toml", config.to_toml())
    append_command(home)
    write_json(home / "environment.json", describe_environment(config.training.device, config.training.precision))
    write_json(home / "run.json", run)


def close_folder(
    config: RunConfig, home: Path, dataset: ImageDataset, evaluation: Evaluation, *, cost: bool = True
) -> None:
    """Write what is known after training."""
    evaluation.save(home)
    write_json(
        home / "examples.json",
        collect_examples(getattr(dataset, evaluation.split), dataset.channels.names, dataset.classes, evaluation),
    )
    if cost:
        write_json(home / "cost.json", measure_cost(config, home, dataset))


def summarise(result: FitResult) -> dict[str, Any]:
    """What ``run.json`` says about training."""
    best = next((row for row in result.rows if row["epoch"] == result.best_epoch), None)
    keys = ("train_accuracy", "train_loss", "val_accuracy", "val_loss")
    return {
        "epochs_run": len(result.rows),
        "best_epoch": result.best_epoch,
        "stopped_early": result.stopped_early,
        "settled": result.settled,
        "seconds": round(sum(row["seconds"] for row in result.rows), 1),
        "best": None if best is None else {key: best[key] for key in keys},
    }


def read_split(
    config: RunConfig, model: Classifier, dataset: ImageDataset, split: str, *, device: str, progress: bool = False
) -> Evaluation:
    """Evaluate a network on one split, of several processes each on its share."""
    return evaluate(
        model,
        getattr(dataset, split),
        subsets=config.subsets,
        device=device,
        precision=config.training.precision,
        progress=progress,
        split=split,
        distributed=True,
    )


def measure_cost(config: RunConfig, home: Path, dataset: ImageDataset) -> dict[str, Any]:
    """FLOPs, memory and latency of the saved network at the run's batch and image size."""
    return profile(
        load_model(home),
        batch_size=config.training.batch_size,
        image_size=dataset.image_size,
        device=config.training.device,
    )


def evaluate_run(
    folder: str | Path,
    *,
    subsets: Sequence[str] | None = None,
    split: str = "test",
    data: str | None = None,
    data_channels: str | Sequence[str] | None = None,
    allow_untrained: bool = False,
    save: bool = False,
    cache_dir: str | Path | None = None,
    progress: bool = False,
) -> Evaluation:
    """Evaluate a run's best weights again.

    Args:
        folder: the run's folder.
        subsets: channel subsets as ``"R,G"``; None takes the run's own choice.
        split: ``train``, ``val`` or ``test``.
        data: another folder with images of the same classes, whose channels are matched to the run's by name.
        data_channels: names of that folder's channels in its files' order; None takes its ``channels.txt``, else the
            run's names.
        allow_untrained: let a stem that knows one channel set try others.
        save: replace the evaluation in the run's folder.
        cache_dir, progress: as ``train_run``.

    Raises:
        RunError: the folder is not a run, the split is unknown, or the evaluation of data that are not the run's own
            was to be saved.
        ChannelError: a named subset has an unknown channel, or the stem refuses it.
        ValueError: the data's classes are not the run's, in the same order; or ``data_channels`` is given without
            ``data``.
    """
    if split not in ("train", "val", "test"):
        raise RunError(f"unknown split {split!r}; use train, val or test")
    config = read_config(folder)
    model = load_model(folder)
    stem = model.stem
    if allow_untrained and isinstance(stem, MaskedStem):
        stem.allow_untrained = True
    if data_channels is not None and data is None:
        raise RunError("data_channels names the channels of other data; give data too, or leave it out")
    read = config if data is None else point_at(config, data, data_channels)
    dataset = load_data(read, cache_dir=cache_dir, progress=progress)
    changes = find_changes(read_record(folder), dataset) if save else []
    if changes:
        raise RunError(
            f"the data in {read.data} are not the run's own ({'; '.join(changes)}), so their evaluation cannot "
            f"replace the one in {folder}; evaluate them without --save"
        )
    evaluation = evaluate(
        model,
        dataset,
        subsets=config.subsets if subsets is None else subsets,
        device=config.training.device,
        precision=config.training.precision,
        progress=progress,
        split=split,
    )
    if save:
        evaluation.save(folder)
    return evaluation
