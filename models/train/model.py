# SPDX-License-Identifier: Apache-2.0
"""model.py - the network that is trained: a LLaMA-architecture decoder in plain PyTorch.

In: token ids (batch, time). Out: hidden states or logits. Conventions are those of a GGUF "llama" file, so that
export is a plain copy: RMSNorm before each block, rotary embedding on adjacent pairs (2i, 2i+1),
SwiGLU, tied input and output embedding.
Does not do: inference with a cache (the C engine does that), sampling beyond a small helper for checks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Config:
    """Shape of the model; every dimension that is quantised is a multiple of 32."""

    vocab: int = 1536
    dim: int = 256
    layers: int = 6
    heads: int = 8
    kv_heads: int = 8
    ffn: int = 768
    context: int = 1024
    theta: float = 10000.0
    eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    def as_dict(self) -> dict[str, int | float]:
        return asdict(self)


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)


def rotary_tables(cfg: Config) -> tuple[Tensor, Tensor]:
    """Cosine and sine, (context, head_dim / 2)."""
    freq = cfg.theta ** (-torch.arange(0, cfg.head_dim, 2, dtype=torch.float32) / cfg.head_dim)
    angle = torch.outer(torch.arange(cfg.context, dtype=torch.float32), freq)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates adjacent pairs of x (batch, heads, time, head_dim)."""
    pair = x.unflatten(-1, (-1, 2))
    a, b = pair[..., 0], pair[..., 1]
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        kv = cfg.kv_heads * cfg.head_dim
        self.attn_norm = RMSNorm(cfg.dim, cfg.eps)
        self.q = nn.Linear(cfg.dim, cfg.dim, bias=False)
        self.k = nn.Linear(cfg.dim, kv, bias=False)
        self.v = nn.Linear(cfg.dim, kv, bias=False)
        self.o = nn.Linear(cfg.dim, cfg.dim, bias=False)
        self.ffn_norm = RMSNorm(cfg.dim, cfg.eps)
        self.gate = nn.Linear(cfg.dim, cfg.ffn, bias=False)
        self.up = nn.Linear(cfg.dim, cfg.ffn, bias=False)
        self.down = nn.Linear(cfg.ffn, cfg.dim, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        cfg = self.cfg
        b, t, _ = x.shape
        h = self.attn_norm(x)
        q = rotate(self.q(h).view(b, t, cfg.heads, -1).transpose(1, 2), cos, sin)
        k = rotate(self.k(h).view(b, t, cfg.kv_heads, -1).transpose(1, 2), cos, sin)
        v = self.v(h).view(b, t, cfg.kv_heads, -1).transpose(1, 2)
        with torch.autocast("cpu", enabled=False):  # on a CPU attention over short texts is faster in float32
            a = F.scaled_dot_product_attention(
                q.float(), k.float(), v.float(), is_causal=True, enable_gqa=cfg.kv_heads != cfg.heads
            )
        x = x + self.o(a.transpose(1, 2).reshape(b, t, -1))
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Model(nn.Module):
    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg
        self.embed = nn.Embedding(cfg.vocab, cfg.dim)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.layers))
        self.norm = RMSNorm(cfg.dim, cfg.eps)
        cos, sin = rotary_tables(cfg)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self._init(cfg)

    def _init(self, cfg: Config) -> None:
        nn.init.normal_(self.embed.weight, std=0.05)
        for name, p in self.named_parameters():
            if p.ndim == 2 and not name.startswith("embed"):
                nn.init.normal_(p, std=cfg.dim**-0.5 * (0.3 if name.endswith(("o.weight", "down.weight")) else 0.7))

    def hidden(self, ids: Tensor) -> Tensor:
        """Normalised last hidden states, (batch, time, dim)."""
        t = ids.shape[1]
        cos: Tensor = self.get_buffer("cos")[:t]
        sin: Tensor = self.get_buffer("sin")[:t]
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.norm(x)

    def loss(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, int]:
        """Summed cross entropy of the tokens that mask marks, and their number; only those are projected."""
        h = self.hidden(ids[:, :-1])
        want = mask[:, 1:]
        with torch.autocast("cpu", enabled=False):
            logits = h[want].float() @ self.embed.weight.T
        return F.cross_entropy(logits, ids[:, 1:][want], reduction="sum"), int(want.sum())

    @torch.no_grad()
    def generate(self, ids: list[int], stop: int, count: int, temperature: float = 0.0, seed: int = 0) -> list[int]:
        """Continues ids until stop; without a cache, for checks only."""
        gen = torch.Generator().manual_seed(seed)
        out: list[int] = []
        for _ in range(count):
            h = self.hidden(torch.tensor([(ids + out)[-self.cfg.context :]]))[0, -1]
            logits = h @ self.embed.weight.T
            if temperature <= 0:
                nxt = int(logits.argmax())
            else:
                nxt = int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=gen))
            if nxt == stop:
                break
            out.append(nxt)
        return out
