"""Train the model on the encoded corpus, on the CPU, for a given number of seconds.

The network is the llama block as llama.cpp and candle run it: RMS norm, rotary positions on interleaved pairs,
grouped-query attention, SwiGLU, and an output layer that shares the embedding table.

Weight matrices are trained with Muon (momentum, orthogonalised by a Newton-Schulz iteration), the embedding and the
norms with Adam. The learning rate warms up, stays, and falls to zero over the last part of the time given.
"""

import argparse
import json
import pickle
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

NORM_EPS = 1e-5
ROPE_BASE = 10000.0
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


def init_params(config, seed):
    """Layer weights are stacked along a first axis, each matrix as (out, in), the order GGUF stores."""
    dim, hidden, layers = config["dim"], config["hidden"], config["layers"]
    kv_dim = dim // config["heads"] * config["kv_heads"]
    shapes = {
        "q": (dim, dim), "k": (kv_dim, dim), "v": (kv_dim, dim), "o": (dim, dim),
        "gate": (hidden, dim), "up": (hidden, dim), "down": (dim, hidden),
    }  # fmt: skip
    rng = np.random.default_rng(seed)

    def normal(shape, scale):
        return jnp.asarray(rng.normal(size=shape) * scale, jnp.float32)

    params = {"embedding": normal((config["vocab"], dim), 0.05), "norm": jnp.ones(dim)}
    for name, (rows, cols) in shapes.items():
        into_residual = 0.3 if name in ("o", "down") else 1.0
        params[name] = normal((layers, rows, cols), into_residual / np.sqrt(cols))
    params["attn_norm"] = jnp.ones((layers, dim))
    params["ffn_norm"] = jnp.ones((layers, dim))
    return params


def rms_norm(x, weight):
    return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + NORM_EPS) * weight


def rotate(x):
    """Rotary positions on pairs (0, 1), (2, 3), ... of x[batch, position, head, dim]."""
    length, dim = x.shape[1], x.shape[3]
    angle = np.outer(np.arange(length), ROPE_BASE ** (-np.arange(0, dim, 2) / dim))
    cos, sin = np.cos(angle)[None, :, None], np.sin(angle)[None, :, None]
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], -1)
    return turned.reshape(x.shape).astype(x.dtype)


def logits(params, tokens, documents, config):
    """Next-token scores; a position sees only earlier positions of its own document."""
    batch, length = tokens.shape
    dim, heads, kv_heads = config["dim"], config["heads"], config["kv_heads"]
    head_dim, group = dim // heads, heads // kv_heads
    causal = np.tril(np.ones((length, length), bool))
    visible = causal[None] & (documents[:, :, None] == documents[:, None, :])
    bias = jnp.where(visible, 0.0, -1e9)[:, None, None]
    x = params["embedding"][tokens]
    for layer in range(config["layers"]):
        w = {name: params[name][layer] for name in MATRICES}
        h = rms_norm(x, params["attn_norm"][layer])
        q = rotate((h @ w["q"].T).reshape(batch, length, heads, head_dim))
        k = rotate((h @ w["k"].T).reshape(batch, length, kv_heads, head_dim))
        v = (h @ w["v"].T).reshape(batch, length, kv_heads, head_dim)
        q = q.reshape(batch, length, kv_heads, group, head_dim)
        scores = jnp.einsum("bqkgd,bskd->bkgqs", q, k) / np.sqrt(head_dim)
        attention = jax.nn.softmax(scores + bias, -1)
        mixed = jnp.einsum("bkgqs,bskd->bqkgd", attention, v).reshape(batch, length, dim)
        x = x + mixed @ w["o"].T
        h = rms_norm(x, params["ffn_norm"][layer])
        x = x + (jax.nn.silu(h @ w["gate"].T) * (h @ w["up"].T)) @ w["down"].T
    return rms_norm(x, params["norm"]) @ params["embedding"].T


