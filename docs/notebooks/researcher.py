# %% [markdown]
# # Train, compare and look inside, in a notebook
#
# The data are made up on the spot: ten classes, each a direction in feature space, with noise. They
# show the calls; their figures mean nothing. With a real benchmark the commands are the same.

# %%
import os
import tempfile
from pathlib import Path

import sacma
from sacma.testing import write_toy_benchmark

os.chdir(tempfile.mkdtemp())
write_toy_benchmark(Path("toy"))
os.environ["DATA"] = "--benchmark toy --features toyfeatures --root toy"

# %% [markdown]
# ## Train

# %%
# !sacma train $DATA --method eszsl --out runs/eszsl

# %%
# !sacma train $DATA --method devise --epochs 5 --out runs/devise --quiet

# %% [markdown]
# ## Look at a run
#
# A run is one object; a notebook shows it as a table.

# %%
run = sacma.load_run("runs/devise")
run

# %%
run.result.test.harmonic_mean, run.config.training.learning_rate

# %%
run.predictions(top=2).to_frame().head(6)

# %% [markdown]
# The most frequent mistakes:

# %%
run.confusion().pairs()

# %% [markdown]
# Embeddings are arrays with the names of their clips and classes.

# %%
embeddings = run.embeddings("test")
embeddings.values.shape, embeddings.class_values.shape, embeddings.classes[:3]

# %%
run.history.to_frame()[["stage", "epoch", "loss"]].tail(3)

# %% [markdown]
# ## Compare clip by clip
#
# Both runs answered the same test clips, so their answers can be put side by side.

# %%
best = {
    name: sacma.load_run(f"runs/{name}").predictions(top=1).to_frame().set_index("clip")["right"]
    for name in ("eszsl", "devise")
}
both = best["eszsl"].to_frame("eszsl").join(best["devise"].rename("devise"))
both.value_counts().unstack(fill_value=0)

# %% [markdown]
# `sacma report runs/eszsl runs/devise` puts all of this, with intervals and tests, on one page.
