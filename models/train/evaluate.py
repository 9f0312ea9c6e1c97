# SPDX-License-Identifier: Apache-2.0
"""evaluate.py - scores a model file on test events and test questions, through the project's own engine.

In: dsmil-llm and a GGUF file. Out: one JSON object on standard output, failures on request.
Scores: form of the note, severity, entities of the event quoted in the note, exact notes, exact answers to questions
whose wording training never showed, orders (forms.py), the agent's tasks (tasks.py), copying, refusal of questions that
no template makes, and the perplexity of answers. Decoding is greedy. Uses only the standard library.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import tempfile
from array import array
from pathlib import Path
from random import Random

import soc
from copying import copy_turns
from corpus import Corpus, Turn
from forms import ORDERS, answer
from outside import WIDE
from tasks import TASKS, task_turns
from wording import UNKNOWN_ANSWER

FORM = re.compile(
    r"Severity: (INFO|MODERATE|HIGH|CRITICAL)\.\nWhat: .+\.\nWhy: .+\nCheck: .+\.\nRaise if: .+ Lower if: .+\.\n"
    r"Advice only: a person decides\."
)


class Engine:
    def __init__(self, program: Path, model: Path) -> None:
        self.program, self.model = program, model

    def ask(self, question: str, system: str = "", temperature: float = 0.0, seed: int = 0, tokens: int = 256) -> str:
        command = [str(self.program), "run", "-m", str(self.model), "-t", "1", "-n", str(tokens)]
        command += ["--temp", str(temperature), "--seed", str(seed), "-p", question]
        command += ["--system", system] if system else []
        return (
            subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
            .stdout.decode()
            .strip()
        )

    def _call(self, verb: str, *rest: str) -> str:
        command = [str(self.program), verb, "-m", str(self.model), "-t", "1", *rest]
        return subprocess.run(command, capture_output=True, check=True).stdout.decode(errors="replace")

    def tokens(self, text: str) -> list[int]:
        """Ids of ChatML text, begin-of-sequence included."""
        out = self._call("tokenize", "--special", text)
        return [int(m.group(1)) for m in re.finditer(r"^ *(\d+)  ", out, re.MULTILINE)]

    def chat(self, turns: list[Turn]) -> tuple[list[int], list[bool]]:
        """Ids of a conversation and which of them the assistant wrote."""
        ids, taught = self.tokens("")[:1], [False]
        for role, text in turns:
            head = self.tokens(f"<|im_start|>{role}\n")[1:]
            body = self.tokens(text + "<|im_end|>")[1:]
            ids += head + body + self.tokens("\n")[1:]
            taught += [False] * len(head) + [role == "assistant"] * len(body) + [False]
        return ids, taught

    def logits(self, ids: list[int]) -> array[float]:
        with tempfile.NamedTemporaryFile() as out:
            self._call("logits", "--tokens", ",".join(map(str, ids)), "--out", out.name)
            values = array("f")
            values.frombytes(Path(out.name).read_bytes())
        return values


def score_events(engine: Engine, count: int, seed: int, show: bool) -> dict[str, float]:
    rng = Random(seed)
    form = severity = exact = quoted = entities = 0
    for _ in range(count):
        sample = soc.make_sample(rng, "test")
        note = engine.ask(f"Triage this event: {sample.event}")
        found = re.match(r"Severity: (\w+)", note)
        form += bool(FORM.fullmatch(note))
        severity += bool(found and found.group(1) == sample.severity)
        exact += note == sample.note
        here = sum(e in note for e in sample.entities)
        quoted, entities = quoted + here, entities + len(sample.entities)
        if show and note != sample.note:
            print(f"--- {sample.kind}/{sample.fmt}\n{sample.event}\n> {note}\n= {sample.note}", flush=True)
    return {
        "events": count,
        "form": form / count,
        "severity": severity / count,
        "entities": quoted / max(entities, 1),
        "exact_note": exact / count,
    }


def score_questions(engine: Engine, count: int, seed: int, show: bool) -> dict[str, float]:
    """Questions about the project, the registries, and things the model must say it does not know."""
    rng, corpus = Random(seed), Corpus("test")
    result: dict[str, float] = {}
    draws = {
        "project": lambda: corpus.topic_turns(rng, False),
        "registry": lambda: corpus.topic_turns(rng, True),
        "unknown": lambda: corpus.unknown_turns(rng),
    }
    for name, draw in draws.items():
        good = 0
        for _ in range(count):
            (_, question), (_, wanted) = draw()
            answer = engine.ask(question)
            good += answer == wanted
            if show and answer != wanted:
                print(f"--- {name}: {question}\n> {answer}\n= {wanted}", flush=True)
        result[name] = good / count
    return result


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def score_forms(engine: Engine, count: int, seed: int, show: bool) -> dict[str, float]:
    """Orders on test events: the teacher's answer exactly, and whether what should be JSON is JSON."""
    result: dict[str, float] = {}
    for form, wordings in ORDERS.items():
        rng, good, valid = Random(seed), 0, 0
        for _ in range(count):
            sample = soc.make_sample(rng, "test")
            said, wanted = engine.ask(wordings[0].replace("{e}", sample.event)), answer(form, sample)
            good, valid = good + (said == wanted), valid + is_json(said)
            if show and said != wanted:
                print(f"--- {form}: {sample.event}\n> {said}\n= {wanted}", flush=True)
        result[form] = good / count
        if is_json(wanted):
            result[form + "_valid"] = valid / count
    return result


