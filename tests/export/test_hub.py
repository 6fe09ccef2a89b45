"""Models in folders and on a hub, through huggingface_hub's own client."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

import anychannel as ac
from anychannel.channels import ChannelSet
from anychannel.evaluation import load_evaluation
from anychannel.export import check_hub_folder
from anychannel.models import ModelFileError
from anychannel.models.saving import WEIGHTS, save_weights
from anychannel.results.run import RunError
from tests.helpers.export_networks import Tiny, pixels, tiny
from tests.helpers.fake_hub import SHA, TOKEN, fake_hub
from tests.helpers.program import export


@pytest.fixture(scope="module")
def folder(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("hub") / "photos-hub"
    done = export(run, "--format", "hub", "--out", out, "--check", "--json")
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["files"] == ["README.md", "config.json", "model.json", "model.safetensors"]
    assert (answer["check"]["largest_difference"], answer["check"]["subsets"]) == (0.0, 7)
    return out


def table(card: str, heading: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    section = card.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    block = re.search(r"(^\|.*\n)+", section, re.MULTILINE)
    assert block is not None
    assert block.group().count("\n") == len(rows), "a blank line would end the table"
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_a_folder_gives_back_the_runs_model_bit_for_bit(run, folder):
    model, again = ac.load_model(run), ac.Classifier.from_pretrained(folder)
    assert not again.training
    for subset in model.channels.subsets():
        names, images = [model.channels.names[i] for i in subset], pixels(2, len(subset), 12, 12)
        assert torch.equal(model(images, channels=names), again(images, channels=names))
    assert set(load_file(folder / "model.safetensors")) == set(model.state_dict()) - {"_extra_state"}
    assert ac.Classifier.from_pretrained(run).classes == again.classes, "a run's own folder will do"


def test_the_card_lists_the_channels_and_each_subsets_accuracy_as_evaluated(run, folder):
    card, evaluation = ModelCard.load(folder / "README.md"), load_evaluation(run)
    rows = {row[0]: row[1:] for row in table(card.text, "Accuracy on each subset of the channels")}
    assert list(rows) == list(evaluation.subsets)
    for key, entry in evaluation.subsets.items():
        assert rows[key][0] == f"{100 * entry['accuracy']:.1f} %"
    model = ac.load_model(run)
    wanted = [[n, f"{m:.4g}", f"{s:.4g}"] for n, m, s in zip(*statistics(model.channels), strict=True)]
    assert [row[:3] for row in table(card.text, "Channels")] == wanted
    assert dict(table(card.text, "Training"))["batch_size"] == "128"
    assert card.data.library_name == "anychannel"
    assert {result.dataset_config: result.metric_value for result in card.data.eval_results} == {
        key: entry["accuracy"] for key, entry in evaluation.subsets.items()
    }
    assert str(run) not in card.content, "no path leaves the machine"


def statistics(channels: ChannelSet):
    return channels.names, channels.mean, channels.std


def test_the_cards_example_runs(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    namespace = {}
    exec(code.replace("path/to/this/folder", folder.name), namespace)
    assert namespace["logits"].shape == (1, 3)


def test_a_card_tells_wavelengths_subsets_that_are_refused_and_what_is_not_known(refusing_run):
    bands = ChannelSet(("NIR", "R"), wavelengths_nm=(842.0, None))
    card = ac.create_model("compact_k7", channels=bands, num_classes=2).generate_model_card()
    assert [row[3] for row in table(card.text, "Channels")] == ["842 nm", ""]
    assert "Not known: the model was saved without its evaluation" in card.text
    assert card.data.eval_results is None
    refusing = ac.load_model(refusing_run).generate_model_card(**ac.card_facts(refusing_run))
    rows = {row[0]: row[1] for row in table(refusing.text, "Accuracy on each subset of the channels")}
    assert rows["band_1"] == "refused"
    assert len(refusing.data.eval_results) == 1


def test_a_licence_and_a_name_are_told_where_they_are_given(run):
    card = ac.load_model(run).generate_model_card(**ac.card_facts(run), repo_id="user/owls", license="cc-by-4.0")
    assert card.data.license == "cc-by-4.0"
    assert 'from_pretrained("user/owls")' in card.text


def test_a_model_is_pushed_to_a_hub_and_fetched_from_it_again(run, tmp_path):
    code = f"""
