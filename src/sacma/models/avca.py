"""AVCA: audio-visual generalised zero-shot learning with cross-modal attention and language.

Mercea et al., Audio-visual generalised zero-shot learning with cross-modal attention and language, CVPR 2022,
https://doi.org/10.1109/CVPR52688.2022.01030, on features averaged over time.

    phi_a = A_enc(a), phi_v = V_enc(v)                          encoders
    phi~  = phi + transformer([phi_a + p_0, phi_v + p_1])       cross-modal attention over the two tokens
    theta_a = A_proj(phi~_a), theta_v = V_proj(phi~_v), theta_w = W_proj(w)
    rho = D(theta)                                              one decoder for a, v and w

With T the triplet loss (anchor; positive, negative), - a clip of another class, x over audio and video,

    l = sum_x MSE(rho_x, w) + MSE(rho_w, w)                                      reconstruction
      + sum_x T(rho_w; rho_x, rho_x-)                                            of what is decoded
      + sum_x T(theta_w; theta_x, theta_x-) + T(theta_x; theta_w, theta_w-)      between modalities
      + sum_x T(theta_x; theta_w, theta_x-) + T(theta_w; theta_x, theta_w-)      negatives like the anchor
      + sum_x MSE(X_rec(theta_x), phi_x) + MSE(theta_x, theta_w)                 regularisation

A clip gets the class whose theta_w is nearest (L2) to its theta_v. Variant ``published`` leaves the position
p at its random values, calls networks whose results change only BatchNorm's statistics, and runs a second
forward pass in training mode after each step. The SACMA paper gives none of this; widths, dropouts, momentum
and schedule are those of AVCA's released code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sacma.models import losses
from sacma.models.base import Method, negatives_of
from sacma.models.configs.averages import AVCAConfig
from sacma.models.layers import EmbeddingNet
from sacma.models.tokens import Tokens
from sacma.models.transformer import TransformerLayer
from sacma.types import Batch, ClassSet


class AVCA(Method):
    """Encoders, a transformer over two tokens, projections, and decoders for the loss."""

    Config = AVCAConfig

    VARIANTS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "published": {"position_trainable": False, "unused_passes": True, "extra_train_forward": True},
    }
    OUTPUTS: ClassVar[Sequence[str]] = ("theta_v", "theta_a")
    PUBLISHED_NAMES: ClassVar[Mapping[str, str]] = {
        "pos_emb1D": "position",
        "A_enc.fc.": "audio_encoder.",
        "V_enc.fc.": "video_encoder.",
        "A_proj.fc.": "audio_projection.",
        "V_proj.fc.": "video_projection.",
        "W_proj.fc.": "text_projection.",
        "A_rec.fc.": "audio_reconstruction.",
        "V_rec.fc.": "video_reconstruction.",
        "D.fc.": "text_reconstruction.",
        "cross_attention.layers.": "transformer.",
        # The second block first: ".1." is also the number of a layer, where ".0." follows it.
        ".1.norm.": ".second_norm.",
        ".1.fn.net.": ".feed_forward.",
        ".0.norm.": ".norm.",
        ".0.fn.to_out.0.": ".out.",
        ".0.fn.": ".",
    }
    needs_negatives = True
    temporal = False
    config: AVCAConfig

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config

        def encoder(width: int) -> EmbeddingNet:
            return EmbeddingNet(
                width, c.width, hidden=c.encoder_hidden, dropout=c.encoder_dropout, momentum=c.momentum
            )

        def projection() -> EmbeddingNet:
            return EmbeddingNet(
                c.width,
                c.common_width,
                hidden=c.decoder_hidden,
                dropout=c.decoder_dropout,
                momentum=c.momentum,
            )

        def single(width_in: int, width_out: int) -> EmbeddingNet:
            return EmbeddingNet(width_in, width_out, dropout=c.text_dropout)

        self.position = nn.Parameter(torch.randn(2, c.width), requires_grad=c.position_trainable)
        self.audio_encoder = encoder(c.audio_width)
        self.video_encoder = encoder(c.video_width)
        self.transformer = nn.ModuleList(
            TransformerLayer(
                c.width,
                heads=c.heads,
                head_width=c.head_width,
                hidden=c.feed_forward_hidden,
                dropout=c.encoder_dropout,
                shared_norm=False,
            )
            for _ in range(c.depth)
        )
        self.audio_projection = projection()
        self.video_projection = projection()
        self.text_projection = single(c.text_width, c.common_width)
        self.text_reconstruction = single(c.common_width, c.text_width)
        self.audio_reconstruction = single(c.common_width, c.width)
        self.video_reconstruction = single(c.common_width, c.width)

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """The terms of the module's docstring; ``triplet_wa_a``: anchor w, positive a, negative a-."""
        negatives = negatives_of(batch)
        audio, video = zip(self.averaged(batch), self.averaged(negatives), strict=True)
        phi_a, phi_v = self.encode(audio, video)  # the clips, the negatives: (B, D) each
        attended_a, attended_v = self.attend(phi_a, phi_v)
        theta = {
            "a": [self.audio_projection(x) for x in attended_a],
            "v": [self.video_projection(x) for x in attended_v],
            "w": [self.text_projection(x) for x in (batch.text, negatives.text)],
        }
        return {
            **self._decoded(theta, batch.text),
            **self._triplets(theta),
            **self._regularisation(theta, phi_a[0], phi_v[0]),
        }

    def _decoded(self, theta: Mapping[str, Sequence[Tensor]], text: Tensor) -> dict[str, Tensor]:
        """Reconstruction and triplets of rho. D runs on w, a and v in this order, as its statistics move."""
        decode = self.text_reconstruction
        rho_w = decode(theta["w"][0])
        if self.config.unused_passes:
            decode(theta["w"][1])
        terms = {"reconstruction_w": losses.regression(rho_w, text)}
        for x in "av":
            rho, other = decode(theta[x][0]), decode(theta[x][1])
            terms[f"reconstruction_{x}"] = losses.regression(rho, text)
            terms[f"triplet_decoded_{x}"] = self._triplet(rho_w, rho, other)
        return terms

    def _triplets(self, theta: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
        w, other_w = theta["w"]
        terms: dict[str, Tensor] = {}
        for name in "av":
            x, other_x = theta[name]
            terms[f"triplet_w{name}_{name}"] = self._triplet(w, x, other_x)
            terms[f"triplet_{name}w_w"] = self._triplet(x, w, other_w)
            terms[f"triplet_{name}w_{name}"] = self._triplet(x, w, other_x)
            terms[f"triplet_w{name}_w"] = self._triplet(w, x, other_w)
        return terms

    def _regularisation(
        self, theta: Mapping[str, Sequence[Tensor]], phi_a: Tensor, phi_v: Tensor
    ) -> dict[str, Tensor]:
        rebuilt_a = self.audio_reconstruction(theta["a"][0])
        rebuilt_v = self.video_reconstruction(theta["v"][0])
        if self.config.unused_passes:
            self.audio_projection(rebuilt_a)
            self.video_projection(rebuilt_v)
        return {
            "regression_phi_a": losses.regression(rebuilt_a, phi_a),
            "regression_phi_v": losses.regression(rebuilt_v, phi_v),
            "regression_aw": losses.regression(theta["a"][0], theta["w"][0]),
            "regression_vw": losses.regression(theta["v"][0], theta["w"][0]),
        }

    def _triplet(self, anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
        return losses.triplet(anchor, positive, negative, margin=self.config.margin)

    def encode(self, audio: Sequence[Tensor], video: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Encode groups of clips, each with BatchNorm statistics of its own.

        Args:
            audio: (B, Da) for each group; in training the clips, then their negatives.
            video: (B, Dv) for each group.

        Returns:
            phi_a and phi_v, (B, D) for each group.
        """
        return [self.audio_encoder(x) for x in audio], [self.video_encoder(x) for x in video]

    def attend(
        self, phi_a: Sequence[Tensor], phi_v: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Cross-modal attention: phi of each group of clips -> phi~_a and phi~_v of each, (B, D)."""
        sizes = [x.shape[0] for x in phi_a]
        a, v = torch.cat(list(phi_a)), torch.cat(list(phi_v))
        p_a, p_v = self.position
        token_a, token_v = self.transform(a + p_a, v + p_v)
        return (a + token_a).split(sizes), (v + token_v).split(sizes)

    def transform(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Run the transformer on sequences of two tokens, (B, D) each -> (B, D) each."""
        pairs = torch.stack([first, second], dim=1)  # (B, 2, D)
        tokens = Tokens.whole(pairs)
        values = tokens.values
        for layer in self.transformer:
            values = layer(values, [tokens])
        first, second = values.view_as(pairs).unbind(1)
        return first, second

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """(B, d): theta_v, or the theta that ``output`` names; its distance (L2) to theta_w scores."""
        return self.embed(batch)[self.scoring_output(output)]

    def embed_classes(self, classes: ClassSet) -> Tensor:
        """(K, d): theta_w of each class."""
        return self.text_projection(classes.vectors)

    def embed(self, batch: Batch) -> dict[str, Tensor]:
        """theta_a and theta_v, (B, d) each."""
        audio, video = self.averaged(batch)
        (attended_a,), (attended_v,) = self.attend(*self.encode([audio], [video]))
        return {"theta_a": self.audio_projection(attended_a), "theta_v": self.video_projection(attended_v)}

    def second_forward(self, batch: Batch) -> None:
        """Embed the batch again, as released."""
        self.embed(batch)
        self.text_projection(batch.text)

    @classmethod
    def rename_published(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Translate keys to ours and split queries from keys and values."""
        renamed = super().rename_published(state)
        for key in [key for key in renamed if key.endswith(".to_qkv.weight")]:
            queries, keys, values = renamed.pop(key).chunk(3)
            renamed[key.replace("to_qkv", "to_queries")] = queries
            renamed[key.replace("to_qkv", "to_keys_values")] = torch.cat([keys, values])
        return renamed
