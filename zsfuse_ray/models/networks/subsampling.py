"""The convolutions before Zipformer2: log-mel at 100 Hz to frames at 50 Hz, for inference.

Ported from egs/librispeech/ASR/zipformer/subsampling.py in github.com/k2-fsa/icefall (Xiaomi Corp.,
Apache-2.0), with its names of the weights. The padding of its 7 × 7 convolution at the end of the features is
one reason why zeros after a clip change its frames.
"""

from torch import Tensor, nn

from zsfuse_ray.models.networks.zipformer import BiasNorm, swoosh_l, swoosh_r

FEWEST_FRAMES = 9  # of log-mel, for one output frame
_CHANNELS = (8, 32, 128)


class Subsampling(nn.Module):
    """Log-mel (B, T, bins) → frames (B, (T − 7) // 2, dim), for at least FEWEST_FRAMES."""

    def __init__(self, bins: int, dim: int):
        super().__init__()
        first, second, third = _CHANNELS
        # the layers in between are the reference's identities and activations
        self.conv = nn.ModuleDict(
            {
                "0": nn.Conv2d(1, first, 3, padding=(0, 1)),
                "4": nn.Conv2d(first, second, 3, stride=2),
                "7": nn.Conv2d(second, third, 3, stride=(1, 2)),
            }
        )
        self.convnext = ConvNeXt(third)
        self.out = nn.Linear(((bins - 1) // 2 - 1) // 2 * third, dim)
        self.out_norm = BiasNorm(dim)

    def forward(self, mel: Tensor) -> Tensor:
        x = mel[:, None]
        for convolution in self.conv.values():
            x = swoosh_r(convolution(x))
        x = self.convnext(x)
        return self.out_norm(self.out(x.transpose(1, 2).flatten(2)))


class ConvNeXt(nn.Module):
    """A block of ConvNeXt (Liu et al. 2022, arXiv 2201.03545) without normalisation."""

    def __init__(self, channels: int):
        super().__init__()
        self.depthwise_conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.pointwise_conv1 = nn.Conv2d(channels, 3 * channels, 1)
        self.pointwise_conv2 = nn.Conv2d(3 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.pointwise_conv2(swoosh_l(self.pointwise_conv1(self.depthwise_conv(x))))
