# %% [markdown]
# # Task I: a first convolution for a varying set of channels
#
# What the report showed of its five networks, read from saved runs: curves, test accuracy on every subset of the
# channels, precision, recall and F1 of every class, confusion matrices, costs, and its own tables in their columns.
#
# | here | report | first convolution | training shows |
# |---|---|---|---|
# | `static` | ResNet18 | one learned kernel | all channels |
# | `masked` | v1 | generated for each image, for the one set it was trained on | all channels |
# | `per_size` | v2 | generated for each image, a generator for each number of channels | all channels |
# | `kernel_attention` | v3 | four kernels, mixed for each image | all channels |
# | `per_size` + `dropout` | v4 | as v2 | a random part of them |
#
# The runs are looked for in the folder that `ANYCHANNEL_RUNS` names, by default `runs/` in the repository, under
# `task_1/resnet18`, `task_1/v1` and so on. **Those that are missing are trained here, small and quick, on embedded
# data**: a compact network of 16 features instead of ResNet18, five of the ten digits, three bands, six epochs; v4
# drops each channel with probability 0.5, four draws a batch, to learn the subsets in that time. They show that
# everything works, and nothing about the report's networks. To see those, train them first, from the repository's
# folder, with images of your own:
#
# ```sh
# common="--config recipes/full.toml --data IMAGES"
# anychannel train $common --stem static --sampler full --out runs/task_1/resnet18
# anychannel train $common --stem masked --sampler full --set model_options.max_pool=false --out runs/task_1/v1
# anychannel train $common --stem per_size --sampler full --out runs/task_1/v2
# anychannel train $common --stem kernel_attention --sampler full --out runs/task_1/v3
# anychannel train $common --stem per_size --sampler dropout --out runs/task_1/v4
# ```

# %%
import os
from pathlib import Path

from saved_runs import (
    classes_table,
    cost_table,
    draw_confusions,
    draw_curves,
    draw_subsets,
    is_finished,
    read_run,
    results_table,
    show,
    subsets_table,
    train_demo,
)

RUNS = Path(os.environ.get("ANYCHANNEL_RUNS", "../runs")) / "task_1"
NETWORKS = {
    "resnet18": ("ResNet18 (static)", "static", {}),
    "v1": ("v1 (masked)", "masked", {}),
    "v2": ("v2 (per_size)", "per_size", {}),
    "v3": ("v3 (kernel_attention)", "kernel_attention", {}),
    "v4": ("v4 (per_size, dropout)", "per_size", {"sampler": "dropout", "sampler_options": {"drop": 0.5, "parts": 4}}),
}

# %%
for name, (_, stem, changes) in NETWORKS.items():
    if not is_finished(RUNS / name):
        demo = {
            "data": "bands:3",
            "classes": 5,
            "size": 16,
            "model": "compact_k7",
            "model_options": {"width": 16},
            "stem": stem,
            "training": {
                "epochs": 6,
                "batch_size": 64,
                "crop_padding": 1,
                "flip": False,
                "device": "cpu",
                "precision": "fp32",
                "sampler": "full",
                **changes,
            },
        }
        train_demo(demo, RUNS / name)

runs = [read_run(RUNS / name, label) for name, (label, _, _) in NETWORKS.items()]
record = runs[0].record
print(f"network {record['model']}, data {record['dataset']}, {record['image_size']} x {record['image_size']} pixels")
print(f"images: {record['num_train']:,} training, {record['num_val']:,} validation, {record['num_test']:,} test")
print(f"{len(record['classes'])} classes, so that guessing is right on {100 / len(record['classes']):.1f} %")

# %% [markdown]
# ## Curves
#
# Training and validation, accuracy above and loss below. The dashed line marks the epoch with the best validation
# accuracy, whose weights were kept and tested; a full line would mark where early stopping ended the training. Look at
# the distance between the two colours: it is what the network learned by heart. The training loss is of smoothed labels
# and augmented images, so that it can lie above the validation loss; v4's training figures are of images that lack
# channels, its validation figures of complete ones.

# %%
draw_curves(runs)

# %% [markdown]
# ## Results
#
# The report's table in its columns: epochs that were run; accuracy and loss of training and validation at the epoch
# whose weights were kept; accuracy on the test images with all channels, which were read once, at the end. What to
# compare is the last column, among networks that were trained alike.

# %%
show(results_table(runs))

# %% [markdown]
# ## Every subset of the channels
#
# The report's second table, for all five networks. A missing channel is not given to the network at all. Read along a
# row: a network is channel-adaptive as far as its row stays dark. v1 knows one set and refuses the others; v2 and v3
# take any subset but have never been shown one; v4 has.

# %%
draw_subsets(runs)
show(subsets_table(runs))

# %% [markdown]
# ## Classes
#
# Precision (of the images called so, how many are), recall (of the images that are, how many are called so), their
# harmonic mean F1, and the number of test images of each class, with all channels. A class with high recall and low
# precision is one that the network falls back on.

# %%
for run in runs:
    show(classes_table(run))

# %% [markdown]
# ## Confusion matrices
#
# A row is a true class, and its cells, in percent, say what its images were taken for. First all networks with all
# channels: a good network is dark on the diagonal and nowhere else.

# %%
draw_confusions([(run, run.test.full) for run in runs], columns=3)

# %% [markdown]
# Then v2 and v4, the same network trained without and with dropped channels, on each subset. Where a network has never
# seen a subset, look for dark columns: it gives the same answer to everything.

# %%
by_name = dict(zip(NETWORKS, runs, strict=True))
for name in ("v2", "v4"):
    draw_confusions([(by_name[name], key) for key in by_name[name].test.subsets])

# %% [markdown]
# ## Costs
#
# Parameters; operations of one batch in 10^9, by the report's own counter `calflops`, which leaves out the products of
# two activations, and with these counted; and the memory that one training step adds to a fresh process at its peak
# (weights, gradients, momentum, images, activations), in 10^6 bytes. v2 and v4 are one network: dropping channels in
# training costs nothing.

# %%
print(f"a batch of {runs[0].cost['batch_size']}, {runs[0].cost['image_size']} x {runs[0].cost['image_size']} pixels")
show(cost_table(runs))
