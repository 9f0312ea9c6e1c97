# SPDX-License-Identifier: Apache-2.0
"""train.py - trains the model on one CPU core, with conversations drawn afresh for every step.

In: tokenizer.model, a budget in steps or minutes. Out: <dir>/last.pt (weights and shape), a log on standard output.
Matrices are trained with Muon (momentum whose update is orthogonalised by Newton-Schulz steps), embedding and norms
with Adam; the rate warms up and falls along a cosine. Only the assistant's tokens count in the loss. Seeds are fixed;
with --steps the run is repeatable.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor

import corpus
from corpus import Corpus, Turn
from model import Config, Model
from tokenizer import IM_END, Tokenizer

Item = tuple[list[int], list[bool]]

PROBES: tuple[list[Turn], ...] = (
    [("user", "What is DSMIL?")],
    [("user", "yo tell me what dsmil is all about")],
    [("user", "Why was my request refused with E_KINETIC?")],
    [("user", "Failed password for hmeier from 198.51.100.23 port 22, repeated 412 times")],
    [("user", 'Triage this event:\n{"event":"port_scan","src_ip":"10.20.7.99","host":"erp-04","count":37}')],
    [("user", "What is the capital of Spain?")],
)


def orthogonalise(g: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards the nearest semi-orthogonal matrix."""
    x = g.T if g.shape[0] > g.shape[1] else g
    x = (x / (x.norm() + 1e-7)).bfloat16()  # the steps bring the rounding back
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return (x.T if g.shape[0] > g.shape[1] else x).float()


class Muon(torch.optim.Optimizer):
    def __init__(self, params: Sequence[Tensor], lr: float, momentum: float = 0.95, decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                buf = self.state[p].setdefault("buf", torch.zeros_like(p))
                buf.mul_(group["momentum"]).add_(p.grad)
                update = orthogonalise(p.grad + group["momentum"] * buf) * max(1.0, p.shape[0] / p.shape[1]) ** 0.5
                p.mul_(1 - group["lr"] * group["decay"]).add_(update, alpha=-group["lr"])


def batches(items: list[Item], limit: int = 3072, spare: float = 0.06) -> list[tuple[Tensor, Tensor]]:
    """Sorts by length and packs into padded batches of at most limit tokens, of which about spare are padding.

    Padding follows the text and is masked."""
    out: list[tuple[Tensor, Tensor]] = []
    group: list[Item] = []
    held = 0
    for item in sorted(items, key=lambda i: len(i[0])) + [None]:  # type: ignore[list-item]
        size = 0 if item is None else (len(group) + 1) * len(item[0])
        padded = size > limit or (held > 400 and size - held - len(item[0]) > spare * size) if item else True
        if group and padded:
            width = len(group[-1][0])
            out.append(
                (
                    torch.tensor([ids + [0] * (width - len(ids)) for ids, _ in group]),
                    torch.tensor([mask + [False] * (width - len(mask)) for _, mask in group]),
                )
            )
            group, held = [], 0
        if item is not None:
            group.append(item)
            held += len(item[0])
    return out


def draw(tok: Tokenizer, source: Corpus, rng: Random, count: int, copying: float) -> list[Item]:
    """count conversations; a share of them are lessons in copying, which helps most at the beginning."""
    return [
        tok.chat(corpus.copy_turns(rng) if rng.random() < copying else source.conversation(rng))
        for _ in range(count)
    ]


@torch.no_grad()
def held_out(model: Model, items: list[Item]) -> float:
    total, count = 0.0, 0
    for ids, mask in batches(items):
        loss, n = model.loss(ids, mask)
        total, count = total + float(loss), count + n
    return total / count


def rate(progress: float, warm: float = 0.02) -> float:
    return (
        progress / warm
        if progress < warm
        else 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm))) * 0.98 + 0.005
    )


