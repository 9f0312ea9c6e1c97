# SPDX-License-Identifier: Apache-2.0
"""export_gguf.py - writes the trained weights and the tokenizer as an F16 GGUF file (version 3).

In: last.pt and tokenizer.model. Out: one GGUF file whose matrices are F16 and whose norms are F32, for any engine that
reads LLaMA models.
Does not do: quantisation; that is the project's own `dsmil-quantize`.
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

import numpy as np
import torch

from tokenizer import BOS, CHATML, IM_END, Tokenizer

ALIGNMENT = 32
U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
LAYER_NAMES = {
    "attn_norm": "attn_norm",
    "q": "attn_q",
    "k": "attn_k",
    "v": "attn_v",
    "o": "attn_output",
    "ffn_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, items: list[bytes]) -> bytes:
    return struct.pack("<IQ", kind, len(items)) + b"".join(items)


def vocabulary(tok: Tokenizer) -> list[bytes]:
    """Pieces, scores and types as a "llama" tokenizer wants them."""
    sp = tok.sp
    names, scores, kinds = [], [], []
    for i in range(sp.GetPieceSize()):
        names.append(text(sp.IdToPiece(i)))
        scores.append(struct.pack("<f", sp.GetScore(i)))
        kind = UNKNOWN if sp.IsUnknown(i) else CONTROL if sp.IsControl(i) else BYTE if sp.IsByte(i) else NORMAL
        kinds.append(struct.pack("<i", kind))
    return [
        pair("tokenizer.ggml.model", STRING, text("llama")),
        pair("tokenizer.ggml.tokens", ARRAY, array(STRING, names)),
        pair("tokenizer.ggml.scores", ARRAY, array(F32, scores)),
        pair("tokenizer.ggml.token_type", ARRAY, array(I32, kinds)),
        pair("tokenizer.ggml.bos_token_id", U32, struct.pack("<I", BOS)),
        pair("tokenizer.ggml.eos_token_id", U32, struct.pack("<I", IM_END)),
        pair("tokenizer.ggml.unknown_token_id", U32, struct.pack("<I", 0)),
        pair("tokenizer.ggml.add_bos_token", BOOL, b"\x01"),
        pair("tokenizer.ggml.add_eos_token", BOOL, b"\x00"),
        pair("tokenizer.ggml.add_space_prefix", BOOL, b"\x00"),
        pair("tokenizer.chat_template", STRING, text(CHATML)),
    ]


def metadata(cfg: dict[str, float], tok: Tokenizer, version: str) -> list[bytes]:
    def number(key: str, value: float) -> bytes:
        return pair(key, U32, struct.pack("<I", int(value)))

    return [
        pair("general.architecture", STRING, text("llama")),
        pair("general.name", STRING, text("dsmil-small")),
        pair("general.version", STRING, text(version)),
        pair("general.author", STRING, text("The DSMIL authors")),
        pair("general.license", STRING, text("apache-2.0")),
        pair(
            "general.description",
            STRING,
            text("Small model in the DSMIL box: facts about DSMIL, short SOC triage notes."),
        ),
        number("general.file_type", 1),
        number("general.alignment", ALIGNMENT),
        number("llama.context_length", cfg["context"]),
        number("llama.embedding_length", cfg["dim"]),
        number("llama.block_count", cfg["layers"]),
        number("llama.feed_forward_length", cfg["ffn"]),
        number("llama.attention.head_count", cfg["heads"]),
        number("llama.attention.head_count_kv", cfg["kv_heads"]),
        number("llama.rope.dimension_count", cfg["dim"] // cfg["heads"]),
        number("llama.vocab_size", cfg["vocab"]),
        pair("llama.attention.layer_norm_rms_epsilon", F32, struct.pack("<f", cfg["eps"])),
        pair("llama.rope.freq_base", F32, struct.pack("<f", cfg["theta"])),
        *vocabulary(tok),
    ]


def gguf_name(name: str) -> str:
    """Name of a tensor in the file. The output matrix is the embedding, so no output.weight is written."""
    if name == "embed.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, index, part, _ = name.split(".")
    return f"blk.{index}.{LAYER_NAMES[part]}.weight"


def write(out: Path, weights: dict[str, torch.Tensor], meta: list[bytes]) -> None:
    infos, blobs, offset = [], [], 0
    for name, value in weights.items():
        data = value.numpy().astype(np.float16 if value.ndim == 2 else np.float32)
        dims = b"".join(struct.pack("<Q", d) for d in reversed(data.shape))
        infos.append(
            text(gguf_name(name))
            + struct.pack("<I", data.ndim)
            + dims
            + struct.pack("<IQ", int(data.ndim == 2), offset)
        )
        raw = data.tobytes()
        raw += bytes(-len(raw) % ALIGNMENT)
        blobs.append(raw)
        offset += len(raw)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(meta)) + b"".join(meta) + b"".join(infos)
    out.write_bytes(head + bytes(-len(head) % ALIGNMENT) + b"".join(blobs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="folder with last.pt and tokenizer.model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--version", default="1")
    args = parser.parse_args()
    saved = torch.load(args.dir / "last.pt", map_location="cpu", weights_only=True)
    tok = Tokenizer(args.dir / "tokenizer.model")
    write(args.out, saved["weights"], metadata(saved["config"], tok, args.version))
    print(f"{args.out}: {args.out.stat().st_size} bytes, step {saved['step']}, held-out {saved['held_out']:.4f}")


if __name__ == "__main__":
    main()
