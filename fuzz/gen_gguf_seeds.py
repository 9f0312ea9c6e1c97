#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gen_gguf_seeds.py - writes the seed files of fuzz_gguf: the smallest models of each kind that load.

In: the folder to write to (fuzz/corpus/fuzz_gguf). Run by hand when the reader learns something new; the files are
kept in the tree.
"""
import struct
import sys
from pathlib import Path

U32, F32, BOOL, STR, ARR, I32 = 4, 6, 7, 8, 9, 5
TENSOR_F32, TENSOR_F16, TENSOR_Q4_0, TENSOR_Q8_0, TENSOR_BF16 = 0, 1, 2, 8, 30
TENSOR_Q4_K, TENSOR_Q5_K, TENSOR_Q6_K = 12, 13, 14
# Values of a block, and what it is made of: "e" a scale as binary16, else a number of bytes.
BLOCKS = {TENSOR_Q4_0: (32, ["e", 16]), TENSOR_Q8_0: (32, ["e", 32]), TENSOR_Q4_K: (256, ["e", "e", 12, 128]),
          TENSOR_Q5_K: (256, ["e", "e", 12, 32, 128]), TENSOR_Q6_K: (256, [128, 64, 16, "e"])}
NARROW = 32  # rows where a row's length is bound to 256


def text(s: str) -> bytes:
    b = s.encode()
    return struct.pack("<Q", len(b)) + b


def value(kind: int, v) -> bytes:
    if kind == STR:
        return text(v)
    if kind == ARR:
        of, items = v
        return struct.pack("<IQ", of, len(items)) + b"".join(value(of, i) for i in items)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?"}[kind], v)


def data(kind: int, columns: int, rows: int) -> bytes:
    if kind in BLOCKS:
        values, parts = BLOCKS[kind]
        block = b"".join(struct.pack("<e", 0.01) if part == "e" else bytes((i * 37 + 5) % 256 for i in range(part))
                         for part in parts)
        return block * (columns // values * rows)
    if kind == TENSOR_BF16:
        return b"".join(struct.pack("<f", ((i * 37) % 17 - 8) / 16)[2:] for i in range(columns * rows))
    code = "<f" if kind == TENSOR_F32 else "<e"
    return b"".join(struct.pack(code, ((i * 37) % 17 - 8) / 16) for i in range(columns * rows))


def layer(arch: str, width: int) -> list:
    """Tensors of one layer: two heads that share their keys and values."""
    inner = min(width, NARROW)  # of all heads, and of the feed-forward part
    kv = inner // 2
    shapes = [("attn_norm.weight", width, 0), ("ffn_norm.weight", width, 0), ("attn_output.weight", inner, width),
              ("ffn_down.weight", inner, width)]
    if arch == "phi3":
        shapes += [("attn_qkv.weight", width, inner + 2 * kv), ("ffn_up.weight", width, 2 * inner)]
    else:
        shapes += [("attn_q.weight", width, inner), ("attn_k.weight", width, kv), ("attn_v.weight", width, kv),
                   ("ffn_gate.weight", width, inner), ("ffn_up.weight", width, inner)]
    if arch == "qwen2":
        shapes += [("attn_q.bias", width, 0), ("attn_k.bias", kv, 0), ("attn_v.bias", kv, 0)]
    if arch == "qwen3":
        shapes += [("attn_q_norm.weight", kv, 0), ("attn_k_norm.weight", kv, 0)]
    if arch == "gemma2":
        shapes += [("post_attention_norm.weight", width, 0), ("post_ffw_norm.weight", width, 0)]
    return [("blk.0." + name, columns, rows) for name, columns, rows in shapes]


def model(vocab: list, n_vocab: int, kind: int, width: int, *, tied: bool, extra: list, version: int = 3,
          arch: str = "llama") -> bytes:
    """One layer."""
    kvs = [("general.architecture", STR, arch), (arch + ".context_length", U32, 64),
           (arch + ".embedding_length", U32, width), (arch + ".block_count", U32, 1),
           (arch + ".feed_forward_length", U32, min(width, NARROW)), (arch + ".attention.head_count", U32, 2),
           (arch + ".attention.head_count_kv", U32, 1), (arch + ".attention.layer_norm_rms_epsilon", F32, 1e-5),
           *vocab, *extra]
    if width > NARROW:
        kvs += [(f"{arch}.attention.{part}_length", U32, NARROW // 2) for part in ("key", "value")]
    shapes = [("token_embd.weight", width, n_vocab), ("output_norm.weight", width, 0), *layer(arch, width)]
    if not tied:
        shapes += [("output.weight", width, n_vocab)]
    if not tied and arch == "llama":
        shapes += [("rope_freqs.weight", min(width, NARROW) // 4, 0)]
    if arch == "phi3":
        shapes += [("rope_factors_long.weight", width // 4, 0), ("rope_factors_short.weight", width // 4, 0)]
    out = b"GGUF" + struct.pack("<IQQ", version, len(shapes), len(kvs))
    for key, of, v in kvs:
        out += text(key) + struct.pack("<I", of) + value(of, v)
    blob = b""
    for name, columns, rows in shapes:
        of = kind if rows else TENSOR_F32
        if rows and columns % BLOCKS.get(kind, (1, []))[0]:
            of = TENSOR_Q4_0
        body = data(of, columns, max(rows, 1)) if rows else struct.pack("<f", 1.0) * columns
        dims = [columns, rows] if rows else [columns]
        out += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
        out += struct.pack("<IQ", of, len(blob))
        blob += body + b"\0" * (-len(body) % 32)
    return out + b"\0" * (-len(out) % 32) + blob


def main() -> None:
    where = Path(sys.argv[1])
    where.mkdir(parents=True, exist_ok=True)
    names = ["<unk>", "<s>", "</s>", "<0x0A>", "<|im_start|>", "<|im_end|>", "\u2581", "a", "he", "h", "e",
             "l", "\u2581he"]
    spm = [("tokenizer.ggml.model", STR, "llama"), ("tokenizer.ggml.tokens", ARR, (STR, names)),
           ("tokenizer.ggml.scores", ARR, (F32, [-float(i) for i in range(len(names))])),
           ("tokenizer.ggml.token_type", ARR, (I32, [2, 3, 3, 6, 3, 3] + [1] * 7)),
           ("tokenizer.ggml.bos_token_id", U32, 1), ("tokenizer.ggml.eos_token_id", U32, 2)]
    pieces = ["h", "e", "l", "o", "\u0120", "1", "2", "he", "ll", "\u0120he", "<|begin|>", "<|eot_id|>"]
    bpe = [("tokenizer.ggml.model", STR, "gpt2"), ("tokenizer.ggml.pre", STR, "llama-bpe"),
           ("tokenizer.ggml.tokens", ARR, (STR, pieces)),
           ("tokenizer.ggml.token_type", ARR, (I32, [1] * 10 + [3, 3])),
           ("tokenizer.ggml.merges", ARR, (STR, ["h e", "l l", "\u0120 he"])), ("tokenizer.ggml.bos_token_id", U32, 10)]
    space = [("tokenizer.ggml.add_space_prefix", BOOL, False)]
    (where / "spm-f32").write_bytes(model(spm, len(names), TENSOR_F32, 8, tied=True, extra=[]))
    (where / "spm-f16-v2").write_bytes(model(spm, len(names), TENSOR_F16, 8, tied=False, extra=space, version=2))
    (where / "spm-q8").write_bytes(model(spm, len(names), TENSOR_Q8_0, 32, tied=True, extra=[]))
    (where / "bpe-f32").write_bytes(model(bpe, len(pieces), TENSOR_F32, 8, tied=False,
                                          extra=[("tokenizer.chat_template", STR, "<|start_header_id|>")]))
    yarn = [("qwen3.rope.scaling.type", STR, "yarn"), ("qwen3.rope.scaling.factor", F32, 4.0),
            ("qwen3.rope.scaling.original_context_length", U32, 16)]
    caps = [("gemma2.attention.sliding_window", U32, 4), ("gemma2.attn_logit_softcapping", F32, 50.0),
            ("gemma2.final_logit_softcapping", F32, 30.0)]
    longrope = [("phi3.rope.scaling.original_context_length", U32, 32), ("phi3.rope.scaling.attn_factor", F32, 1.2),
                ("phi3.attention.sliding_window", U32, 5)]
    last = [("qwen2.pooling_type", U32, 3)]
    for arch, kind, width, tied, extra in (("qwen2", TENSOR_F32, 8, True, last), ("qwen3", TENSOR_F16, 8, False, yarn),
                                           ("gemma2", TENSOR_F32, 8, True, caps),
                                           ("phi3", TENSOR_Q8_0, 32, False, longrope)):
        (where / arch).write_bytes(model(spm, len(names), kind, width, tied=tied, extra=extra, arch=arch))
    for name, kind, width in (("bf16", TENSOR_BF16, 8), ("q4_0", TENSOR_Q4_0, 32), ("q4_k", TENSOR_Q4_K, 256),
                              ("q5_k", TENSOR_Q5_K, 256), ("q6_k", TENSOR_Q6_K, 256)):
        (where / ("spm-" + name)).write_bytes(model(spm, len(names), kind, width, tied=True, extra=[]))
    (where / "plain-f32").write_bytes(model(bpe, len(pieces), TENSOR_F32, 8, tied=True, extra=[]))


main()
