"""A plain PyTorch loop over a timm network; the two lines that make it channel-adaptive are marked."""

import timm
import torch
from torch.utils.data import DataLoader, TensorDataset

import anychannel as ac  # added

torch.manual_seed(0)
labels = torch.randint(3, (192,))
images = torch.randint(0, 120, (192, 4, 32, 32), dtype=torch.uint8) + 60 * labels.to(torch.uint8).view(-1, 1, 1, 1)
loader = DataLoader(TensorDataset(images, labels), batch_size=16, shuffle=True)

model = timm.create_model("resnet10t", num_classes=3)
model = ac.adapt(model, channels="R,G,B,NIR", source_channels="imagenet")  # added
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

for _ in range(4):
    model.train()
    for batch, target in loader:
        loss = torch.nn.functional.cross_entropy(model(batch), target)  # each image shows some of its channels
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    for names in ("R,G,B,NIR", "R,G", "NIR"):
        planes = images[:, model.channels.positions(names)]
        found = model(planes, channels=names).argmax(dim=1)
        print(f"{names}: {(found == labels).float().mean():.0%}")
