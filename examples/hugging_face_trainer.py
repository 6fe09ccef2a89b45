"""A transformers network and its Trainer; the two lines that make the network channel-adaptive are marked."""

import tempfile

import torch
from datasets import Dataset
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

import anychannel as ac  # added

torch.manual_seed(0)
labels = torch.randint(3, (192,))
images = torch.randint(0, 120, (192, 4, 32, 32)) + 60 * labels.view(-1, 1, 1, 1)
rows = Dataset.from_dict({"pixel_values": images.numpy(), "labels": labels.numpy()}).with_format("torch")

config = ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=3)
model = ResNetForImageClassification(config)
model = ac.adapt(model, channels="R,G,B,NIR", source_channels="imagenet")  # added

with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        folder, num_train_epochs=4, per_device_train_batch_size=16, learning_rate=3e-3, report_to="none", use_cpu=True,
        save_strategy="no",
    )  # fmt: skip
    Trainer(model, arguments, train_dataset=rows).train()

model.eval()
with torch.no_grad():
    for names in ("R,G,B,NIR", "R,G", "NIR"):
        planes = images[:, model.channels.positions(names)]
        found = model(planes, channels=names).logits.argmax(dim=1)
        print(f"{names}: {(found == labels).float().mean():.0%}")
