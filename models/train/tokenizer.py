# SPDX-License-Identifier: Apache-2.0
"""tokenizer.py - trains the SentencePiece BPE tokenizer and encodes conversations as ChatML.

In: the text of corpus.py. Out: <dir>/tokenizer.model. Digits are split, bytes are the fallback, nothing is normalised
and no space is put in front, so the engine's byte-exact encoder gives the same ids. Control tokens never arise
from text.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import sentencepiece as spm

from corpus import Turn, tokenizer_text

BOS, IM_START, IM_END = 1, 3, 4
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class Tokenizer:
    def __init__(self, path: Path) -> None:
        self.sp = spm.SentencePieceProcessor(model_file=str(path))
        assert self.sp.PieceToId("<|im_start|>") == IM_START and self.sp.PieceToId("<|im_end|>") == IM_END

    def encode(self, text: str) -> list[int]:
        return list(self.sp.EncodeAsIds(text))

    def decode(self, ids: list[int]) -> str:
        return str(self.sp.DecodeIds(ids))

    def chat(self, turns: list[Turn]) -> tuple[list[int], list[bool]]:
        """Ids of a conversation, and which of them the model is taught to write."""
        ids, mask = [BOS], [False]
        for role, text in turns:
            head = [IM_START, *self.encode(role + "\n")]
            body = [*self.encode(text), IM_END]
            taught = role == "assistant"
            tail = self.encode("\n")
            ids += head + body + tail
            mask += [False] * len(head) + [taught] * len(body) + [False] * len(tail)
        return ids, mask

    def prompt(self, turns: list[Turn]) -> list[int]:
        """Ids up to where the assistant begins."""
        return self.chat(turns)[0] + [IM_START, *self.encode("assistant\n")]


def train(out: Path, vocab: int, count: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        tokenizer_text(text, count)
        spm.SentencePieceTrainer.Train(
            input=str(text),
            model_prefix=str(out / "tokenizer"),
            model_type="bpe",
            vocab_size=vocab,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            character_coverage=1.0,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            control_symbols=["<|im_start|>", "<|im_end|>"],
            num_threads=1,
            minloglevel=1,
            max_sentence_length=16384,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--vocab", type=int, default=1536)
    parser.add_argument("--count", type=int, default=12000, help="conversations to learn the pieces from")
    args = parser.parse_args()
    train(args.out, args.vocab, args.count)


if __name__ == "__main__":
    main()
