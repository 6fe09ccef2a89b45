# %% [markdown]
# # Task I: a first convolution for a varying set of channels
#
# This notebook is for readers who [reproduce the report](../docs/tutorials/two-tasks.md) that anychannel started
# from. It reads saved runs and shows what the report showed of its five networks: learning curves, test accuracy on
# every channel subset, precision, recall and F1 of each class, confusion matrices, costs, and the report's tables.
#
# | here | report | first convolution | channels seen in training |
# |---|---|---|---|
# | `static` | ResNet18 | one learned kernel | all |
# | `masked` | v1 | generated for each image, for one channel set | all |
# | `per_size` | v2 | generated for each image, one generator per number of channels | all |
# | `kernel_attention` | v3 | four kernels, mixed for each image | all |
# | `per_size` + `dropout` | v4 | as v2 | a random subset |
#
# The environment variable `ANYCHANNEL_RUNS` names the folder of the runs; the default is `runs/` in the repository.
# The notebook expects `task_1/resnet18`, `task_1/v1` and so on in it. **It trains missing runs itself, small and
# quick, on embedded data**: a compact network of 16 features instead of ResNet18, five of the ten digits, three
# bands, six epochs. v4 drops each channel with probability 0.5 and draws four subsets a batch, so that it learns the
# subsets in that time. These small runs show that everything works. They say nothing about the report's networks. To
# see those, first train them on your own images, from the repository's folder:
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
# Training and validation accuracy above, loss below. The dashed line marks the epoch with the best validation
# accuracy; its weights are kept and tested. A solid line marks where early stopping ended training. The distance
# between the two curves shows overfitting. The training loss can lie above the validation loss, because it uses
# smoothed labels and augmented images. v4's training figures are for images with channels dropped; its validation
# figures are for all channels.

# %%
draw_curves(runs)

# %% [markdown]
# ## Results
#
# The report's table, with its columns: epochs run; training and validation accuracy and loss at the epoch whose
# weights are kept; accuracy on the test images with all channels. Test images are read once, at the end. Compare the
# last column among networks that were trained alike.

# %%
show(results_table(runs))

# %% [markdown]
# ## Every subset of the channels
#
# The report's second table, for all five networks. The network gets only the channels of the subset. Read along a
# row: a network is channel-adaptive if its row stays dark. v1 knows one channel set and refuses the others. v2 and v3
# accept any subset but saw none in training. v4 did.

# %%
draw_subsets(runs)
show(subsets_table(runs))

# %% [markdown]
# ## Classes
#
# Precision is the share of correct answers among the images assigned to a class. Recall is the share of a class's
# images that the network finds. F1 is their harmonic mean. Support is the number of test images. All are measured
# with all channels. High recall with low precision means that the network assigns too many images to this class.

# %%
for run in runs:
    show(classes_table(run))

# %% [markdown]
# ## Confusion matrices
#
# Each row is a true class; its cells show, in percent, which classes the network assigned its images to. A good
# network is dark on the diagonal and nowhere else. First all networks with all channels.

# %%
draw_confusions([(run, run.test.full) for run in runs], columns=3)

# %% [markdown]
# Then v2 and v4 on each subset: the same network, trained without and with channel dropout. Dark columns mean that
# the network gives the same answer for every image.

# %%
by_name = dict(zip(NETWORKS, runs, strict=True))
for name in ("v2", "v4"):
    draw_confusions([(by_name[name], key) for key in by_name[name].test.subsets])

# %% [markdown]
# ## Costs
#
# Parameters; operations of one batch in 10^9; and the peak memory that one training step adds to a fresh process
# (weights, gradients, momentum, images, activations), in 10^6 bytes. Operations are counted twice: by `calflops`, the
# report's counter, which leaves out products of two activations, and with these products. v2 and v4 are the same
# network: channel dropout adds no cost.

# %%
print(f"a batch of {runs[0].cost['batch_size']}, {runs[0].cost['image_size']} x {runs[0].cost['image_size']} pixels")
show(cost_table(runs))
