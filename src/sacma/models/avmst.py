"""AVMST: AVCA with a spiking branch beside each encoder.

Li et al., Modality-fusion spiking transformer network for audio-visual zero-shot learning, ICME 2023, and its
released code. Loss and inference are AVCA's (``avca.py``).

A branch is Linear, IF, Linear, IF. An integrate-and-fire neuron (IF) adds its input to its voltage; at 1 it
fires and returns to 0. A branch gets the same feature vector T times; s, (B, D), is the share of these steps
at which an output neuron fires. Then

    g = phi * softmax(s)
    phi_a = first token of transformer([phi_a + p_0, g_a + p_0])
    phi_v = second token of transformer([phi_v + p_1, g_v + p_1])

with AVCA's transformer, and these phi take the place of AVCA's. The softmax over D channels of rates from 0
to 1 is about 1/D everywhere, so the branches change little in either variant.

Variant ``published`` is the released code. The branches and p keep their random values, as its optimiser has
none of them. The video enters its own branch for the first step and the audio's branch for all others, which
needs audio and video features of equal width. Voltages carry over from audio to video, then to audio and
video of the negatives. Variant ``corrected`` trains all (gradients through spikes are those of a sigmoid of
slope 4), and each sequence starts at voltage 0 in the branch of its own modality. Neither has the dynamic
threshold of the abstract. The SACMA paper gives none of this, and the authors give no hyperparameters: these
are AVCA's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sacma.errors import SacmaError, requires
from sacma.models.avca import AVCA
from sacma.models.configs.averages import AVMSTConfig
from sacma.models.layers import Linear

SURROGATE_SLOPE = 4.0

Voltages = tuple[Tensor, Tensor] | None


class AVMST(AVCA):
    """AVCA with phi that are fused with spike rates."""

    Config = AVMSTConfig

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "published": {
            **AVCA.VARIANTS["published"],
            "snn_trainable": False,
            "video_uses_audio_snn": True,
            "snn_carry_state": True,
        },
    }
    stateful: ClassVar[bool] = True  # spiking neurons
    PUBLISHED_NAMES: ClassVar[Mapping[str, str]] = {
        **AVCA.PUBLISHED_NAMES,
        "SNNbranchaudio.fc.0.": "audio_spiking.hidden.",
        "SNNbranchaudio.fc.2.": "audio_spiking.out.",
        "SNNbranchvideo.fc.0.": "video_spiking.hidden.",
        "SNNbranchvideo.fc.2.": "video_spiking.out.",
    }
    UNPUBLISHED: ClassVar[Sequence[str]] = (*AVCA.UNPUBLISHED, "_neurons.")
    config: AVMSTConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        if c.video_uses_audio_snn and c.audio_width != c.video_width:
            raise SacmaError(
                f"video_uses_audio_snn needs audio and video features of one width, not {c.audio_width} and "
                f"{c.video_width}; set it to false, as in variant corrected"
            )
        if c.spiking_steps < 1:
            raise SacmaError(f"spiking_steps is {c.spiking_steps}; it must be at least 1")
        self.audio_spiking = SpikingBranch(c.audio_width, c.spiking_hidden, c.width)
        self.video_spiking = SpikingBranch(c.video_width, c.spiking_hidden, c.width)
        for branch in (self.audio_spiking, self.video_spiking):
            branch.requires_grad_(c.snn_trainable)

    def encode(self, audio: Sequence[Tensor], video: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Encode groups of clips as ``AVCA.encode`` does, and fuse each phi with its spike rates."""
        sizes = [len(x) for x in audio]
        phi_a, phi_v = (torch.cat(phi) for phi in super().encode(audio, video))
        rates_a, rates_v = (torch.cat(rates) for rates in self.spike_rates(audio, video))
        p_a, p_v = self.position
        first, second = self.transform(
            torch.cat([phi_a + p_a, phi_v + p_v]),
            torch.cat([phi_a * rates_a.softmax(dim=1) + p_a, phi_v * rates_v.softmax(dim=1) + p_v]),
        )
        return list(first[: len(phi_a)].split(sizes)), list(second[len(phi_a) :].split(sizes))

    def spike_rates(
        self, audio: Sequence[Tensor], video: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Spike rates s of audio and of video for each group of clips, (B, D) in [0, 1]."""
        c = self.config
        if not (c.snn_carry_state or c.video_uses_audio_snn):
            sizes = [len(x) for x in audio]
            rates_a, rates_v = (
                branch(torch.cat(list(x)), c.spiking_steps)[0] / c.spiking_steps
                for branch, x in ((self.audio_spiking, audio), (self.video_spiking, video))
            )
            return list(rates_a.split(sizes)), list(rates_v.split(sizes))
        return self._rates_in_turn(audio, video)

    def _rates_in_turn(
        self, audio: Sequence[Tensor], video: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """``spike_rates``, one sequence after another, as each may start at the voltages of the last one."""
        c = self.config
        own_steps = 1 if c.video_uses_audio_snn else c.spiking_steps
        rates_a: list[Tensor] = []
        rates_v: list[Tensor] = []
        audio_state: Voltages = None
        video_state: Voltages = None
        for a, v in zip(audio, video, strict=True):
            spikes, audio_state = self.audio_spiking(a, c.spiking_steps, self._kept(audio_state))
            rates_a.append(spikes / c.spiking_steps)
            spikes, video_state = self.video_spiking(v, own_steps, self._kept(video_state))
            if c.video_uses_audio_snn:
                state = self._kept(audio_state)
                more, audio_state = self.audio_spiking(v, c.spiking_steps - own_steps, state)
                spikes = spikes + more
            rates_v.append(spikes / c.spiking_steps)
        return rates_a, rates_v

    def _kept(self, state: Voltages) -> Voltages:
        return state if self.config.snn_carry_state else None


class SpikingBranch(nn.Module):
    """Linear, IF, Linear, IF on a constant input.

    Args:
        width_in: of the input.
        hidden: number of hidden neurons.
        width_out: number of output neurons.

    Raises:
        SacmaError: snnTorch is not installed.
    """

    def __init__(self, width_in: int, hidden: int, width_out: int) -> None:
        super().__init__()
        self.hidden = Linear(width_in, hidden)
        self.hidden_neurons = _integrate_and_fire()
        self.out = Linear(hidden, width_out)
        self.out_neurons = _integrate_and_fire()

    def forward(
        self, values: Tensor, steps: int, state: Voltages = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Run the neurons on a constant input.

        Args:
            values: (B, width_in).
            steps: number of time steps.
            state: voltages of hidden and output neurons to start from; None for 0.

        Returns:
            (B, width_out) number of spikes of each output neuron, and the voltages at the end.
        """
        current = self.hidden(values)
        if state is None:
            state = (torch.zeros_like(current), current.new_zeros(len(values), self.out.out_features))
        hidden_voltage, out_voltage = state
        count = torch.zeros_like(out_voltage)
        if steps:
            fired = []
            for _ in range(steps):
                spikes, hidden_voltage = one_step(self.hidden_neurons, current, hidden_voltage)
                fired.append(spikes)
            for current_out in self.out(torch.stack(fired)):  # one product for all steps
                spikes, out_voltage = one_step(self.out_neurons, current_out, out_voltage)
                count = count + spikes
        return count, (hidden_voltage, out_voltage)


def one_step(neurons: Any, current: Tensor, voltage: Tensor) -> tuple[Tensor, Tensor]:
    """Spikes and voltages of ``neurons(current, voltage)``, all (B, N), bit for bit.

    ``neurons`` are snnTorch's ``Leaky``. Two in three of its operations do nothing here and are left out: the
    neurons do not leak, each spike counts 1, and no voltage is at the threshold when a step begins.
    """
    voltage = voltage + current
    spikes = neurons.fire(voltage)
    return spikes, voltage - spikes * voltage


class Spike(torch.autograd.Function):
    """1 where the voltage reaches the threshold, else 0; backward uses the slope of a sigmoid."""

    @staticmethod
    def forward(ctx: Any, above: Tensor) -> Tensor:
        ctx.save_for_backward(above)
        return (above >= 0).to(above.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (above,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(SURROGATE_SLOPE * above)  # snnTorch's own overflows far below the threshold
        return gradients[0] * SURROGATE_SLOPE * sigmoid * (1 - sigmoid)


def _integrate_and_fire() -> Any:
    with requires("spiking", "AVMST needs snnTorch"):
        import snntorch
    # Without the delay the reset follows the spike at once and passes its gradient on.
    return snntorch.Leaky(
        beta=1.0, threshold=1.0, reset_mechanism="zero", reset_delay=False, spike_grad=Spike.apply
    )
