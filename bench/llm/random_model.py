#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write a LLaMA of a well-known shape with random weights: speed does not depend on what a model has learnt.

In:   OUT --shape 1.1b|7b|160m|15m --type Q8_0|Q4_0|Q4_K|Q6_K|F16, --seed N, --repeats [--differs N]
Out:  a GGUF v3 file with a SentencePiece vocabulary of 32,000 made-up words
Does: needs nothing but Python; the same arguments give the same file
      --repeats: a model that says for sure that token (t + STRIDE) mod VOCABULARY follows token t, at the cost of any
      other of its shape: its layers work, but what they add is small beside the embedding, and the output matrix holds
      the embedding of t where the logit of its successor is computed. Text that walks this way in the prompt is
      repeated in the answer, and two such models of any shapes agree, as a large one and its draft model do; with
      --differs N, one token in N has another successor
Not:  the model says nothing sensible, and its perplexity means nothing.
"""
import argparse
import os
import random
import struct

SHAPES = {  # width, layers, heads, kv heads, feed-forward
    "15m": (256, 2, 4, 4, 704),
    "160m": (768, 12, 12, 12, 2048),
    "1.1b": (2048, 22, 32, 4, 5632),
    "7b": (4096, 32, 32, 32, 11008),
}
F32 = 0
TYPES = {  # number in the file, values and bytes of a block, where binary16 scales stand in it
    "F16": (1, 1, 2, []),
    "Q4_0": (2, 32, 18, [0]),
    "Q8_0": (8, 32, 34, [0]),
    "Q4_K": (12, 256, 144, [0, 2]),
    "Q6_K": (14, 256, 210, [208]),
}
VOCABULARY, CONTEXT, ALIGNMENT, CHUNK_BLOCKS = 32000, 4096, 32, 1 << 18
STRIDE = 7919  # prime to VOCABULARY; the prompts that dsmil-llm bench makes up walk by it as well
LOUD, QUIET = 16.0, 2.0 ** -6  # of embeddings and of what layers add, in a model that repeats
U32, FLOAT, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(raw)) + raw


def scalar(key, kind, form, value):
    return text(key) + struct.pack("<I" + form, kind, value)


def array(key, kind, items):
    return text(key) + struct.pack("<IIQ", ARRAY, kind, len(items)) + b"".join(items)


def vocabulary():
    """Tokens with type and score: unknown, begin, end, 256 bytes, then words, of which longer ones merge first."""
    tokens = [("<unk>", 2, 0.0), ("<s>", 3, 0.0), ("</s>", 3, 0.0)]
    tokens += [(f"<0x{byte:02X}>", 6, 0.0) for byte in range(256)]
    number = 0
    while len(tokens) < VOCABULARY:
        word, rest = "", number // 2
        while True:
            word = chr(ord("a") + rest % 26) + word
            rest = rest // 26 - 1
            if rest < 0:
                break
        tokens.append((("\u2581" if number % 2 else "") + word, 1, -float(len(tokens))))
        number += 1
    return tokens


def metadata(shape):
    width, layers, heads, kv_heads, feed_forward = SHAPES[shape]
    tokens = vocabulary()
    pairs = [
        text("general.architecture") + struct.pack("<I", STRING) + text("llama"),
        text("general.name") + struct.pack("<I", STRING) + text(f"random {shape}"),
        scalar("llama.context_length", U32, "I", CONTEXT),
        scalar("llama.embedding_length", U32, "I", width),
        scalar("llama.block_count", U32, "I", layers),
        scalar("llama.feed_forward_length", U32, "I", feed_forward),
        scalar("llama.attention.head_count", U32, "I", heads),
        scalar("llama.attention.head_count_kv", U32, "I", kv_heads),
        scalar("llama.attention.layer_norm_rms_epsilon", FLOAT, "f", 1e-5),
        scalar("llama.rope.dimension_count", U32, "I", width // heads),
        text("tokenizer.ggml.model") + struct.pack("<I", STRING) + text("llama"),
        array("tokenizer.ggml.tokens", STRING, [text(token) for token, _, _ in tokens]),
        array("tokenizer.ggml.scores", FLOAT, [struct.pack("<f", score) for _, _, score in tokens]),
        array("tokenizer.ggml.token_type", I32, [struct.pack("<i", kind) for _, kind, _ in tokens]),
        scalar("tokenizer.ggml.bos_token_id", U32, "I", 1),
        scalar("tokenizer.ggml.eos_token_id", U32, "I", 2),
        scalar("tokenizer.ggml.add_bos_token", BOOL, "?", True),
    ]
    return pairs


def tensors(shape, kind):
    """Name, dimensions (row length first) and type of every tensor."""
    width, layers, heads, kv_heads, feed_forward = SHAPES[shape]
    head = width // heads
    out = [("token_embd.weight", (width, VOCABULARY), kind), ("output_norm.weight", (width,), None),
           ("output.weight", (width, VOCABULARY), kind)]
    for layer in range(layers):
        for name, dims in [("attn_norm", (width,)), ("attn_q", (width, width)), ("attn_k", (width, head * kv_heads)),
                           ("attn_v", (width, head * kv_heads)), ("attn_output", (width, width)),
                           ("ffn_norm", (width,)), ("ffn_gate", (width, feed_forward)),
                           ("ffn_up", (width, feed_forward)), ("ffn_down", (feed_forward, width))]:
            out.append((f"blk.{layer}.{name}.weight", dims, kind if len(dims) == 2 else None))
    return out


def size(dims, kind):
    count = dims[0] * (dims[1] if len(dims) == 2 else 1)
    if kind is None:
        return 4 * count
    _, values, block, _ = TYPES[kind]
    return count // values * block


def write_matrix(out, rng, dims, kind, loud=1.0):
    """Random bits with scales such that products keep about the size of their input, times `loud` (not F16)."""
    _, values, block, scales = TYPES[kind]
    blocks = dims[0] * dims[1] // values
    size_of = {"Q8_0": 74, "Q4_0": 4.6, "Q4_K": 300, "Q6_K": 1500}.get(kind, 1)
    scale = struct.pack("<e", loud * dims[0] ** -0.5 / size_of)
    while blocks > 0:
        count = min(blocks, CHUNK_BLOCKS if values > 1 else CHUNK_BLOCKS * 32)
        data = bytearray(rng.randbytes(count * block))
        for at in scales:
            data[at::block] = scale[:1] * count
            data[at + 1::block] = scale[1:] * count
        if kind == "F16":  # exponents from 2^-9 to 2^-6
            high = data[1::2]
            data[1::2] = high.translate(bytes((byte & 0x83) | (0x18 + (byte >> 2 & 0x0c)) for byte in range(256)))
        out.write(data)
        blocks -= count


def successors(differs):
    """What follows each token; where `differs` is not 0, one in so many has another's successor."""
    after = [(t + STRIDE) % VOCABULARY for t in range(VOCABULARY)]
    if differs:
        changed = random.Random(differs).sample(range(VOCABULARY), VOCABULARY // differs)
        for token, successor in zip(changed, [after[t] for t in changed[1:] + changed[:1]]):
            after[token] = successor
    return after


def write_successors(out, path, at, dims, kind, differs):
    """The row of t's successor is row t of the matrix at offset `at` of the file so far."""
    _, values, block, _ = TYPES[kind]
    row = dims[0] // values * block
    out.flush()
    with open(path, "rb") as written:
        written.seek(at)
        rows = written.read(row * VOCABULARY)
    before = sorted(range(VOCABULARY), key=successors(differs).__getitem__)
    out.write(b"".join(rows[t * row:(t + 1) * row] for t in before))


def write_tensor(out, rng, path, at, tensor, args):
    """`at`: offset of the first tensor, the embeddings."""
    name, dims, kind = tensor
    if kind is None:
        out.write(struct.pack("<f", 1 / LOUD if args.repeats and name == "output_norm.weight" else 1.0) * dims[0])
    elif args.repeats and name == "output.weight":
        write_successors(out, path, at, dims, kind, args.differs)
    else:
        last = name.split(".")[-2]
        louder = {"token_embd": LOUD, "attn_output": QUIET, "ffn_down": QUIET} if args.repeats else {}
        write_matrix(out, rng, dims, kind, louder.get(last, 1.0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--shape", choices=SHAPES, default="1.1b")
    parser.add_argument("--type", choices=TYPES, default="Q8_0")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", action="store_true")
    parser.add_argument("--differs", type=int, default=0)
    args = parser.parse_args()
    if args.repeats and args.type not in ("Q8_0", "Q6_K"):
        parser.error("--repeats takes types whose random blocks have a mean of 0: Q8_0 and Q6_K")
    rng, pairs, table = random.Random(args.seed), metadata(args.shape), tensors(args.shape, args.type)
    part = args.out + ".part"
    with open(part, "wb") as out:
        out.write(b"GGUF" + struct.pack("<IQQ", 3, len(table), len(pairs)) + b"".join(pairs))
        offset = 0
        for name, dims, kind in table:
            number = F32 if kind is None else TYPES[kind][0]
            out.write(text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, number, offset))
            offset += -(-size(dims, kind) // ALIGNMENT) * ALIGNMENT
        begin = out.tell() + -out.tell() % ALIGNMENT
        for tensor in table:
            out.write(b"\0" * (-out.tell() % ALIGNMENT))
            write_tensor(out, rng, part, begin, tensor, args)
    os.replace(part, args.out)


if __name__ == "__main__":
    main()
