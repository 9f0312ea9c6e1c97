# SPDX-License-Identifier: Apache-2.0
"""corpus.py - builds the training and test conversations, deterministically, from sources in this tree.

In: qa.txt, wording.py, soc.py and the registries in schema/*.def. Out: conversations, lists of (role, text).
Everything follows from a seed.
Question wordings are divided between "train" and "test" by a hash, as events are in soc.py.
Run as a program it prints samples, or writes the text that the tokenizer is trained on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import soc
from copying import copy_turns
from forms import form_turns
from names import syllables
from outside import MORE, MORE_WORDS
from tasks import task_turns
from wording import ASK_NOTE, FOLLOW, GENERIC, LEAD, SYSTEM, TAIL, UNKNOWN, UNKNOWN_ANSWER, WORDS

HERE = Path(__file__).resolve().parent
SCHEMA = HERE.parent.parent / "schema"

Turn = tuple[str, str]

# How often conversations of each sort are drawn. Orders and the agent's tasks are scored by themselves, so that the
# perplexity of answers stays comparable with that of a model which does not know them.
SHARES = {
    "train": {"event": 0.29, "form": 0.09, "task": 0.15, "copy": 0.09, "unknown": 0.07, "topic": 0.31},
    "test": {"event": 0.46, "form": 0.0, "task": 0.0, "copy": 0.16, "unknown": 0.04, "topic": 0.34},
}


@dataclass
class Topic:
    """One thing the model knows: how it is asked for and what it answers."""

    weight: float
    nouns: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


def expand(text: str) -> list[str]:
    """All texts of a pattern with {a|b} parts."""
    parts = re.split(r"\{([^}]*)\}", text)
    choices = [[p] if i % 2 == 0 else p.split("|") for i, p in enumerate(parts)]
    return [re.sub(r"\s+", " ", "".join(c)).strip() for c in itertools.product(*choices)]


def read_topics(path: Path) -> list[Topic]:
    topics: list[Topic] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        tag, _, rest = line.partition(": ")
        if tag == "T":
            topics.append(Topic(float(rest)))
        elif tag == "N":
            topics[-1].nouns += [n.strip() for n in rest.split("|")]
        elif tag == "Q":
            topics[-1].questions += expand(rest)
        elif tag == "A":
            topics[-1].answers.append(rest.replace("\\n", "\n"))
    return topics


def read_registry(name: str) -> list[list[str]]:
    """Rows of schema/<name>.def; quoted and bare arguments as text."""
    rows: list[list[str]] = []
    for line in (SCHEMA / f"{name}.def").read_text(encoding="utf-8").splitlines():
        match = re.match(r"[A-Z_]+\((.*)\)\s*$", line)
        if match and not line.startswith((" ", "*", "MSG_ALIAS")):
            rows.append([a.strip('"').strip() for a in re.findall(r'\s*("[^"]*"|[^,\s][^,]*)', match.group(1))])
    return rows


CLASS_SAYS = {
    "DROP": "the bytes are dropped and counted, never retried",
    "PEER": "that channel is closed",
    "DENY": "policy said no: the reply has code and reason, and it is audited",
    "RETRY": "it is transient: back off and try again",
    "LIMIT": "a named maximum is reached, so slow down",
    "LOCAL": "the operator must look at this host",
    "FATAL": "an invariant broke and the service stops",
    "NONE": "nothing is wrong",
}


def registry_topics() -> list[Topic]:
    """Topics that follow from the registries: errors, devices, layers, compartments, classifications, TLVs, types."""
    out: list[Topic] = []
    layers = {row[0]: row for row in read_registry("layers")}
    for name, number, klass, sentence in (r[:4] for r in read_registry("errors") if r[0] != "OK"):
        out.append(
            Topic(
                1.2 if klass == "DENY" else 0.5,
                [name, f"error {name}", f"error {number}", f"code {number}", f"error code {number}"],
                [f"I got {name}", f"what does {name} mean", f"my request failed with {name}", f"why do I see {name}"],
                [f"{name} is error {number} of class {klass}: {sentence}. What follows: {CLASS_SAYS[klass]}."],
            )
        )
    members: dict[str, list[str]] = {}
    for number, name, layer, _mem, _tops, title in (r[:6] for r in read_registry("devices")):
        members.setdefault(layer, []).append(f"{number} {title}")
        if int(number) >= 84:
            answer = f"Device {number} is reserved; it has no name yet."
        elif layer == "0":
            answer = f"Device {number} is {title}, a platform device without an AI layer."
        else:
            answer = f"Device {number} is {title}, in layer {layer}, {layers[layer][1]}."
        special = int(number) in (14, 15, 43, 46, 47, 48, 51, 52, 53, 58, 59, 61, 83)
        nouns = [] if special else [f"device {number}", f"Device {number}", f"dev {number}"]
        questions = [f"which layer is device {number} in", f"what is the name of device {number}"]
        if int(number) < 84:
            questions += [f"which device is {title}", f"what number has {title}", f"which device number is {title}"]
        out.append(Topic(0.3 if int(number) < 84 else 0.08, nouns, questions, [answer]))
    for absent in (104, 110, 120, 128, 150, 200, 300, 500, 999, 1000):
        out.append(
            Topic(
                0.15,
                [f"device {absent}"],
                [f"which layer is device {absent} in"],
                [f"There is no device {absent}: devices are numbered 0 to 103."],
            )
        )
    for number, row in layers.items():
        listed = members.get(number, [])
        if number == "0":
            listed = ["0 to 3", "5 to 14", "83 to 103"]
        out.append(
            Topic(
                1.2,
                [f"layer {number}", f"Layer {number}", f"L{number}", f"the {row[1]} layer"],
                [
                    f"which devices are in layer {number}",
                    f"list the devices of layer {number}",
                    f"what runs in layer {number}",
                ],
                [f"Layer {number} is {row[1]}: {row[-1]}. Its devices are {', '.join(listed)}."],
            )
        )
    for missing in (1, 12, 13, 20):
        out.append(
            Topic(
                0.3,
                [f"layer {missing}"],
                [],
                [f"There is no layer {missing}. Layers are 0 for the platform and 2 to 11."],
            )
        )
    for name, mask, meaning in (r[:3] for r in read_registry("compartments") if r[0] not in ("KINETIC", "SOC")):
        out.append(
            Topic(
                0.4,
                [f"the {name} compartment", f"compartment {name}", f"compartment {mask}"],
                [],
                [f"{name} is compartment bit {mask}: {meaning}."],
            )
        )
    for name, number, meaning in (r[:3] for r in read_registry("classifications") if r[0] not in ("EXEC", "TS_SIM")):
        out.append(
            Topic(
                0.4,
                [f"the classification {name}", f"classification {name}", f"{name} as a classification"],
                [],
                [f"{name} is classification {number}: {meaning}."],
            )
        )
    for name, number, meaning in (r[:3] for r in read_registry("roe_levels")):
        out.append(
            Topic(
                0.6,
                [name, f"the ROE level {name}", f"ROE level {number}"],
                [],
                [f"{name} is ROE level {number}: {meaning}."],
            )
        )
    for row in read_registry("tlvs"):
        if row[0] not in ("TENANT_ID", "COMPARTMENT_MASK", "L7_CLAIM_TOKEN", "L7_PROFILE"):
            out.append(
                Topic(
                    0.25,
                    [row[0], f"the TLV {row[0]}", f"TLV {row[1]}"],
                    [],
                    [f"{row[0]} is TLV {row[1]}, kind {row[2]}: {row[-1]}."],
                )
            )
    for row in read_registry("msg_types"):
        out.append(
            Topic(
                0.3,
                [row[0], f"message type {row[1]}", f"the message type {row[0]}"],
                [f"what number is {row[0]}"],
                [f"{row[0]} is message type {row[1]}: {row[-1]}."],
            )
        )
    for name, _number, path, meaning in (r[:4] for r in read_registry("roles")):
        out.append(Topic(0.2, [f"the role {name}", f"role {path}"], [], [f"{name} is a role of a node: {meaning}."]))
    for row in read_registry("streams"):
        out.append(
            Topic(
                0.2,
                [f"the stream {row[0]}", f"stream {row[0]}"],
                [],
                [f"{row[0]} is a stream of the SOC fabric: {row[-1]}. It keeps {row[3]} hours."],
            )
        )
    for name, mask, meaning in (r[:3] for r in read_registry("flags")):
        out.append(Topic(0.2, [f"the flag {name}", f"flag {name}"], [], [f"{name} is header flag {mask}: {meaning}."]))
    return out


class Corpus:
    """Draws conversations; the same seed gives the same sequence."""

    def __init__(self, split: str) -> None:
        self.split = split
        self.own = read_topics(HERE / "qa.txt")
        self.registry = registry_topics()

    def conversation(self, rng: Random) -> list[Turn]:
        turns: list[Turn] = []
        share = SHARES[self.split]
        sort = rng.choices(tuple(share), tuple(share.values()))[0]
        if sort == "task":
            return task_turns(rng, soc.make_sample(rng, self.split))
        if rng.random() < 0.25:
            turns.append(("system", rng.choice(SYSTEM)))
        if sort == "event":
            turns += self.event_turns(rng)
        elif sort == "form":
            turns += form_turns(rng, soc.make_sample(rng, self.split))
        elif sort == "copy":
            turns += copy_turns(rng)
        elif sort == "unknown":
            turns += self.unknown_turns(rng)
        else:
            turns += self.topic_turns(rng, rng.random() < (0.58 if self.split == "train" else 0.45))
            if rng.random() < 0.22:
                turns += (
                    self.topic_turns(rng, rng.random() < 0.25, follow=True)
                    if rng.random() < 0.85
                    else self.unknown_turns(rng)
                )
        return turns

    def weight(self, topic: Topic) -> float:
        """Training sees rare registry entries more evenly than the weights, which say how often people ask."""
        return 0.4 + 0.6 * topic.weight if self.split == "train" and topic.weight < 1 else topic.weight

    def topic_turns(self, rng: Random, registry: bool, follow: bool = False) -> list[Turn]:
        pool = self.registry if registry else self.own
        bare = self.split == "train" and rng.random() < 0.08  # a noun alone; more often than GENERIC has it
        while True:
            topic = rng.choices(pool, [self.weight(t) for t in pool])[0]
            for _ in range(40):
                if topic.nouns and bare:
                    base = rng.choice(topic.nouns)
                elif topic.nouns and (not topic.questions or rng.random() < 0.6):
                    base = rng.choice(FOLLOW if follow and rng.random() < 0.6 else GENERIC).format(
                        n=rng.choice(topic.nouns)
                    )
                else:
                    base = rng.choice(topic.questions)
                if soc.in_test(base, 12) == (self.split == "test"):
                    return [("user", dress(rng, base)), ("assistant", rng.choice(topic.answers))]

    def unknown_turns(self, rng: Random) -> list[Turn]:
        while True:
            more = self.split == "train" and rng.random() < 0.55
            values = {k: rng.choice(v) for k, v in {**WORDS, **(MORE_WORDS if more else {})}.items()}
            values.update(
                a=str(rng.randint(2, 999)),
                b=str(rng.randint(2, 99)),
                nonsense=syllables(rng, 2, 3) + rng.choice(("", " " + syllables(rng, 1, 2))),
            )
            base = rng.choice(MORE if more else UNKNOWN).format(**values)
            if soc.in_test(base, 12) == (self.split == "test"):
                return [("user", dress(rng, base)), ("assistant", UNKNOWN_ANSWER)]

    def event_turns(self, rng: Random) -> list[Turn]:
        sample = soc.make_sample(rng, self.split)
        ask = rng.choice(ASK_NOTE).replace("{e}", sample.event)
        if rng.random() < 0.12:
            return extract_turns(rng, sample)
        turns = [("user", ask), ("assistant", sample.note)]
        draw = rng.random()
        if draw < 0.06:
            question, answer = rng.choice(facts_of(sample))
            turns += [("user", question), ("assistant", answer)]
        elif draw < 0.10:
            turns += self.topic_turns(rng, False, follow=True)
        return turns


def facts_of(sample: soc.Sample) -> list[Turn]:
    """Short questions about one event, each with its answer."""
    out: list[Turn] = [("How severe is it?", sample.severity + "."), ("Which severity?", sample.severity + ".")]
    for value, words in (
        (sample.user, ("Which user is it?", "Who is the user?", "Which account?")),
        (sample.src, ("Which address did it come from?", "What is the source IP?", "Where from?")),
        (sample.host, ("Which host?", "On which host did it happen?", "What is the host?")),
    ):
        out += [(w, value if value else "The event does not say.") for w in words]
    return out


def extract_turns(rng: Random, sample: soc.Sample) -> list[Turn]:
    question, answer = rng.choice(facts_of(sample)[2:])
    shape = rng.choice(("{q}\n{e}", "{e}\n{q}", "{q} {e}", "{e} {q}"))
    return [("user", shape.replace("{q}", question).replace("{e}", sample.event)), ("assistant", answer)]


def dress(rng: Random, base: str) -> str:
    """Greeting, ending, capitals and slips that people add to a question."""
    text = rng.choice(LEAD) + base
    if not base.endswith(("?", ".", "!")):
        text += rng.choice(TAIL)
    draw = rng.random()
    if draw < 0.36:
        text = text[:1].upper() + text[1:]
    elif draw < 0.62:
        text = text.lower()
    elif draw < 0.66:
        text = text.upper()
    if rng.random() < 0.06 and len(text) > 8:  # a letter lost or swapped
        i = rng.randrange(1, len(text) - 2)
        text = text[:i] + (text[i + 1] + text[i] + text[i + 2 :] if rng.random() < 0.5 else text[i + 1 :])
    return text


def tokenizer_text(path: Path, count: int, seed: int = 11) -> None:
    """Writes lines for the tokenizer; copy lessons are left out, they would fill it with scraps of names."""
    rng, corpus = Random(seed), Corpus("train")
    with path.open("w", encoding="utf-8") as out:
        for topic in corpus.own + corpus.registry:
            for answer in topic.answers:
                out.write(answer.replace("\n", " ") + "\n")
        for _ in range(count):
            for _, text in corpus.conversation(rng):
                if not text.startswith(("Repeat", "Say", "Copy", "echo")):
                    out.write(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--tokenizer-text", type=Path, help="write the tokenizer's training text here instead")
    args = parser.parse_args()
    if args.tokenizer_text:
        tokenizer_text(args.tokenizer_text, args.count)
        return
    rng, corpus = Random(args.seed), Corpus(args.split)
    for _ in range(args.count):
        print(json.dumps(corpus.conversation(rng), ensure_ascii=False))


if __name__ == "__main__":
    main()
