"""Writes the weights of a GGUF file of the llama architecture, in F32, as a folder that vLLM reads.

pip install gguf numpy safetensors
python to_safetensors.py MODEL.gguf FOLDER
"""

import json
import pathlib
import sys

import gguf
import numpy
import safetensors.numpy

NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def halves(weight, heads):
    """GGUF keeps the two parts of a rotation side by side, others in two halves of a head."""
    rows = weight.shape[0] // heads
    pairs = weight.reshape(heads, rows // 2, 2, -1)
    return pairs.swapaxes(1, 2).reshape(weight.shape)


def main(source, folder):
    reader = gguf.GGUFReader(source)

    def field(name, default=None):
        found = reader.fields.get(name)
        return default if found is None else found.contents()

    heads = field("llama.attention.head_count")
    pairs = {"attn_q": heads, "attn_k": field("llama.attention.head_count_kv", heads)}
    tensors = {}
    for tensor in reader.tensors:
        weight = gguf.dequantize(tensor.data, tensor.tensor_type).astype(numpy.float32)
        weight = weight.reshape([int(size) for size in reversed(tensor.shape)])
        parts = tensor.name.split(".")
        layer, name = (f"model.layers.{parts[1]}.", parts[2]) if parts[0] == "blk" else ("", parts[0])
        if name in pairs:
            weight = halves(weight, pairs[name])
        tensors[f"{layer}{NAMES[name]}.weight"] = numpy.ascontiguousarray(weight)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "torch_dtype": "float32",
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": pairs["attn_k"],
        "rms_norm_eps": field("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": field("llama.rope.freq_base", 10_000.0),
        "max_position_embeddings": field("llama.context_length"),
        "vocab_size": len(field("tokenizer.ggml.tokens")),
        "bos_token_id": field("tokenizer.ggml.bos_token_id", 1),
        "eos_token_id": field("tokenizer.ggml.eos_token_id", 2),
        "tie_word_embeddings": "lm_head.weight" not in tensors,
    }
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1))


main(*sys.argv[1:3])
