"""Ask a running OpenAI-compatible server held-out questions and print the share of right answers by category.

`--corpus` leaves out the questions that chance has put into the training corpus after all.
"""

import argparse
import json
import random
import re
import urllib.request
from collections import Counter
from pathlib import Path

import held_out
import questions
import stories


class Server:
    def __init__(self, url, model):
        self.url, self.model = url.rstrip("/") + "/v1/chat/completions", model

    def answer(self, messages, temperature, seed):
        body = {"model": self.model, "messages": messages, "temperature": temperature, "seed": seed, "max_tokens": 250}
        request = urllib.request.Request(self.url, json.dumps(body).encode(), {"content-type": "application/json"})
        choice = json.load(urllib.request.urlopen(request))["choices"][0]
        return choice["message"]["content"].strip(), choice["finish_reason"]

    def converse(self, text, temperature, seed):
        messages = []
        for question in text.split(" | "):
            messages.append({"role": "user", "content": question})
            answer, reason = self.answer(messages, temperature, seed)
            messages.append({"role": "assistant", "content": answer})
        return answer, reason


def story_fault(text, reason, wanted):
    """What is wrong with a story, or None.

    It must mention what was asked for, keep to one animal, one thing and at most two children, and come to an end.
    """
    names = {word for word in re.findall(r"[A-Z][a-z]+", text) if word in stories.GIRLS + stories.BOYS}
    animals = {word for word in re.findall(r"\b[a-z]+\b", text) if word in stories.ANIMALS}
    things = set(re.findall(rf"\b(?:{'|'.join(stories.COLOURS)}) (?:{'|'.join(stories.THINGS)})\b", text))
    missing = [word for word in wanted if not re.search(rf"\b{word}", text)]
    if reason != "stop":
        return "does not end"
    if len(text.split()) < 50:
        return "too short"
    if missing:
        return f"does not mention {', '.join(missing)}"
    if len(names) > 2 or not names:
        return f"{len(names)} names"
    if len(animals - {"horse"}) > 1:
        return "more than one animal"
    return "more than one thing" if len(things) > 1 else None


def normal(text):
    return re.sub(r"[^a-z0-9+\- ]", "", text.lower()).strip()


def without_seen(corpus, groups, tales):
    """The questions that were not generated, as they stand or nearly so, for the training."""
    seen = {normal(turn[0]) for line in corpus.open() for turn in json.loads(line)}
    groups = {
        name: [(text, right) for text, right in group if normal(text) not in seen] for name, group in groups.items()
    }
    return groups, [(text, wanted) for text, wanted in tales if normal(text) not in seen]


def drawn_from_templates(seed, count=300):
    """Questions as the corpus has them; only those kinds that have a single right answer."""
    r, groups = random.Random(seed), {}
    while sum(map(len, groups.values())) < count:
        kind, question, answer = questions.ask(r)
        if kind not in ("greeting", "how_are_you", "thanks", "goodbye", "fun"):
            groups.setdefault(kind, []).append((question, f"^{re.escape(answer)}$"))
    return groups


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--url", default="http://127.0.0.1:8080")
    p.add_argument("--model", default="ember")
    p.add_argument(
        "--set",
        choices=("first", "second", "drawn"),
        default="second",
        help="questions of held_out.py, or questions drawn from the templates",
    )
    p.add_argument("--temperature", type=float, default=0.0)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--corpus", type=Path, help="leave out the questions that stand in this corpus")
    p.add_argument("--verbose", action="store_true", help="print every answer, not only the wrong ones")
    return p.parse_args()


def ask_all(server, groups, tales, args):
    """Yields (category, question, answer, fault) for each question; the fault is None if the answer is right."""
    for category, group in groups.items():
        for text, pattern in group:
            answer, _ = server.converse(text, args.temperature, args.seed)
            yield category, text, answer, None if re.search(pattern, answer) else "wrong"
    for text, wanted in tales:
        answer, reason = server.converse(text, args.temperature, args.seed)
        yield "stories", text, answer, story_fault(answer, reason, wanted)


def main():
    args = parse_args()
    groups, tales = held_out.FIRST, held_out.FIRST_STORIES
    if args.set == "second":
        groups, tales = held_out.SECOND, held_out.SECOND_STORIES
    if args.set == "drawn":
        groups, tales = drawn_from_templates(args.seed), []
    elif args.corpus:
        groups, tales = without_seen(args.corpus, groups, tales)
    right, asked = Counter(), Counter()
    for category, text, answer, fault in ask_all(Server(args.url, args.model), groups, tales, args):
        for row in (category, "all"):
            asked[row] += 1
            right[row] += fault is None
        if args.verbose or fault:
            print(f"{fault or 'right'}: {text} -> {answer}")
    for row in [*(name for name in asked if name != "all"), "all"]:
        print(f"| {row} | {right[row]} / {asked[row]} | {100 * right[row] / asked[row]:.0f} % |")


if __name__ == "__main__":
    main()
