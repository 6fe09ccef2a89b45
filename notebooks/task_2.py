# %% [markdown]
# # Task II: a compact network for image classification
#
# This notebook is for readers who [reproduce the report](../docs/tutorials/two-tasks.md) that anychannel started
# from. It reads saved runs and shows what the report showed of its three networks: learning curves, test accuracy,
# precision, recall and F1 of each class, confusion matrices, costs, and the report's tables.
#
# | here | report | first convolution |
# |---|---|---|
# | `resnet34` | ResNet34, the reference | 3 x 3, stride 1 |
# | `compact_k3` | v1 | 3 x 3, stride 1, padding 1 |
# | `compact_k7` | v2 | 7 x 7, stride 2, padding 3 |
#
# The environment variable `ANYCHANNEL_RUNS` names the folder of the runs; the default is `runs/` in the repository.
# The notebook expects `task_2/resnet34`, `task_2/v1` and `task_2/v2` in it. **It trains missing runs itself, small
# and quick, on embedded data**: timm's tiny `test_resnet` in place of ResNet34, compact networks of 16 features
# instead of 64, five of the ten digits, three bands, six epochs. These small runs show that everything works. They
# say nothing about the report's networks. To see those, first train them on your own images, from the repository's
# folder:
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
# Training and validation accuracy above, loss below. The dashed line marks the epoch with the best validation
# accuracy; its weights are kept and tested. A solid line marks where early stopping ended training. The training loss
# can lie above the validation loss, because it uses smoothed labels and augmented images. Look at how many epochs
# each network needs to level off: in the report v2 took 57, the reference 15.

# %%
draw_curves(runs)

# %% [markdown]
# ## Results
#
# The report's table, with its columns: epochs run; training and validation accuracy and loss at the epoch whose
# weights are kept; accuracy on the test images with all channels. Test images are read once, at the end. The report
# asked whether a compact network reaches 90 % of the reference's test accuracy.

# %%
show(results_table(runs))
reference = runs[0].accuracy(runs[0].test.full)
for run in runs[1:]:
    print(f"{run.label}: {100 * run.accuracy(run.test.full) / reference:.1f} % of the reference's test accuracy")

# %% [markdown]
# ## Every subset of the channels
#
# The report does not have this table. None of these networks saw fewer than all channels in training. Compare each
# row's first cell with the others.

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
# network is dark on the diagonal and nowhere else.

# %%
draw_confusions([(run, run.test.full) for run in runs])

# %% [markdown]
# ## Costs
#
# Parameters; operations of one batch in 10^9; and the peak memory that one training step adds to a fresh process
# (weights, gradients, momentum, images, activations), in 10^6 bytes. Operations are counted twice: by `calflops`, the
# report's counter, which leaves out products of two activations, and with these products. They differ by the
# attention over all positions: with stride 1, v1 has four times the positions of v2 and sixteen times the attention
# products.

# %%
print(f"a batch of {runs[0].cost['batch_size']}, {runs[0].cost['image_size']} x {runs[0].cost['image_size']} pixels")
show(cost_table(runs))
