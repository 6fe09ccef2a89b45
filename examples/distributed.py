"""Plain DistributedDataParallel: ``torchrun --nproc-per-node 2 distributed.py``; the two added lines are marked.

All processes draw the same subsets, so two processes train the weights that one trains.
"""

import timm
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import anychannel as ac  # added

dist.init_process_group("gloo")
torch.manual_seed(0)
labels = torch.randint(3, (192,))
images = torch.randint(0, 120, (192, 4, 32, 32), dtype=torch.uint8) + 60 * labels.to(torch.uint8).view(-1, 1, 1, 1)
data = TensorDataset(images, labels)
loader = DataLoader(data, batch_size=16 // dist.get_world_size(), sampler=DistributedSampler(data))

model = timm.create_model("test_convnext", num_classes=3)
model = ac.adapt(model, channels="R,G,B,NIR", source_channels="imagenet")  # added
network = DistributedDataParallel(model)
optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)

for epoch in range(2):
    loader.sampler.set_epoch(epoch)
    network.train()
    for batch, target in loader:
        loss = torch.nn.functional.cross_entropy(network(batch), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

if dist.get_rank() == 0:
    torch.save(model.state_dict(), "distributed.pt")
    model.eval()
    with torch.no_grad():
        for names in ("R,G,B,NIR", "R,G", "NIR"):
            found = model(images[:, model.channels.positions(names)], channels=names).argmax(dim=1)
            print(f"{names}: {(found == labels).float().mean():.0%}")
dist.destroy_process_group()
