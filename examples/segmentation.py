"""A U-Net of segmentation_models_pytorch; the two lines that make it channel-adaptive are marked."""

import segmentation_models_pytorch as smp
import torch

import anychannel as ac  # added

torch.manual_seed(0)
masks = (torch.rand(64, 4, 4) > 0.5).long().repeat_interleave(8, 1).repeat_interleave(8, 2)  # (64, 32, 32)
images = torch.randint(0, 120, (64, 4, 32, 32)) + 100 * masks[:, None]  # (64, 4, 32, 32)

model = smp.Unet("resnet18", encoder_weights=None, classes=2)
model = ac.adapt(model, channels="R,G,B,NIR", source_channels="imagenet")  # added
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
criterion = smp.losses.DiceLoss("multiclass")

for _ in range(4):
    model.train()
    for rows in torch.randperm(64).split(8):
        loss = criterion(model(images[rows]), masks[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

model.eval()
with torch.no_grad():
    for names in ("R,G,B,NIR", "R,G", "NIR"):
        planes = images[:, model.channels.positions(names)]
        found = model(planes, channels=names).argmax(dim=1)
        print(f"{names}: {(found == masks).float().mean():.0%} of the pixels")