def save(model: Model, out: Path, step: int, tokens: int, loss: float) -> None:
    torch.save(
        {
            "config": model.cfg.as_dict(),
            "weights": model.state_dict(),
            "step": step,
            "tokens": tokens,
            "held_out": loss,
        },
        out / "last.tmp",
    )
    os.replace(out / "last.tmp", out / "last.pt")


def run(args: argparse.Namespace) -> None:
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    tok = Tokenizer(args.dir / "tokenizer.model")
    state = torch.load(args.dir / "last.pt", weights_only=True) if args.resume else None
    shape = Config(tok.sp.GetPieceSize(), args.dim, args.layers, args.heads, args.heads, args.ffn)
    model = Model(Config(**state["config"]) if state else shape)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and not n.startswith("embed")]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or n.startswith("embed")]
    optimizers = [
        (Muon(matrices, args.lr), args.lr),
        (torch.optim.Adam(others, lr=args.lr_embed, betas=(0.9, 0.98)), args.lr_embed),
    ]
    source, rng = Corpus("train"), Random(args.seed)
    test = draw(tok, Corpus("test"), Random(99), 300, 0.0)
    print(f"{sum(p.numel() for p in model.parameters())} parameters, vocabulary {model.cfg.vocab}", flush=True)
    begin = saved = time.monotonic()
    step = first = tokens = 0
    if state:
        model.load_state_dict(state["weights"])
        step = first = state["step"]
        tokens = state["tokens"]
    begun, shown, shown_count = tokens, 0.0, 0
    while True:
        now = time.monotonic()
        spent = max(
            (step - first) / args.steps if args.steps else 0.0,
            (now - begin) / (60 * args.minutes) if args.minutes else 0.0,
        )
        progress = args.from_progress + (1 - args.from_progress) * spent
        if progress >= 1 or now - saved > args.save_every * 60:
            saved, score = now, held_out(model, test)
            save(model, args.dir, step, tokens, score)
            print(f"== step {step} minutes {(now - begin) / 60:.1f} tokens {tokens} held-out {score:.4f}", flush=True)
            for probe in PROBES:
                print(f"-- {probe[-1][1]}\n{tok.decode(model.generate(tok.prompt(probe), IM_END, 160))}", flush=True)
        if progress >= 1:
            return
        packs = batches(draw(tok, source, rng, args.batch, 0.35 if progress < 0.12 and not args.resume else 0.0))
        count = sum(int(mask[:, 1:].sum()) for _, mask in packs)
        for ids, mask in packs:
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bfloat16):
                loss, n = model.loss(ids, mask)
            (loss.float() / count).backward()
            shown, shown_count, tokens = shown + float(loss.detach()), shown_count + n, tokens + ids.numel()
        torch.nn.utils.clip_grad_norm_(others, 1.0)
        for optimizer, lr in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * rate(progress)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 20 == 0 or step - first == 5:
            print(
                f"step {step} progress {progress:.3f} loss {shown / shown_count:.4f} tokens {tokens} "
                f"tok/s {(tokens - begun) / (time.monotonic() - begin):.0f}",
                flush=True,
            )
            shown, shown_count = 0.0, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder with tokenizer.model; receives last.pt")
    parser.add_argument("--steps", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--resume", action="store_true", help="go on from last.pt")
    parser.add_argument("--from-progress", type=float, default=0.0, help="where on the schedule a resumed run begins")
    parser.add_argument("--batch", type=int, default=32, help="conversations a step")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--ffn", type=int, default=768)
    parser.add_argument("--lr", type=float, default=0.011)
    parser.add_argument("--lr-embed", type=float, default=0.0016)
    parser.add_argument("--bfloat16", action="store_true", help="multiply in bfloat16; weights stay float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=float, default=5.0, help="minutes")
    args = parser.parse_args()
    if not args.steps and not args.minutes:
        parser.error("give --steps or --minutes")
    run(args)


if __name__ == "__main__":
    main()
