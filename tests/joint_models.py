"""Tiny joint encoders of the true classes with random weights, as ``save_pretrained`` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

_SIZE = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
_IMAGE = {"image_size": 32, "patch_size": 16}
LONGEST = 40


def transformers() -> Any:
    return pytest.importorskip("transformers")


def tokenizer(folder: Path) -> Any:
    """One token a character; <s> before, </s> after."""
    tokenizers = pytest.importorskip("tokenizers")
    characters = [chr(code) for code in range(32, 127)]
    vocabulary = {word: row for row, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", *characters])}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Split("", "isolated")
    model.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    made = transformers().PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    made.save_pretrained(folder)
    return made


TEXT = {**_SIZE, "vocab_size": 99, "max_position_embeddings": LONGEST, "bos_token_id": 2, "eos_token_id": 3}


def clip(folder: Path) -> Path:
    t = transformers()
    torch.manual_seed(0)
    text = {**TEXT, "projection_dim": 24}
    config = t.CLIPConfig(text_config=text, vision_config={**_SIZE, **_IMAGE}, projection_dim=24)
    t.CLIPModel(config).save_pretrained(folder)
    tokenizer(folder)
    t.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder


def metaclip(folder: Path) -> Path:
    t = transformers()
    torch.manual_seed(1)
    config = t.MetaClip2Config(text_config=TEXT, vision_config={**_SIZE, **_IMAGE}, projection_dim=24)
    t.MetaClip2Model(config).save_pretrained(folder)
    tokenizer(folder)
    t.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    return folder


def siglip(folder: Path) -> Path:
    t = transformers()
    torch.manual_seed(2)
    text = {**TEXT, "projection_size": 16}
    config = t.SiglipConfig(text_config=text, vision_config={**_SIZE, **_IMAGE})
    net = t.SiglipModel(config)
    with torch.no_grad():
        net.logit_scale.fill_(2.0)
        net.logit_bias.fill_(-3.0)
    net.save_pretrained(folder)
    tokenizer(folder)
    t.SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def siglip2(folder: Path) -> Path:
    t = transformers()
    torch.manual_seed(3)
    vision = {**_SIZE, "patch_size": 8, "num_patches": 16}
    config = t.Siglip2Config(text_config={**TEXT, "projection_size": 16}, vision_config=vision)
    net = t.Siglip2Model(config)
    with torch.no_grad():
        net.logit_scale.fill_(2.0)
        net.logit_bias.fill_(-3.0)
    net.save_pretrained(folder)
    tokenizer(folder)
    t.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(folder)
    return folder


def xclip(folder: Path) -> Path:
    t = transformers()
    torch.manual_seed(4)
    vision = {**_SIZE, **_IMAGE, "num_frames": 8, "mit_hidden_size": 24, "mit_intermediate_size": 16}
    vision |= {"mit_num_hidden_layers": 1, "mit_num_attention_heads": 2}
    config = t.XCLIPConfig(
        text_config=TEXT,
        vision_config=vision,
        projection_dim=24,
        prompt_layers=1,
        prompt_num_attention_heads=2,
        prompt_alpha=0.5,
    )
    t.XCLIPModel(config).save_pretrained(folder)
    tokenizer(folder)
    processor = t.VideoMAEImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor.save_pretrained(folder)
    return folder


def clap(folder: Path) -> Path:
    t = transformers()
    torch.manual_seed(5)
    audio = {"patch_embeds_hidden_size": 8, "depths": [1, 1], "num_attention_heads": [2, 2]}
    audio |= {"hidden_size": 16, "num_hidden_layers": 2, "projection_dim": 20, "num_classes": 4}
    text = {**TEXT, "pad_token_id": 0, "type_vocab_size": 1, "projection_dim": 20}
    t.ClapModel(t.ClapConfig(audio_config=audio, text_config=text, projection_dim=20)).save_pretrained(folder)
    tokenizer(folder)
    t.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(folder)
    return folder


def pe_av_network() -> Any:
    """With ViT in place of the picture network of timm, which needs torchvision."""
    t = transformers()
    torch.manual_seed(6)
    part = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    part |= {"num_attention_heads": 2, "head_dim": 8}
    dac = {
        "encoder_hidden_size": 4,
        "downsampling_ratios": [2, 4, 8, 30],
        "hidden_size": 8,
        "codebook_dim": 4,
    }
    both = t.PeAudioVideoEncoderConfig(
        audio_config=t.PeAudioEncoderConfig(dac_config=dac, **part),
        video_config=t.PeVideoEncoderConfig(
            vision_config=t.ViTConfig(**_SIZE, **_IMAGE, num_labels=12), **part
        ),
        **part,
    )
    text = {"vocab_size": 99, "pad_token_id": 0, "max_position_embeddings": LONGEST, **_SIZE}
    net = t.PeAudioVideoModel(
        t.PeAudioVideoConfig(text_config=t.ModernBertConfig(**text), audio_video_config=both)
    )
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.endswith("logit_scale"):
                value.fill_(5.0 + len(name) % 3)
            if name.endswith("logit_bias"):
                value.fill_(-1.0)
    return net.eval()


def pe_av(folder: Path) -> Path:
    """All files but the weights."""
    t = transformers()
    tokenizer(folder)
    t.PeAudioFeatureExtractor().save_pretrained(folder)
    facts = {"size": {"height": 32, "width": 32}, "num_frames": 4}
    facts |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "video_preprocessor_config.json").write_text(json.dumps(facts))
    return folder


MODELS = {
    "clip": clip,
    "metaclip_2": metaclip,
    "siglip": siglip,
    "siglip2": siglip2,
    "xclip": xclip,
    "clap": clap,
}
