"""CNN14 (Kong et al. 2020, PANNs, arXiv 1912.10211), the audio encoder of Microsoft CLAP 2022.

Names are those of its authors' checkpoints (github.com/qiuqiangkong/audioset_tagging_cnn); sizes are inferred
from the weights.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

_BLOCKS = 6


class Cnn14(nn.Module):
    """Log-mel (B, 1, frames, bins) → (B, width). KeyError if a weight that determines a size is missing."""

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__()
        self.bn0 = nn.BatchNorm2d(len(weights["bn0.weight"]))
        channels = 1
        for block in range(1, _BLOCKS + 1):
            given, channels = channels, len(weights[f"conv_block{block}.conv1.weight"])
            self.add_module(f"conv_block{block}", _ConvBlock(given, channels))
        self.width = len(weights["fc1.weight"])
        self.fc1 = nn.Linear(channels, self.width)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.bn0(mel.transpose(1, 3)).transpose(1, 3)
        for block in range(1, _BLOCKS + 1):
            x = self.get_submodule(f"conv_block{block}")(x)
            if block < _BLOCKS:
                x = avg_pool2d(x, 2)
        x = x.mean(dim=3)
        return torch.relu(self.fc1(x.amax(dim=2) + x.mean(dim=2)))


class _ConvBlock(nn.Module):
    def __init__(self, given: int, channels: int):
        super().__init__()
        self.conv1 = nn.Conv2d(given, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)))
