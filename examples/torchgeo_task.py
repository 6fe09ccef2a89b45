"""A TorchGeo task on sample dictionaries; the two lines that make its network channel-adaptive are marked."""

import lightning
import torch
from torch.utils.data import DataLoader, Dataset
from torchgeo.trainers import ClassificationTask

import anychannel as ac  # added

torch.manual_seed(0)
BANDS = "B02,B03,B04,B08"


class Scenes(Dataset):
    """EuroSAT-like samples: a normalised image of four bands and its class."""

    def __len__(self) -> int:
        return 192

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        noise = torch.rand(4, 32, 32, generator=torch.Generator().manual_seed(index))
        return {"image": 2 * noise + index % 3 - 2, "label": torch.tensor(index % 3)}


scenes = Scenes()
task = ClassificationTask(model="resnet10t", in_channels=4, task="multiclass", num_classes=3, lr=1e-3)
task.model = ac.adapt(task.model, channels=BANDS, source_channels=BANDS, normalise="none")  # added
trainer = lightning.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(task, DataLoader(scenes, batch_size=16, shuffle=True), DataLoader(scenes, batch_size=64))

task.eval()
images = torch.stack([scenes[i]["image"] for i in range(192)])
labels = torch.arange(192) % 3
with torch.no_grad():
    for names in (BANDS, "B02,B03", "B08"):
        planes = images[:, task.model.channels.positions(names)]
        print(f"{names}: {(task.model(planes, channels=names).argmax(dim=1) == labels).float().mean():.0%}")
