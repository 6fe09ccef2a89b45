# %% [markdown]
# # Task II: a compact network for image classification
#
# What the report showed of its three networks, read from saved runs: curves, test accuracy, precision, recall and F1
# of every class, confusion matrices, costs, and its own tables in their columns.
#
# | here | report | first convolution |
# |---|---|---|
# | `resnet34` | ResNet34, the reference | 3 x 3, stride 1 |
# | `compact_k3` | v1 | 3 x 3, stride 1, padding 1 |
# | `compact_k7` | v2 | 7 x 7, stride 2, padding 3 |
#
# The runs are looked for in the folder that `ANYCHANNEL_RUNS` names, by default `runs/` in the repository, under
# `task_2/resnet34`, `task_2/v1` and `task_2/v2`. **Those that are missing are trained here, small and quick, on
# embedded data**: timm's tiny `test_resnet` in ResNet34's place, compact networks of 16 features instead of 64, five of
# the ten digits, three bands, six epochs. They show that everything works, and nothing about the report's networks.
# To see those, train them first, from the repository's folder, with images of your own:
#
# ```sh
# common="--config recipes/full.toml --data IMAGES --stem static --sampler full --batch-size 16"
# anychannel train $common --model resnet34 --out runs/task_2/resnet34
# anychannel train $common --model compact_k3 --out runs/task_2/v1
# anychannel train $common --model compact_k7 --out runs/task_2/v2
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

RUNS = Path(os.environ.get("ANYCHANNEL_RUNS", "../runs")) / "task_2"
NETWORKS = {
    "resnet34": ("reference", "timm/test_resnet", {}),
    "v1": ("v1 (compact_k3)", "compact_k3", {"width": 16}),
    "v2": ("v2 (compact_k7)", "compact_k7", {"width": 16}),
}

# %%
for name, (_, model, options) in NETWORKS.items():
    if not is_finished(RUNS / name):
        demo = {
            "data": "bands:3",
            "classes": 5,
            "size": 16,
            "model": model,
            "model_options": options,
            "stem": "static",
            "training": {
                "epochs": 6,
                "batch_size": 64,
                "crop_padding": 1,
                "flip": False,
                "device": "cpu",
                "precision": "fp32",
                "sampler": "full",
            },
        }
        train_demo(demo, RUNS / name)

runs = [read_run(RUNS / name, label) for name, (label, _, _) in NETWORKS.items()]
record = runs[0].record
print(f"reference {record['model']}, data {record['dataset']}, {record['image_size']} x {record['image_size']} pixels")
print(f"images: {record['num_train']:,} training, {record['num_val']:,} validation, {record['num_test']:,} test")
print(f"{len(record['classes'])} classes, so that guessing is right on {100 / len(record['classes']):.1f} %")

# %% [markdown]
# ## Curves
#
# Training and validation, accuracy above and loss below. The dashed line marks the epoch with the best validation
# accuracy, whose weights were kept and tested; a full line would mark where early stopping ended the training. Look
# at how many epochs each network needs to level off: in the report v2 took 57, the reference 15.

# %%
draw_curves(runs)

# %% [markdown]
# ## Results
#
# The report's table in its columns: epochs that were run; accuracy and loss of training and validation at the epoch
# whose weights were kept; accuracy on the test images with all channels, which were read once, at the end. Its question
# was whether a compact network reaches 90 % of the reference's test accuracy.

# %%
show(results_table(runs))
reference = runs[0].accuracy(runs[0].test.full)
for run in runs[1:]:
    print(f"{run.label}: {100 * run.accuracy(run.test.full) / reference:.1f} % of the reference's test accuracy")

# %% [markdown]
# ## Every subset of the channels
#
# Not in the report, and free to look at: none of these networks was ever shown fewer than all channels. Compare each
# row's first cell with the others.

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
# A row is a true class, and its cells, in percent, say what its images were taken for: a good network is dark on the
# diagonal and nowhere else.

# %%
draw_confusions([(run, run.test.full) for run in runs])

# %% [markdown]
# ## Costs
#
# Parameters; operations of one batch in 10^9, by the report's own counter `calflops`, which leaves out the products of
# two activations, and with these counted; and the memory that one training step adds to a fresh process at its peak
# (weights, gradients, momentum, images, activations), in 10^6 bytes. The two counts differ by the attention over all
# positions: with stride 1, v1 has four times v2's positions and sixteen times its attention products.

# %%
print(f"a batch of {runs[0].cost['batch_size']}, {runs[0].cost['image_size']} x {runs[0].cost['image_size']} pixels")
show(cost_table(runs))
