"""The same decoder and the same step in PyTorch, as its users write it: the peer of `train.py`.

Pre-RMSNorm, RoPE, grouped-query attention through PyTorch's own fused kernel, SwiGLU, tied head;
AdamW in its fused form, gradients clipped by global norm. Float32.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from shapelaw.scaling.architecture import Architecture
from shapelaw.sweeps.training import schedule

ROPE_BASE = 10_000.0


class Block(nn.Module):
    """One transformer block."""

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.a = a
        query, key_value = a.n_heads * a.head_dim, a.n_kv_heads * a.head_dim
        self.attention_norm = nn.RMSNorm(a.d_model, eps=1e-5)
        self.query_key_value = nn.Linear(a.d_model, query + 2 * key_value, bias=False)
        self.attention_out = nn.Linear(query, a.d_model, bias=False)
        self.mlp_norm = nn.RMSNorm(a.d_model, eps=1e-5)
        self.gate_up = nn.Linear(a.d_model, 2 * a.d_ff, bias=False)
        self.down = nn.Linear(a.d_ff, a.d_model, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Residual stream [B, T, D] after the block."""
        a = self.a
        batch, length, _ = x.shape
        heads = self.query_key_value(self.attention_norm(x))
        heads = heads.view(batch, length, -1, a.head_dim).transpose(1, 2)
        query, key, value = heads.split([a.n_heads, a.n_kv_heads, a.n_kv_heads], dim=1)
        mixed = functional.scaled_dot_product_attention(
            _rotate(query, cos, sin),
            _rotate(key, cos, sin),
            value,
            is_causal=True,
            enable_gqa=a.n_heads != a.n_kv_heads,
        )
        x = x + self.attention_out(mixed.transpose(1, 2).reshape(batch, length, -1))
        gate, up = self.gate_up(self.mlp_norm(x)).chunk(2, dim=-1)
        return x + self.down(functional.silu(gate) * up)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Decoder(nn.Module):
    """The whole model; gives the mean loss of sequences [B, T + 1]."""

    cos: Tensor
    sin: Tensor

    def __init__(self, a: Architecture, length: int) -> None:
        super().__init__()
        self.a = a
        self.embedding = nn.Embedding(a.vocab_size, a.d_model)
        nn.init.normal_(self.embedding.weight, std=a.d_model**-0.5)
        self.blocks = nn.ModuleList([Block(a) for _ in range(a.n_blocks)])
        self.norm = nn.RMSNorm(a.d_model, eps=1e-5)
        frequency = ROPE_BASE ** (-torch.arange(0, a.head_dim, 2).float() / a.head_dim)
        angle = torch.arange(length).float()[:, None] * frequency
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, sequences: Tensor) -> Tensor:
        """Mean loss, nats a token."""
        x = self.embedding(sequences[:, :-1])
        for block in self.blocks:
            for _ in range(self.a.sharing):
                x = block(x, self.cos, self.sin)
        logits = self.norm(x) @ self.embedding.weight.T
        return functional.cross_entropy(logits.flatten(0, 1), sequences[:, 1:].flatten())


class Stepper:
    """A model with its optimizer, one step at a time."""

    def __init__(self, a: Architecture, length: int, compiled: bool) -> None:
        torch.manual_seed(0)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.model = Decoder(a, length).to(self.device)
        self.loss = torch.compile(self.model) if compiled else self.model
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(),
            lr=schedule.BASE_LEARNING_RATES[schedule.TRAINER_VERSION],
            fused=True,
            betas=(schedule.BETA1, schedule.BETA2),
            weight_decay=schedule.WEIGHT_DECAY,
        )

    def step(self, sequences: Tensor) -> Tensor:
        """One step on sequences [B, T + 1]; the loss, not waited for."""
        autocast = torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda")
        with autocast:
            loss: Tensor = self.loss(sequences)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), schedule.GRADIENT_CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()
