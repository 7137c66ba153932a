# %% [markdown]
# # A model of your own classes, in a notebook
#
# Clips in, names out; a correction; a search. The clips here are rendered on the spot: simple shapes
# that move and beep. With your own clips the calls are the same. You need the extras `lite`, `text`
# and `frames`.

# %%
import os
import tempfile
from pathlib import Path

import numpy as np

import sacma
from sacma.datasets.avshapes import CLASSES
from sacma.datasets.avshapes.examples import write_mp4

os.chdir(tempfile.mkdtemp())
NAMES = {"circles": CLASSES[0], "squares": CLASSES[-1], "stars": CLASSES[len(CLASSES) // 2]}
for name, rendered in NAMES.items():
    for number in range(4):
        clip = Path("clips" if number < 3 else "new") / name / f"{number}.mp4"
        clip.parent.mkdir(parents=True, exist_ok=True)
        write_mp4(rendered, number, clip, size=96, fps=12)
sorted(str(clip) for clip in Path("clips").rglob("*.mp4"))

# %% [markdown]
# ## Learn
#
# One folder for each class, one command. It holds clips back and says how many it names rightly. With
# nine clips that says little, which it says too.

# %%
# !sacma learn clips --out mine

# %% [markdown]
# ## Ask
#
# A list of clips is answered as one table. A clip that cannot be read does not end the others.

# %%
model = sacma.load_model("mine")
new = sorted(Path("new").rglob("*.mp4"))
Path("broken.mp4").write_text("no film")
found = model.predict([*new, "broken.mp4"])
found

# %%
model.predict(new).to_frame()[["clip", "rank", "name", "probability", "status"]]

# %% [markdown]
# Open files and arrays are clips as well.

# %%
with new[0].open("rb") as file:
    print(model.predict(file).best)

frames = np.zeros((25, 96, 96, 3), np.uint8)
frames[:, 24:72, 24:72] = 255
square = sacma.Recording(frames=frames, frame_rate=25, name="a white square")
model.predict(square)

# %% [markdown]
# ## Correct
#
# Each lesson takes seconds and reads no clip again. The last one can be taken back.

# %%
model.correct(new[0], "stars")
print(model.predict(new[0]).best)
model.undo()
print(model.predict(new[0]).best)

# %%
model.add_clips("lines", [new[1]])
model.own_names

# %% [markdown]
# ## Search
#
# A library reads each clip once. Words or an example find moments in it.

# %%
# !sacma index clips --out clips.library --quiet

# %%
with sacma.open_library("clips.library") as library:
    for moment in library.search(like=new[2], top=3):
        print(f"{moment.score:.2f}  {moment.start:.0f} to {moment.end:.0f} s  {moment.clip}")
