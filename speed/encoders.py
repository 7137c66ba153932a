"""Pictures and sounds a second of frozen joint encoders, by precision: ``python speed/encoders.py``.

The networks are those of CLIP (ViT-B/32) and CLAP (HTSAT) in their published sizes with random weights, since
no figure here depends on the weights. Answers of other precisions are compared with those in float32.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from sacma.files import write_text

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def networks(*, quick: bool) -> dict[str, tuple[torch.nn.Module, Tensor, Callable[[Any, Tensor], Tensor]]]:
    """Network, a batch for it, and how it is asked, by name."""
    from transformers import ClapAudioConfig, ClapAudioModelWithProjection, CLIPVisionConfig
    from transformers import CLIPVisionModelWithProjection as Vision

    small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    pictures = Vision(CLIPVisionConfig(patch_size=32, **(small if quick else {}))).eval()
    tiny = {"depths": [1, 1, 1, 1], "patch_embeds_hidden_size": 16, "hidden_size": 128}
    tiny |= {"num_attention_heads": [1, 1, 2, 2]}
    sounds = ClapAudioModelWithProjection(ClapAudioConfig(**(tiny if quick else {}))).eval()
    count = 2 if quick else 64
    return {
        "pictures (CLIP)": (pictures, torch.randn(count, 3, 224, 224), _looked_at),
        "sounds of 10 s (CLAP)": (sounds, torch.randn(count, 1, 1001, 64), _heard),
    }


def _looked_at(net: Any, batch: Tensor) -> Tensor:
    return net(pixel_values=batch).image_embeds


def _heard(net: Any, batch: Tensor) -> Tensor:
    # One flag a clip: is it longer than what the network looks at.
    longer = torch.zeros(len(batch), 1, dtype=torch.bool, device=batch.device)
    return net(input_features=batch, is_longer=longer).audio_embeds


@torch.inference_mode()
def measured(
    net: torch.nn.Module, batch: Tensor, ask: Callable[[Any, Tensor], Tensor], *, device: str, seconds: float
) -> dict[str, dict[str, float]]:
    """Items a second and the least cosine with the answer in float32, by precision."""
    found, exact = {}, None
    for name, dtype in PRECISIONS.items():
        if device == "cpu" and dtype is torch.float16:  # for GPUs alone
            continue
        there, given = net.to(device, dtype), batch.to(device, dtype)
        answer = ask(there, given).float()
        exact = answer if exact is None else exact
        begun, done = time.perf_counter(), 0
        while (spent := time.perf_counter() - begun) < seconds or not done:
            ask(there, given)
            done += len(batch)
            if device != "cpu":
                torch.cuda.synchronize()
        agreement = cosine_similarity(answer, exact).min().item()
        found[name] = {"per_second": done / max(spent, 1e-9), "agreement": agreement}
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 1 where a precision gives other answers."""
    parser = argparse.ArgumentParser(description="Speed of frozen encoders by precision.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (cpu)")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each precision (5)")
    parser.add_argument("--quick", action="store_true", help="tiny networks: does it run, not how fast")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args(arguments)
    torch.manual_seed(0)
    found = {}
    for name, (net, batch, ask) in networks(quick=options.quick).items():
        found[name] = measured(net, batch, ask, device=options.device, seconds=options.seconds)
        for precision, one in found[name].items():
            told = f"{one['per_second']:.1f} a second, cosine with float32 at least {one['agreement']:.4f}"
            print(f"{name}, {precision}: {told}")
    if options.json:
        write_text(options.json, json.dumps(found, indent=2) + "\n")
    return int(any(one["agreement"] < 0.98 for of in found.values() for one in of.values()))


if __name__ == "__main__":
    sys.exit(main())