def loss(params, tokens, weights, documents, config):
    """Mean cross entropy over the tokens that carry weight (the prompt tokens carry little)."""
    scores = logits(params, tokens[:, :-1], documents[:, :-1], config)
    target = tokens[:, 1:]
    entropy = jax.nn.logsumexp(scores, -1) - jnp.take_along_axis(scores, target[..., None], -1)[..., 0]
    weight = weights[:, 1:] * (documents[:, 1:] == documents[:, :-1])
    return (entropy * weight).sum() / jnp.maximum(weight.sum(), 1.0)


def orthogonalise(matrix):
    """The nearest (semi-)orthogonal matrix, roughly, by five Newton-Schulz steps; works on a stack."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.swapaxes(-1, -2) if tall else matrix
    x = x / (jnp.sqrt((x * x).sum((-2, -1), keepdims=True)) + 1e-7)
    for _ in range(5):
        gram = x @ x.swapaxes(-1, -2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.swapaxes(-1, -2) if tall else x


def init_state(params):
    zeros = jax.tree.map(jnp.zeros_like, params)
    second = {name: jnp.zeros_like(p) for name, p in params.items() if name not in MATRICES}
    return {"momentum": zeros, "second": second, "step": jnp.zeros((), jnp.int32)}


def update(params, state, grads, lr_muon, lr_adam):
    norm = jnp.sqrt(sum((g * g).sum() for g in grads.values()))
    clip = jnp.minimum(1.0, 1.0 / (norm + 1e-6))
    step = state["step"] + 1
    new_params, momentum, second = {}, {}, {}
    for name, p in params.items():
        g = grads[name] * clip
        if name in MATRICES:
            momentum[name] = m = 0.95 * state["momentum"][name] + 0.05 * g
            direction = orthogonalise(0.95 * m + 0.05 * g)
            scale = max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
            new_params[name] = p * (1.0 - 0.05 * lr_muon) - lr_muon * scale * direction
        else:
            momentum[name] = m = 0.9 * state["momentum"][name] + 0.1 * g
            second[name] = v = 0.98 * state["second"][name] + 0.02 * g * g
            direction = m / (1 - 0.9**step) / (jnp.sqrt(v / (1 - 0.98**step)) + 1e-8)
            new_params[name] = p - lr_adam * direction
    return new_params, {"momentum": momentum, "second": second, "step": step}


class Packer:
    """Packs whole documents into rows of a fixed length, in an order reshuffled on every pass."""

    OPEN_ROWS = 24

    def __init__(self, dataset, length, seed):
        self.ids, self.weights, self.offsets = dataset["ids"], dataset["weights"], dataset["offsets"]
        self.length, self.rng, self.epoch = length, np.random.default_rng(seed), 0
        self.queue = iter(())
        self.open = []

    def next_document(self):
        while True:
            for index in self.queue:
                if self.offsets[index + 1] - self.offsets[index] <= self.length:
                    return index
            self.queue = iter(self.rng.permutation(len(self.offsets) - 1))
            self.epoch += 1

    def row(self):
        while True:
            index = self.next_document()
            size = int(self.offsets[index + 1] - self.offsets[index])
            for held in self.open:
                if held[0] + size <= self.length:
                    held[0] += size
                    held[1].append(index)
                    break
            else:
                self.open.append([size, [index]])
            if len(self.open) > self.OPEN_ROWS:
                fullest = max(range(len(self.open)), key=lambda i: self.open[i][0])
                return self.open.pop(fullest)[1]

    def batch(self, rows):
        tokens = np.zeros((rows, self.length + 1), np.int32)
        weights = np.zeros((rows, self.length + 1), np.float32)
        documents = np.zeros((rows, self.length + 1), np.int32)
        for r in range(rows):
            at = 0
            for number, index in enumerate(self.row(), 1):
                start, end = self.offsets[index], self.offsets[index + 1]
                span = slice(at, at + int(end - start))
                tokens[r, span], weights[r, span] = self.ids[start:end], self.weights[start:end]
                documents[r, span] = number
                at = span.stop
        return tokens, weights, documents


def schedule(elapsed, total, step, decay_fraction):
    """Factor on the learning rate: warm-up over 50 steps, a plateau, then down to zero at the end of the time."""
    remaining = max(0.0, (total - elapsed) / (decay_fraction * total))
    return min(1.0, (step + 1) / 50, remaining)


def save(path, params, config, log):
    record = {"config": config, "log": log, "params": jax.tree.map(np.asarray, params)}
    partial = path.with_suffix(".partial")
    partial.write_bytes(pickle.dumps(record))
    partial.replace(path)


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data", type=Path, required=True, help="the .npz file written by tokenizer.py")
    p.add_argument("--out", type=Path, required=True, help="checkpoint to write")
    p.add_argument("--resume", type=Path, help="start from the weights of this checkpoint")
    p.add_argument("--seconds", type=float, default=3000)
    p.add_argument("--dim", type=int, default=128)
    p.add_argument("--hidden", type=int, default=384)
    p.add_argument("--layers", type=int, default=5)
    p.add_argument("--heads", type=int, default=4)
    p.add_argument("--kv-heads", type=int, default=2)
    p.add_argument("--length", type=int, default=256, help="row length of the first part of the training")
    p.add_argument("--long-length", type=int, default=512, help="row length of the last part")
    p.add_argument("--long-fraction", type=float, default=0.15, help="share of the time given to long rows")
    p.add_argument("--batch-tokens", type=int, default=4096)
    p.add_argument("--lr-muon", type=float, default=0.02)
    p.add_argument("--lr-adam", type=float, default=0.004)
    p.add_argument("--decay-fraction", type=float, default=0.4)
    p.add_argument("--save-every", type=float, default=120, help="seconds between checkpoints")
    p.add_argument("--seed", type=int, default=0)
    return p.parse_args()


def main():
    args = parse_args()
    dataset = dict(np.load(args.data))
    config = {
        "dim": args.dim, "hidden": args.hidden, "layers": args.layers, "heads": args.heads,
        "kv_heads": args.kv_heads, "vocab": int(dataset["vocab"]), "context": args.long_length,
    }  # fmt: skip
    log = {"steps": 0, "tokens": 0, "seconds": 0.0, "loss": None}
    params = init_params(config, args.seed)
    if args.resume:
        record = pickle.loads(args.resume.read_bytes())
        config, log = record["config"], record["log"]
        params = jax.tree.map(jnp.asarray, record["params"])
    print("parameters", sum(p.size for p in params.values()), json.dumps(config), flush=True)

    @jax.jit
    def train_step(params, state, batch, factor):
        value, grads = jax.value_and_grad(loss)(params, *batch, config)
        params, state = update(params, state, grads, args.lr_muon * factor, args.lr_adam * factor)
        return params, state, value

    state = init_state(params)
    start = saved = time.time()
    step, losses, before = 0, [], dict(log)
    packer, length = Packer(dataset, args.length, args.seed + log["steps"]), args.length
    while (elapsed := time.time() - start) < args.seconds:
        if length != args.long_length and elapsed > args.seconds * (1 - args.long_fraction):
            length = args.long_length
            packer = Packer(dataset, length, args.seed + log["steps"])
        batch = packer.batch(args.batch_tokens // length)
        factor = schedule(elapsed, args.seconds, step, args.decay_fraction)
        params, state, value = train_step(params, state, batch, factor)
        losses.append(float(value))
        step += 1
        log["steps"] += 1
        log["tokens"] += int((batch[2] > 0).sum())
        log["seconds"] = before["seconds"] + time.time() - start
        log["loss"] = float(np.mean(losses[-100:]))
        if step % 50 == 0:
            speed = (log["tokens"] - before["tokens"]) / (time.time() - start)
            note = f"loss {np.mean(losses[-50:]):.4f} lr x{factor:.2f} {speed:.0f} tok/s pass {packer.epoch}"
            print(f"step {log['steps']} {elapsed:.0f}s {log['tokens']} tokens {note}", flush=True)
        if time.time() - saved > args.save_every:
            save(args.out, params, config, log)
            saved = time.time()
    save(args.out, params, config, log)
    print("done", json.dumps(log), flush=True)


if __name__ == "__main__":
    main()
