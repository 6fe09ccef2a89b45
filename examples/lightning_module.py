"""A Lightning module and trainer; the two lines that make its network channel-adaptive are marked."""

import lightning
import timm
import torch
from torch.utils.data import DataLoader, TensorDataset

import anychannel as ac  # added


class Task(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = timm.create_model("resnet10t", num_classes=3)
        self.model = ac.adapt(self.model, channels="R,G,B,NIR", source_channels="imagenet")  # added

    def training_step(self, batch, _):
        images, labels = batch
        return torch.nn.functional.cross_entropy(self.model(images), labels)

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


torch.manual_seed(0)
labels = torch.randint(3, (192,))
images = torch.randint(0, 120, (192, 4, 32, 32), dtype=torch.uint8) + 60 * labels.to(torch.uint8).view(-1, 1, 1, 1)
loader = DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True)

task = Task()
trainer = lightning.Trainer(max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(task, loader)

task.eval()
with torch.no_grad():
    for names in ("R,G,B,NIR", "R,G", "NIR"):
        planes = images[:, task.model.channels.positions(names)]
        print(f"{names}: {(task.model(planes, channels=names).argmax(dim=1) == labels).float().mean():.0%}")
