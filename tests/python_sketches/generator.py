# SPDX-License-Identifier: Apache-2.0
"""What generates text in the worker's sketch: a tokenizer and a model with the calls that the sketch makes.

In:   a prompt    Out: the same answer to the same prompt, always
Not:  a language model. Words are tokens, and the answer says what was asked.
"""


class _Inputs:
    def __init__(self, ids):
        self.input_ids = [ids]


class AutoTokenizer:
    """Words to numbers and back."""

    eos_token_id = 0

    def __init__(self):
        self._words = ["</s>"]

    @classmethod
    def from_pretrained(cls, _path):
        return cls()

    def encode(self, text):
        ids = []
        for word in text.split(" "):
            if word not in self._words:
                self._words.append(word)
            ids.append(self._words.index(word))
        return ids

    def __call__(self, text):
        return _Inputs(self.encode(text))

    def decode(self, ids, skip_special_tokens=True):
        return " ".join(self._words[i] for i in ids if i != self.eos_token_id or not skip_special_tokens)


class AutoModelForCausalLM:
    """Continues a prompt with a sentence about its length."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, _path, tokenizer):
        return cls(tokenizer)

    def generate(self, input_ids, max_new_tokens, **_options):
        answer = self._tokenizer.encode(f"Device 47 read {len(input_ids[0])} words and answers.")
        return [input_ids[0] + answer[:max_new_tokens]]
