"""Makes of tiny-crab-chat.Q4_0.gguf the same model in three parts, and a small random adapter.

Usage: python make_variants.py (needs the package gguf 0.19). The files are byte-identical for every run.
"""

from pathlib import Path

import gguf
import numpy as np

HERE = Path(__file__).parent
SOURCE = HERE / "tiny-crab-chat.Q4_0.gguf"
WIDTH, RANK = 96, 2


def copy_fields(reader, writer):
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        sub_type = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type)


def split():
    reader = gguf.GGUFReader(SOURCE)
    writer = gguf.GGUFWriter(HERE / "tiny-crab-chat-split.gguf", "llama", split_max_tensors=10)
    copy_fields(reader, writer)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def adapter():
    random = np.random.default_rng(1)
    writer = gguf.GGUFWriter(HERE / "tiny-crab-lora.gguf", "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    for layer in range(3):
        name = f"blk.{layer}.attn_q.weight"
        writer.add_tensor(f"{name}.lora_a", random.standard_normal((RANK, WIDTH), dtype=np.float32))
        writer.add_tensor(f"{name}.lora_b", random.standard_normal((WIDTH, RANK), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


split()
adapter()
