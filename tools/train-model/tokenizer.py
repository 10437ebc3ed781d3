"""Train the tokenizer on the corpus and encode the corpus with it.

The encoding of a conversation is exactly what llama.cpp gives for the chat template in export.py:

    <s> "User: QUESTION\\nAssistant: ANSWER" </s> "User: QUESTION\\nAssistant: ANSWER" </s> ...

with each quoted part tokenized on its own (a space is put before it), because </s> is a control token.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import sentencepiece

BOS, EOS = 1, 2


def turn_text(question, answer):
    return f"User: {question}\nAssistant: {answer}"


def train(corpus, prefix, vocab, sample):
    text = prefix.with_suffix(".txt")
    with corpus.open() as lines, text.open("w") as out:
        for _, line in zip(range(sample), lines, strict=False):
            for question, answer in json.loads(line):
                out.write(turn_text(question, answer) + "\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(prefix), vocab_size=vocab, model_type="bpe", byte_fallback=True,
        split_digits=True, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True,
        unk_id=0, bos_id=BOS, eos_id=EOS, pad_id=-1, character_coverage=1.0, minloglevel=2,
    )  # fmt: skip
    text.unlink()


def encode(processor, turns, prompt_weight):
    """Token ids and the weight of each in the loss; the answer and the </s> after it weigh 1."""
    ids, weights = [BOS], [0.0]
    for question, answer in turns:
        prompt = processor.encode(turn_text(question, "").rstrip())
        whole = processor.encode(turn_text(question, answer))
        assert whole[: len(prompt)] == prompt, "the prompt must be a prefix of the turn, token by token"
        ids += [*whole, EOS]
        weights += [prompt_weight] * len(prompt) + [1.0] * (len(whole) - len(prompt) + 1)
    return ids, weights


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--corpus", type=Path, required=True, help="JSON lines written by corpus.py")
    p.add_argument("--tokenizer", type=Path, required=True, help="tokenizer file, without .model; trained if missing")
    p.add_argument("--out", type=Path, required=True, help="encoded corpus, .npz")
    p.add_argument("--vocab", type=int, default=1024)
    p.add_argument("--sample", type=int, default=20_000, help="conversations the tokenizer is trained on")
    p.add_argument("--prompt-weight", type=float, default=0.1)
    return p.parse_args()


def main():
    args = parse_args()
    model = args.tokenizer.with_suffix(".model")
    if not model.exists():
        train(args.corpus, args.tokenizer, args.vocab, args.sample)
    processor = sentencepiece.SentencePieceProcessor(str(model))
    ids, weights, offsets = [], [], [0]
    with args.corpus.open() as lines:
        for line in lines:
            conversation_ids, conversation_weights = encode(processor, json.loads(line), args.prompt_weight)
            ids.append(np.array(conversation_ids, np.uint16))
            weights.append(np.array(conversation_weights, np.float16))
            offsets.append(offsets[-1] + len(conversation_ids))
    ids, weights = np.concatenate(ids), np.concatenate(weights)
    np.savez(args.out, ids=ids, weights=weights, offsets=np.array(offsets), vocab=processor.vocab_size())
    print(f"{len(offsets) - 1} conversations, {len(ids)} tokens, {(weights == 1).sum()} of them answers")
    print(processor.encode(turn_text("Hello", "Hi there!"), out_type=str))


if __name__ == "__main__":
    main()
