# SPDX-License-Identifier: Apache-2.0
"""grow.py - makes a larger model that begins with what a smaller one knows.

In: a GGUF file of this recipe (F16 or Q8_0). Out: last.pt and tokenizer.model for `train.py --resume`.
Wider: old weights keep their place, the columns that read new parts of the residual are zero, and so are those of new
heads and new hidden units. Deeper: a new layer writes nothing yet. So the larger model says almost what the smaller one
said. The norms' weights shrink by the root of the ratio of widths, since the new parts are small.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

import numpy as np
import torch
from sentencepiece import sentencepiece_model_pb2 as pb
from torch import Tensor

from export_gguf import LAYER_NAMES
from model import Config, Model

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


class Reader:
    """Reads a file of our own making; hostile files are the engine's business."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 4

    def number(self, code: str) -> int:
        value = struct.unpack_from("<" + code, self.data, self.at)[0]
        self.at += struct.calcsize("<" + code)
        return int(value) if code not in "fd" else value

    def text(self) -> str:
        size = self.number("Q")
        self.at += size
        return self.data[self.at - size : self.at].decode()

    def value(self, kind: int) -> object:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            item, count = self.number("I"), self.number("Q")
            return [self.value(item) for _ in range(count)]
        return self.number(SCALARS[kind])


def values(data: bytes, kind: int, count: int, offset: int) -> np.ndarray:
    if kind == 0:
        return np.frombuffer(data, np.float32, count, offset)
    if kind == 1:
        return np.frombuffer(data, np.float16, count, offset).astype(np.float32)
    if kind != 8:
        raise SystemExit(f"tensor type {kind} is not read here")
    rows = np.frombuffer(data, np.dtype([("scale", "<f2"), ("q", "i1", 32)]), count // 32, offset)
    return (rows["scale"].astype(np.float32)[:, None] * rows["q"]).reshape(-1)


def torch_name(name: str) -> str:
    if name == "token_embd.weight":
        return "embed.weight"
    if name == "output_norm.weight":
        return "norm.weight"
    part = {v: k for k, v in LAYER_NAMES.items()}
    _, index, which, _ = name.split(".")
    return f"blocks.{index}.{part[which]}.weight"


def read(path: Path) -> tuple[dict[str, object], dict[str, Tensor]]:
    """Metadata and weights of a GGUF file."""
    file = Reader(path.read_bytes())
    file.number("I")
    tensors, pairs = file.number("Q"), file.number("Q")
    meta = {}
    for _ in range(pairs):
        key = file.text()
        meta[key] = file.value(file.number("I"))
    infos = []
    for _ in range(tensors):
        name, rank = file.text(), file.number("I")
        dims = [file.number("Q") for _ in range(rank)]
        infos.append((name, dims, file.number("I"), file.number("Q")))
    base = -(-file.at // 32) * 32
    weights = {
        torch_name(name): torch.tensor(
            values(file.data, kind, int(np.prod(dims)), base + offset).reshape(dims[::-1]).copy()
        )
        for name, dims, kind, offset in infos
    }
    return meta, weights


def write_tokenizer(meta: dict[str, object], out: Path) -> None:
    """The SentencePiece model of the file's vocabulary."""
    model = pb.ModelProto()
    columns = (meta[f"tokenizer.ggml.{n}"] for n in ("tokens", "scores", "token_type"))
    for piece, score, kind in zip(*columns):  # type: ignore[call-overload]
        model.pieces.add(piece=piece, score=score, type=kind)
    spec = model.trainer_spec
    spec.model_type, spec.vocab_size, spec.byte_fallback, spec.split_digits = 2, len(model.pieces), True, True
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id, spec.unk_piece = 0, 1, 2, -1, "<unk>"
    norm = model.normalizer_spec
    norm.name, norm.add_dummy_prefix, norm.remove_extra_whitespaces, norm.escape_whitespaces = (
        "identity",
        False,
        False,
        True,
    )
    out.write_bytes(model.SerializeToString())


def widen(name: str, new: Tensor, old: Tensor) -> None:
    """Lays old into the beginning of new and stills what would disturb it."""
    if new.ndim == 1:
        ratio = (old.shape[0] / new.shape[0]) ** 0.5
        new.fill_(float(old.mean()) * ratio)
        new[: old.shape[0]] = old * ratio
        return
    rows, columns = old.shape
    part = name.split(".")[-2]
    if part == "embed":
        new.normal_(std=0.02)
    elif part in ("o", "down"):
        new.normal_(std=0.3 * float(old.std()))  # the new parts of the residual get something to hold
        new[:, columns:] = 0
    else:
        new.normal_(std=0.5 * float(old.std()))
        new[:rows, columns:] = 0
    new[:rows, :columns] = old


def grow(cfg: Config, old: dict[str, Tensor], old_layers: int, new_layer: list[int]) -> dict[str, Tensor]:
    """Weights of the larger shape; new_layer holds the places of the layers that are added."""
    weights = {k: v.clone() for k, v in Model(cfg).state_dict().items()}
    kept = [i for i in range(cfg.layers) if i not in new_layer]
    assert len(kept) == old_layers
    for index, source in enumerate(kept):
        for part in LAYER_NAMES:
            widen(f"{part}.weight", weights[f"blocks.{source}.{part}.weight"], old[f"blocks.{index}.{part}.weight"])
    for index in new_layer:
        for part in ("o", "down"):
            weights[f"blocks.{index}.{part}.weight"].zero_()
    for name in ("embed.weight", "norm.weight"):
        widen(name, weights[name], old[name])
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--from", dest="source", type=Path, required=True, help="the smaller model, a GGUF file")
    parser.add_argument("--dir", type=Path, required=True, help="folder that receives last.pt and tokenizer.model")
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--ffn", type=int, default=768)
    parser.add_argument("--new-layer", type=int, nargs="*", default=[3], help="places of added layers")
    args = parser.parse_args()
    torch.manual_seed(1)
    meta, old = read(args.source)
    head = int(meta["llama.embedding_length"]) // int(meta["llama.attention.head_count"])  # type: ignore[call-overload]
    layers = int(meta["llama.block_count"])  # type: ignore[call-overload]
    cfg = Config(
        vocab=old["embed.weight"].shape[0],
        dim=args.dim,
        layers=layers + len(args.new_layer),
        heads=args.dim // head,
        kv_heads=args.dim // head,
        ffn=args.ffn,
    )
    args.dir.mkdir(parents=True, exist_ok=True)
    write_tokenizer(meta, args.dir / "tokenizer.model")
    weights = grow(cfg, old, layers, args.new_layer)
    state = {"config": cfg.as_dict(), "weights": weights, "step": 0, "tokens": 0, "held_out": 0.0}
    torch.save(state, args.dir / "last.pt")
    print(f"{args.dir}: {sum(w.numel() for w in weights.values())} parameters")


if __name__ == "__main__":
    main()
