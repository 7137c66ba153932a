# %% [markdown]
# # A method of your own, in a notebook
#
# A method is one class. This one lies in `examples/cosine-method`: a matrix that is trained to point
# where the class vector does. Run this notebook in a checkout.

# %%
import inspect
import os
import sys
import tempfile
from pathlib import Path

import torch

import sacma
from sacma.metrics.gzsl import harmonic_mean, per_class_accuracy
from sacma.testing import check_method, write_toy_benchmark

HERE = Path.cwd()
ROOT = next(folder for folder in (HERE, *HERE.parents) if (folder / "examples" / "cosine-method").is_dir())
sys.path.insert(0, str(ROOT / "examples" / "cosine-method"))
from sacma_cosine import Cosine  # noqa: E402

print(inspect.getsource(Cosine))

# %% [markdown]
# ## Check it
#
# `check_method` is the contract that all methods of the package keep: shapes, gradients,
# repeatability, saving and loading. It raises at the first thing that is wrong.

# %%
check_method(Cosine)

# %% [markdown]
# ## Train it
#
# The command takes a method of the package by its name and one of yours by its file.

# %%
os.environ["METHOD"] = f"{ROOT}/examples/cosine-method/sacma_cosine.py:Cosine"
os.chdir(tempfile.mkdtemp())
write_toy_benchmark(Path("toy"))

# %%
# !sacma train --method $METHOD --benchmark toy --features toyfeatures --root toy --epochs 5 --out run

# %% [markdown]
# ## Compute a figure by hand
#
# A metric is a function of tensors. The harmonic mean of the run's own answers is the one that the
# run reports.

# %%
run = sacma.load_run("run")
answers = run.predictions(top=1).to_frame()
classes = sorted(set(answers["class"]))
labels = torch.tensor([classes.index(name) for name in answers["class"]])
accuracy = per_class_accuracy(torch.tensor(answers["right"].tolist()), labels, len(classes))
seen = torch.tensor([bool(answers[answers["class"] == name]["seen"].iloc[0]) for name in classes])
by_hand = harmonic_mean(accuracy[seen].mean(), accuracy[~seen].mean())
by_hand.item(), run.result.test.harmonic_mean
