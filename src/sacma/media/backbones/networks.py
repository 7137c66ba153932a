"""The networks of the benchmarks' published features, from their papers, named as in the released weights.

    C3D           Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", ICCV 2015
    VGGish        Hershey et al., "CNN Architectures for Large-Scale Audio Classification", ICASSP 2017
    R(2+1)D-18    Tran et al., "A Closer Look at Spatiotemporal Convolutions", CVPR 2018
    ResNet-9      He et al., "Deep Residual Learning", CVPR 2016, one block a stage, one input channel

Each ends at its features: C3D at fc7 after the ReLU, VGGish at its embedding, the others at the average over
the last feature map.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from sacma.checkpoints import read_checkpoint
from sacma.errors import SacmaError


class C3D(nn.Module):
    """(B, 3, 16, 112, 112) -> (B, 4096)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 3, padding=1)
        self.conv2 = nn.Conv3d(64, 128, 3, padding=1)
        self.conv3a, self.conv3b = nn.Conv3d(128, 256, 3, padding=1), nn.Conv3d(256, 256, 3, padding=1)
        self.conv4a, self.conv4b = nn.Conv3d(256, 512, 3, padding=1), nn.Conv3d(512, 512, 3, padding=1)
        self.conv5a, self.conv5b = nn.Conv3d(512, 512, 3, padding=1), nn.Conv3d(512, 512, 3, padding=1)
        self.pool = nn.MaxPool3d(2)
        self.pool1 = nn.MaxPool3d((1, 2, 2))
        self.pool5 = nn.MaxPool3d(2, padding=(0, 1, 1))
        self.fc6, self.fc7 = nn.Linear(8192, 4096), nn.Linear(4096, 4096)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool1(self.conv1(x).relu())  # (B, 64, 16, 56, 56)
        x = self.pool(self.conv2(x).relu())  # (B, 128, 8, 28, 28)
        x = self.pool(self.conv3b(self.conv3a(x).relu()).relu())  # (B, 256, 4, 14, 14)
        x = self.pool(self.conv4b(self.conv4a(x).relu()).relu())  # (B, 512, 2, 7, 7)
        x = self.pool5(self.conv5b(self.conv5a(x).relu()).relu())  # (B, 512, 1, 4, 4)
        return self.fc7(self.fc6(x.flatten(1)).relu()).relu()


class VGGish(nn.Module):
    """(B, 1, 96, 64) -> (B, 128)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        entering = 1
        for leaving, last in ((64, True), (128, True), (256, False), (256, True), (512, False), (512, True)):
            layers += [nn.Conv2d(entering, leaving, 3, padding=1), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if last else []
            entering = leaving
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            *(nn.Linear(512 * 4 * 6, 4096), nn.ReLU()),
            *(nn.Linear(4096, 4096), nn.ReLU()),
            *(nn.Linear(4096, 128), nn.ReLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        # The weights came from TensorFlow, where channels are last.
        return self.embeddings(self.features(x).permute(0, 2, 3, 1).flatten(1))


class _Block2d(nn.Module):
    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(entering, leaving, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(leaving)
        self.conv2 = nn.Conv2d(leaving, leaving, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(leaving)
        self.downsample = None
        if entering != leaving or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(entering, leaving, 1, stride, bias=False), nn.BatchNorm2d(leaving)
            )

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.downsample is None else self.downsample(x)
        return (self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + around).relu()


class ResNet9(nn.Module):
    """(B, 1, bands, frames) -> (B, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = nn.Sequential(_Block2d(64, 64, 1))
        self.layer2 = nn.Sequential(_Block2d(64, 128, 2))
        self.layer3 = nn.Sequential(_Block2d(128, 256, 2))
        self.layer4 = nn.Sequential(_Block2d(256, 512, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean(dim=(2, 3))


def _conv2plus1d(entering: int, between: int, leaving: int, stride: int) -> nn.Sequential:
    """A convolution in space and one in time, together about as many weights as one in both."""
    return nn.Sequential(
        nn.Conv3d(entering, between, (1, 3, 3), (1, stride, stride), (0, 1, 1), bias=False),
        nn.BatchNorm3d(between),
        nn.ReLU(),
        nn.Conv3d(between, leaving, (3, 1, 1), (stride, 1, 1), (1, 0, 0), bias=False),
    )


class _Block3d(nn.Module):
    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        between = entering * leaving * 27 // (entering * 9 + 3 * leaving)
        first = _conv2plus1d(entering, between, leaving, stride)
        self.conv1 = nn.Sequential(first, nn.BatchNorm3d(leaving), nn.ReLU())
        self.conv2 = nn.Sequential(_conv2plus1d(leaving, between, leaving, 1), nn.BatchNorm3d(leaving))
        self.downsample = None
        if entering != leaving or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv3d(entering, leaving, 1, stride, bias=False), nn.BatchNorm3d(leaving)
            )

    def forward(self, x: Tensor) -> Tensor:
        around = x if self.downsample is None else self.downsample(x)
        return (self.conv2(self.conv1(x)) + around).relu()


class R2Plus1D18(nn.Module):
    """(B, 3, F, 112, 112) -> (B, 512)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 45, (1, 7, 7), (1, 2, 2), (0, 3, 3), bias=False),
            nn.BatchNorm3d(45),
            nn.ReLU(),
            nn.Conv3d(45, 64, (3, 1, 1), padding=(1, 0, 0), bias=False),
            nn.BatchNorm3d(64),
            nn.ReLU(),
        )
        self.layer1 = nn.Sequential(_Block3d(64, 64, 1), _Block3d(64, 64, 1))
        self.layer2 = nn.Sequential(_Block3d(64, 128, 2), _Block3d(128, 128, 1))
        self.layer3 = nn.Sequential(_Block3d(128, 256, 2), _Block3d(256, 256, 1))
        self.layer4 = nn.Sequential(_Block3d(256, 512, 2), _Block3d(512, 512, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x))))).mean(dim=(2, 3, 4))


def load_released(
    net: nn.Module, path: Path, *, prefix: str = "", other_names: Mapping[str, str] | None = None
) -> nn.Module:
    """The network with released weights, ready for use.

    Args:
        net: the network.
        path: file that ``torch.save`` wrote of a state dict, alone or under ``model``; nothing in it is run.
        prefix: what stands before the names of this network there; ``module.`` before that is left out.
        other_names: other names of modules that the file may use, each with ours.

    Raises:
        SacmaError: the file is missing or damaged, or a weight is missing or of another shape.
    """
    state = {key.removeprefix("module."): value for key, value in read_checkpoint(path).state.items()}
    state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    for theirs, ours in (other_names or {}).items():
        for kind in ("weight", "bias"):
            if f"{theirs}.{kind}" in state:
                state[f"{ours}.{kind}"] = state.pop(f"{theirs}.{kind}")
    wanted = net.state_dict()
    for key, value in wanted.items():
        if key not in state or state[key].shape != value.shape:
            found = f"of shape {tuple(state[key].shape)}" if key in state else "missing"
            raise SacmaError(
                f"{path}: no weights of {type(net).__name__}: {prefix}{key} is {found}, "
                f"expected {tuple(value.shape)}"
            )
    net.load_state_dict({key: state[key] for key in wanted})
    net.eval()
    for weight in net.parameters():
        weight.requires_grad_(False)
    return net
