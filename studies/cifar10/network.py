"""A small class-conditional U-Net for 32 x 32 images, readable in one sitting, in the manner of DDPM++ and EDM."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, scaled_dot_product_attention, silu

SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"channels": (8, 8), "blocks": 1, "attention": (False, True)},
    "small": {"channels": (16, 48, 96), "blocks": 1, "attention": (False, False, True)},
    "base": {"channels": (64, 128, 192), "blocks": 2, "attention": (False, True, True)},
}
"""Arguments of UNet; tiny learns nothing of use and is there to try things with. Width is spent where images are small:
at full resolution a channel costs sixteen times more."""


class UNet(nn.Module):
    """F(x, noise, label): images (n, 3, 32, 32), noise levels (n,) and labels (n,) to images (n, 3, 32, 32).

    channels: width at 32 x 32, 16 x 16, ...; blocks: residual blocks a resolution on the way down, and on the way up;
    attention: at which resolutions a block is followed by self-attention; labels: the number of classes, and the index
    of the null label, which stands for "no label". noise: a smooth function of the log-SNR of order one.
    Raises ValueError for sizes that do not fit together. Source: ronneberger2015unet; song2020score, appendix H;
    karras2022edm, appendix F.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int],
        blocks: int,
        attention: Sequence[bool],
        labels: int = 10,
        dropout: float = 0.0,
    ):
        super().__init__()
        if len(channels) != len(attention) or not 1 <= len(channels) <= 4:
            raise ValueError(
                f"channels and attention must have one entry for each of 1 to 4 resolutions; "
                f"got {len(channels)} and {len(attention)}."
            )
        if any(c < 8 or c % 8 for c in channels) or blocks < 1 or labels < 1:
            raise ValueError(
                f"channels must be multiples of 8, blocks and labels positive; "
                f"got channels={tuple(channels)}, blocks={blocks}, labels={labels}."
            )
        width = 4 * channels[0]
        self.labels = labels
        self.noise = NoiseEmbedding(channels[0], width)
        self.label = nn.Embedding(labels + 1, width)
        self.enter = nn.Conv2d(3, channels[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        here, skips = channels[0], []
        for i, (wide, attends) in enumerate(zip(channels, attention, strict=True)):
            if i:
                self.down.append(Resample(here, wide, up=False))
            for _ in range(blocks):
                self.down.append(Block(wide, wide, width, attends=attends, dropout=dropout))
                skips.append(wide)
            here = wide
        self.middle = Block(here, here, width, attends=attention[-1], dropout=dropout)
        for i in reversed(range(len(channels))):
            for _ in range(blocks):
                self.up.append(Block(here + skips.pop(), channels[i], width, attends=attention[i], dropout=dropout))
                here = channels[i]
            if i:
                self.up.append(Resample(here, channels[i - 1], up=True))
                here = channels[i - 1]
        self.leave = nn.Sequential(nn.GroupNorm(8, here), nn.SiLU(), nn.Conv2d(here, 3, 3, padding=1))
        zero(self.leave[-1])
        nn.init.zeros_(self.label.weight)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None = None) -> Tensor:
        """label: (n,) in 0 ... labels, or None for the null label everywhere."""
        if label is None:
            label = torch.full((len(x),), self.labels, dtype=torch.long, device=x.device)
        at = silu(self.noise(noise) + self.label(label))
        x = self.enter(x)
        skips: list[Tensor] = []
        for part in self.down:
            x = part(x, at)
            if isinstance(part, Block):
                skips.append(x)
        x = self.middle(x, at)
        for part in self.up:
            x = part(x if isinstance(part, Resample) else torch.cat([x, skips.pop()], 1), at)
        return self.leave(x)


class NoiseEmbedding(nn.Module):
    """Cosines and sines of the noise level at geometric frequencies, and two layers. (n,) to (n, width)."""

    rates: Tensor

    def __init__(self, frequencies: int, width: int):
        super().__init__()
        rates = torch.exp(torch.linspace(math.log(0.3), math.log(30.0), frequencies))
        self.register_buffer("rates", rates, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, noise: Tensor) -> Tensor:
        angles = noise.unsqueeze(-1) * self.rates.to(noise.dtype)
        return self.layers(torch.cat([angles.cos(), angles.sin()], -1))


class Block(nn.Module):
    """x + conv(silu(scale norm(conv(silu(norm(x)))) + shift)), scale and shift from the embedding, then attention."""

    def __init__(self, wide_in: int, wide_out: int, width: int, *, attends: bool, dropout: float):
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(8, wide_in), nn.GroupNorm(8, wide_out)
        self.conv_in = nn.Conv2d(wide_in, wide_out, 3, padding=1)
        self.conv_out = zero(nn.Conv2d(wide_out, wide_out, 3, padding=1))
        self.modulate = nn.Linear(width, 2 * wide_out)
        self.dropout = nn.Dropout(dropout)
        self.skip = nn.Identity() if wide_in == wide_out else nn.Conv2d(wide_in, wide_out, 1)
        self.attention = Attention(wide_out) if attends else nn.Identity()

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        scale, shift = self.modulate(at)[:, :, None, None].chunk(2, 1)
        y = self.conv_in(silu(self.norm_in(x)))
        y = silu(torch.addcmul(shift, self.norm_out(y), 1 + scale))
        return self.attention(self.skip(x) + self.conv_out(self.dropout(y)))


class Attention(nn.Module):
    """x + self-attention over the pixels, one head."""

    def __init__(self, wide: int):
        super().__init__()
        self.norm, self.read, self.write = nn.GroupNorm(8, wide), nn.Linear(wide, 3 * wide), zero(nn.Linear(wide, wide))

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = self.read(pixels).chunk(3, -1)
        found = self.write(scaled_dot_product_attention(q, k, v))
        return x + found.transpose(1, 2).reshape(x.shape)


class Resample(nn.Module):
    """Half or twice the resolution, and another width."""

    def __init__(self, wide_in: int, wide_out: int, *, up: bool):
        super().__init__()
        self.up = up
        self.conv = nn.Conv2d(wide_in, wide_out, 1) if up else nn.Conv2d(wide_in, wide_out, 3, stride=2, padding=1)

    def forward(self, x: Tensor, at: Tensor) -> Tensor:
        # the product with the weights commutes with repetition, and is cheaper before it
        return interpolate(self.conv(x), scale_factor=2, mode="nearest") if self.up else self.conv(x)


def zero(module: nn.Module) -> nn.Module:
    """The module with all weights zero: a block begins as the identity."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
