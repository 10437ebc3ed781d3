"""Write a checkpoint and its tokenizer as a GGUF file that llama.cpp and candle load (architecture `llama`)."""

import argparse
import pickle
from pathlib import Path

import gguf
import numpy as np
import sentencepiece

LICENSE = "MIT OR Apache-2.0; trained from scratch on text generated from hand-written templates, no third-party data"
# A turn ends with </s>. System messages are left out: the model was never trained on any.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] | trim + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] | trim + eos_token }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
LAYER_TENSORS = {
    "attn_norm": "attn_norm", "attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o",
    "ffn_norm": "ffn_norm", "ffn_gate": "gate", "ffn_up": "up", "ffn_down": "down",
}  # fmt: skip
TYPES = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}


def add_architecture(writer, config, file_type):
    writer.add_context_length(config["context"])
    writer.add_embedding_length(config["dim"])
    writer.add_block_count(config["layers"])
    writer.add_feed_forward_length(config["hidden"])
    writer.add_head_count(config["heads"])
    writer.add_head_count_kv(config["kv_heads"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(config["dim"] // config["heads"])
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config["vocab"])
    writer.add_file_type(file_type)


def token_type(processor, i):
    if processor.is_unknown(i):
        return gguf.TokenType.UNKNOWN
    if processor.is_control(i):
        return gguf.TokenType.CONTROL
    return gguf.TokenType.BYTE if processor.is_byte(i) else gguf.TokenType.NORMAL


def add_tokenizer(writer, processor):
    size = range(processor.vocab_size())
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([processor.id_to_piece(i).encode() for i in size])
    writer.add_token_scores([processor.get_score(i) for i in size])
    writer.add_token_types([token_type(processor, i) for i in size])
    writer.add_bos_token_id(processor.bos_id())
    writer.add_eos_token_id(processor.eos_id())
    writer.add_unk_token_id(processor.unk_id())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def add_tensors(writer, params, layers, matrix_type):
    def add(name, values):
        values = np.ascontiguousarray(values, np.float32)
        kind = matrix_type if values.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    # There is no output.weight: the loader then uses token_embd.weight for the output too.
    add("token_embd.weight", params["embedding"])
    add("output_norm.weight", params["norm"])
    for layer in range(layers):
        for tensor, key in LAYER_TENSORS.items():
            add(f"blk.{layer}.{tensor}.weight", params[key][layer])


def parse_args():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--checkpoint", type=Path, required=True)
    p.add_argument("--tokenizer", type=Path, required=True, help="tokenizer file, .model")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--type", choices=TYPES, default="f16")
    p.add_argument("--name", default="Ember 1M")
    return p.parse_args()


def main():
    args = parse_args()
    record = pickle.loads(args.checkpoint.read_bytes())
    matrix_type, file_type = TYPES[args.type]
    partial = args.out.with_suffix(".partial")
    writer = gguf.GGUFWriter(partial, "llama")
    writer.add_name(args.name)
    writer.add_description("A tiny chat and story model that ships inside Peerwatt.")
    writer.add_license(LICENSE)
    writer.add_languages(["en"])
    add_architecture(writer, record["config"], file_type)
    add_tokenizer(writer, sentencepiece.SentencePieceProcessor(str(args.tokenizer)))
    add_tensors(writer, record["params"], record["config"]["layers"], matrix_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(args.out)
    print(args.out.name, args.out.stat().st_size, "bytes", record["log"])


if __name__ == "__main__":
    main()