def score_tasks(engine: Engine, count: int, seed: int, show: bool) -> dict[str, float]:
    """The agent's tasks on test events, without the grammar that keeps its answers to their schema: JSON with the right
    members, the share of members that are the teacher's, and the whole answer as the teacher's."""
    result: dict[str, float] = {}
    for task in TASKS:
        rng, valid, members, right, exact = Random(seed), 0, 0, 0, 0
        for _ in range(count):
            (_, system), (_, event), (_, wanted) = task_turns(rng, soc.make_sample(rng, "test"), task)
            said, members_wanted = engine.ask(event, system), json.loads(wanted)
            found = json.loads(said) if is_json(said) else {}
            valid += list(found) == list(members_wanted) if isinstance(found, dict) else 0
            members += len(members_wanted)
            right += sum(isinstance(found, dict) and k in found and found[k] == v for k, v in members_wanted.items())
            exact += said == wanted
            if show and said != wanted:
                print(f"--- {task}: {system[-40:]}: {event}\n> {said}\n= {wanted}", flush=True)
        result |= {f"{task}_valid": valid / count, f"{task}_members": right / members, task: exact / count}
    return result


def score_copies(engine: Engine, count: int, seed: int, show: bool) -> float:
    rng, good = Random(seed), 0
    for _ in range(count):
        (_, question), (_, wanted) = copy_turns(rng)
        said = engine.ask(question)
        good += said == wanted
        if show and said != wanted:
            print(f"--- copy: {question}\n> {said}\n= {wanted}", flush=True)
    return good / count


def score_wide(engine: Engine, show: bool) -> float:
    """Questions from outside, written by hand: the share that is refused."""
    good = 0
    for question in WIDE:
        said = engine.ask(question)
        good += said == UNKNOWN_ANSWER
        if show and said != UNKNOWN_ANSWER:
            print(f"--- wide: {question}\n> {said}", flush=True)
    return good / len(WIDE)


def answer_nats(engine: Engine, count: int, seed: int) -> float:
    """Mean negative log-likelihood of the assistant's tokens in test conversations, by the engine's logits."""
    rng, corpus = Random(seed), Corpus("test")
    total, tokens = 0.0, 0
    for _ in range(count):
        ids, taught = engine.chat(corpus.conversation(rng))
        logits = engine.logits(ids)
        width = len(logits) // len(ids)
        for i in range(1, len(ids)):
            if taught[i]:
                row = logits[(i - 1) * width : i * width]
                top = max(row)
                total += top + math.log(sum(math.exp(x - top) for x in row)) - row[ids[i]]
                tokens += 1
    return total / tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--llm", type=Path, required=True, help="the engine's program, dsmil-llm")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--questions", type=int, default=100, help="of each sort")
    parser.add_argument("--orders", type=int, default=100, help="events for each order and task")
    parser.add_argument("--texts", type=int, default=100, help="conversations for the perplexity of answers")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--show", action="store_true", help="print what differs from the teacher")
    args = parser.parse_args()
    engine = Engine(args.llm, args.model)
    result: dict[str, object] = {"events": score_events(engine, args.events, args.seed, args.show)}
    result["questions"] = score_questions(engine, args.questions, args.seed, args.show)
    result["orders"] = score_forms(engine, args.orders, args.seed, args.show)
    result["tasks"] = score_tasks(engine, args.orders, args.seed, args.show)
    result["copies"] = score_copies(engine, args.questions, args.seed, args.show)
    result["outside_by_hand"] = score_wide(engine, args.show)
    nats = answer_nats(engine, args.texts, args.seed)
    result["answers"] = {
        "conversations": args.texts,
        "nats_per_token": round(nats, 4),
        "perplexity": round(math.exp(nats), 4),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