import torch, anychannel as ac
model = ac.load_model({str(run)!r})
facts = ac.card_facts({str(run)!r})
address = model.push_to_hub("user/owls", private=True, commit_message="Owls", model_card_kwargs=facts)
assert address.endswith("/user/owls/commit/{SHA}"), address
again = ac.Classifier.from_pretrained("user/owls", cache_dir={str(tmp_path / "cache")!r})
images = 255 * torch.rand(2, 2, 12, 12)
assert torch.equal(again(images, channels="band_1,band_3"), model(images, channels="band_1,band_3"))
offline = ac.Classifier.from_pretrained("user/owls", cache_dir={str(tmp_path / "cache")!r}, local_files_only=True)
assert torch.equal(offline.stem.weight, model.stem.weight)
try:
    model.push_to_hub("user/others", token="hf_of_nobody")
except Exception as error:
    print(type(error).__name__, error)
try:
    ac.Classifier.from_pretrained("user/nothing", cache_dir={str(tmp_path / "cache")!r})
except Exception as error:
    print(type(error).__name__)
"""
    with fake_hub() as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=environment)
    assert done.returncode == 0, done.stderr
    assert set(hub.repositories) == {"user/owls"}
    files = hub.repositories["user/owls"]
    assert set(files) == {"README.md", "config.json", "model.json", "model.safetensors"}
    assert hub.private == {"user/owls": True}
    assert hub.messages == ["Owls"]
    assert 'from_pretrained("user/owls")' in files["README.md"].decode()
    refused, missing = done.stdout.splitlines()[0], done.stdout.splitlines()[-1]
    assert "401" in refused
    assert missing == "RepositoryNotFoundError"


def test_a_network_of_ones_own_comes_back_with_a_fresh_one(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path)
    with pytest.raises(ModelFileError, match=r"a network of your own.*network="):
        ac.Classifier.from_pretrained(tmp_path)
    images = pixels(2, 2)
    again = ac.Classifier.from_pretrained(tmp_path, network=Tiny())
    assert torch.equal(again(images, channels="G,B"), model(images, channels="G,B"))


def test_an_edited_card_is_kept(tmp_path, run):
    model = ac.load_model(run)
    model.save_pretrained(tmp_path)
    (tmp_path / "README.md").write_text("mine")
    model.save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"
    done = export(run, "--format", "hub", "--out", tmp_path)
    assert done.exit_code == 2
    assert "README.md is there already and may have been edited" in done.stderr


def test_the_check_notices_weights_that_are_not_the_models(tmp_path):
    model = ac.create_model("compact_k7", channels=["R", "G"], num_classes=2, model_options={"width": 16}).eval()
    model.save_pretrained(tmp_path)
    assert check_hub_folder(model, tmp_path, image_size=16).largest_difference == 0
    weights = load_file(tmp_path / WEIGHTS)
    stem = next(name for name in weights if name.endswith("stem.weight"))
    save_weights(weights | {stem: weights[stem] + 1}, tmp_path / WEIGHTS)
    assert not check_hub_folder(model, tmp_path, image_size=16).passed


def test_a_damaged_evaluation_or_configuration_is_named(tmp_path, run):
    copied = shutil.copytree(run, tmp_path / "run")
    (copied / "evaluation" / "test.json").write_text("{")
    with pytest.raises(RunError, match=r"test\.json is damaged; write it anew: anychannel evaluate"):
        ac.card_facts(copied)
    (copied / "config.toml").write_bytes(b"\xff")
    with pytest.raises(RunError, match=r"config\.toml is damaged"):
        ac.card_facts(copied)


def test_what_cannot_be_loaded_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"from_pretrained takes no option num_classes; .* part of model.json"):
        ac.Classifier.from_pretrained(tmp_path, num_classes=3)
    with pytest.raises(ModelFileError, match=r"model.json is missing"):
        ac.Classifier.from_pretrained(tmp_path)
    with pytest.raises(RunError, match="is not a run"):
        ac.card_facts(tmp_path)
