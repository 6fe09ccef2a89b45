"""The classifier that users get: saved to and loaded from a folder or the Hugging Face Hub.

The folder holds ``model.json`` (how to rebuild the network), ``model.safetensors`` (its weights), ``README.md`` (the
model card) and ``config.json`` (a note that anychannel wrote the other files).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from huggingface_hub import EvalResult, ModelCard, ModelCardData, ModelHubMixin, snapshot_download
from torch import nn

from anychannel.models.head import replace_head
from anychannel.models.saving import BEST, WEIGHTS, read_model, save_model
from anychannel.nn.classifier import Classifier as TorchClassifier
from anychannel.utils.sizes import height_width


class Classifier(TorchClassifier, ModelHubMixin):
    """``nn.classifier.Classifier`` with ``save_pretrained``, ``from_pretrained`` and ``push_to_hub``.

    The model card describes the model. With ``model_card_kwargs``, which ``anychannel.card_facts`` reads from a run, it
    also describes the training and the accuracy on each subset.
    """

    _hub_mixin_config = {"library_name": "anychannel", "description": "model.json"}  # noqa: RUF012 - the mixin's own

    @classmethod
    def of(cls, model: TorchClassifier) -> Self:
        """The same network, not copied, with this class's methods."""
        made = cls(model.backbone)
        made.training = model.training
        return made

    def reset_classifier(self, num_classes: int, *, classes: Sequence[str] | None = None) -> None:
        """Replace the last layer, in place, by a fresh one for ``num_classes``, with the names ``classes`` or none."""
        if num_classes < 1 or (classes is not None and len(classes) != num_classes):
            raise ValueError(f"num_classes must be at least 1 and the number of classes' names, got {num_classes}")
        replace_head(self.backbone, num_classes, self.spec.num_classes)
        names = None if classes is None else tuple(classes)
        self.spec = replace(self.spec, num_classes=num_classes, classes=names, temperatures=None, thresholds=None)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write description and weights. The mixin's ``save_pretrained`` calls this."""
        save_model(self, save_directory, weights=WEIGHTS)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        force_download: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        revision: str | None = None,
        network: nn.Module | None = None,
        **model_kwargs: Any,
    ) -> Self:
        """Load a classifier, in evaluation mode, on the CPU.

        Args:
            pretrained_model_name_or_path: a folder that ``save_pretrained`` wrote, a run's folder, or the id of a
                repository on the hub, such as ``"user/name"``.
            force_download, token, cache_dir, local_files_only, revision: see ``huggingface_hub.snapshot_download``.
            network: a fresh network of your own class, if the model was adapted from one.
            model_kwargs: none are accepted; a model's options are part of its description.

        Raises:
            ModelFileError: a file is missing or damaged.
            ValueError: an option is unknown.
            huggingface_hub.errors.HfHubHTTPError: the hub refuses access.
            huggingface_hub.errors.LocalEntryNotFoundError: the hub cannot be reached and the model is not cached.
        """
        if model_kwargs:
            raise ValueError(
                f"from_pretrained takes no option {', '.join(model_kwargs)}; a model's options are part of model.json"
            )
        folder = Path(pretrained_model_name_or_path)
        if not folder.is_dir():
            folder = Path(
                snapshot_download(
                    str(pretrained_model_name_or_path),
                    revision=revision,
                    cache_dir=cache_dir,
                    token=token,
                    force_download=force_download,
                    local_files_only=local_files_only,
                    allow_patterns=["model.json", WEIGHTS, "config.json"],
                )
            )
        as_run = not (folder / WEIGHTS).is_file() and (folder / "weights").is_dir()
        return cls.of(read_model(folder, weights=BEST if as_run else WEIGHTS, network=network))

    def push_to_hub(self, repo_id: str, *, model_card_kwargs: dict[str, Any] | None = None, **options: Any) -> str:
        """Upload the model and its card as one commit.

        Args:
            repo_id: ``"user/name"``. The repository is created if it does not exist.
            model_card_kwargs: see ``generate_model_card``. ``anychannel.card_facts(run)`` returns them.
            options: see ``huggingface_hub.ModelHubMixin.push_to_hub``: ``private``, ``token``, ``commit_message``, ...

        Returns:
            The URL of the commit.

        Raises:
            huggingface_hub.errors.HfHubHTTPError: the hub refuses access, without a token or rights.
        """
        facts = {"repo_id": repo_id} | (model_card_kwargs or {})
        address: str = super().push_to_hub(repo_id, model_card_kwargs=facts, **options)
        return address

    def generate_model_card(self, **facts: Any) -> ModelCard:
        """Write the model card.

        Args:
            facts: facts that the model does not hold, all optional: ``name``, ``dataset``, ``image_size`` (one number
                or ``(height, width)``), ``evaluation`` (as in ``evaluation/test.json``), ``training`` (a flat
                dictionary of settings), ``num_train``, ``repo_id``, ``license`` (of the weights, a hub identifier).
        """
        evaluation = facts.get("evaluation")
        dataset = facts.get("dataset")
        name = facts.get("name") or f"{self.spec.model} with a {self.spec.stem} stem"
        results = None
        if evaluation and dataset:
            results = [
                EvalResult(
                    task_type="image-classification",
                    dataset_type=dataset,
                    dataset_name=dataset,
                    dataset_config=key,
                    dataset_split=evaluation["split"],
                    metric_type=metric,
                    metric_value=row[metric],
                )
                for key, row in evaluation["subsets"].items()
                for metric in ("accuracy", "mean_average_precision")
                if metric in row and "refused" not in row
            ]
        card_data = ModelCardData(
            library_name="anychannel",
            pipeline_tag="image-classification",
            tags=["channel-adaptive", "missing-channels", "pytorch"],
            license=facts.get("license"),
            model_name=name if results else None,
            eval_results=results,
        )
        template = files("anychannel.models").joinpath("card.md.j2").read_text(encoding="utf-8")
        size = facts.get("image_size")
        known = {
            "name": name,
            "image_size": None if size is None else height_width(size),
            "channels": self.channels,
            "spec": self.spec,
            "params": sum(parameter.numel() for parameter in self.parameters()),
        }
        card: ModelCard = ModelCard.from_template(card_data, template_str=template, **facts | known)
        return card
