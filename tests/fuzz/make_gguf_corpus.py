#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seed files of the GGUF fuzz corpus (corpus/gguf/seed-*): tiny files that together hold every value type,
every tensor type, both versions, several alignments, real-looking metadata of both architectures, and one file for each
kind of damage. The found-* files beside them came from fuzzing; this script leaves them alone. Same bytes on every run."""
import os
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
PACK = {U8: "<B", I8: "<b", U16: "<H", I16: "<h", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", I64: "<q", F64: "<d"}
BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84),
          11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
          18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
          26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17)}


def text(s):
    b = s if isinstance(s, bytes) else s.encode()
    return struct.pack("<Q", len(b)) + b


def kv(key, kind, value, elem=None):
    head = text(key) + struct.pack("<I", kind)
    one = lambda t, v: text(v) if t == STR else struct.pack(PACK[t], v)
    if kind != ARR:
        return head + one(kind, value)
    return head + struct.pack("<IQ", elem, len(value)) + b"".join(one(elem, v) for v in value)


def build(keys=(), tensors=(), version=3, align=32, tail=0, n_kv=None, n_tensors=None, magic=b"GGUF"):
    """tensors: (name, dims, type[, offset]); data is zero."""
    infos, offset = b"", 0
    for name, dims, kind, *at in tensors:
        weights, size = BLOCKS.get(kind, (1, 1))
        count = 1
        for d in dims:
            count *= d
        infos += text(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d & (2**64 - 1)) for d in dims)
        infos += struct.pack("<IQ", kind, at[0] if at else offset)
        if not at:
            offset += -(-(count // weights * size) // align) * align
    out = magic + struct.pack("<IQQ", version, len(tensors) if n_tensors is None else n_tensors, len(keys) if n_kv is None else n_kv)
    out += b"".join(keys) + infos
    if tensors:
        out += bytes(-len(out) % align) + bytes(min(offset, 4096))
    return out[:tail] if tail < 0 else out + bytes(tail)


def metadata(arch, extra=()):
    return [kv("general.architecture", STR, arch), kv(f"{arch}.block_count", U32, 1), kv(f"{arch}.embedding_length", U32, 32),
            kv(f"{arch}.feed_forward_length", U32, 32), kv(f"{arch}.context_length", U32, 64),
            kv(f"{arch}.attention.head_count", U32, 2), kv(f"{arch}.attention.head_count_kv", U32, 1),
            kv(f"{arch}.attention.layer_norm_rms_epsilon", F32, 1e-5), *extra]


def vocabulary(model):
    return [kv("tokenizer.ggml.model", STR, model), kv("tokenizer.ggml.tokens", ARR, ["a", "b", "<s>"], STR),
            kv("tokenizer.ggml.scores", ARR, [0.0, -1.0, 0.5], F32), kv("tokenizer.ggml.token_type", ARR, [1, 1, 3], I32),
            kv("tokenizer.ggml.merges", ARR, ["a b"], STR), kv("tokenizer.ggml.add_bos_token", BOOL, 1)]


def seeds():
    t = [("w", [8], 0)]
    yield "empty-model", build()
    yield "version-2", build([kv("k", U32, 1)], t, version=2)
    yield "scalars", build([kv(f"k{k}", k, "text" if k == STR else 1) for k in range(13) if k != ARR])
    for k in range(13):
        if k != ARR:
            yield f"array-{k}", build([kv("k", ARR, ["x", "", "yz"] if k == STR else [1, 0, 1], k)])
    yield "array-empty", build([kv("k", ARR, [], U64), kv("s", ARR, [], STR)])
    for k in BLOCKS:
        yield f"tensor-{k}", build((), [("w", [256], k)])
    yield "tensors", build((), [("a", [4, 2], 0), ("b", [32, 2, 2], 8), ("c", [1, 2, 1, 2], 24)])
    yield "order", build((), [("b", [8], 0, 32), ("a", [8], 0, 0)], tail=64)
    for a in (8, 64, 4096):
        yield f"align-{a}", build([kv("general.alignment", U32, a)], [("a", [2], 0), ("b", [2], 0)], align=a)
    yield "llama", build(metadata("llama", vocabulary("gpt2")), [("token_embd.weight", [32, 3], 8), ("output_norm.weight", [32], 0)])
    window = [kv("gemma3.attention.sliding_window", U32, 8), kv("gemma3.attention.key_length", U32, 16),
              kv("gemma3.attention.value_length", U32, 16), kv("gemma3.rope.freq_base", F32, 1e6)]
    yield "gemma3", build(metadata("gemma3", window + vocabulary("llama")), [("token_embd.weight", [32, 3], 8)])
    yield "llama-layers", build(metadata("llama", [kv("llama.rope.scaling.type", STR, "linear"), kv("llama.rope.scaling.factor", F32, 2.0)])
                                + [kv("llama.vocab_size", U64, 3)], [("token_embd.weight", [32, 3], 8)])
    yield "unknown-arch", build([kv("general.architecture", STR, "mamba"), kv("mamba.attention.head_count_kv", ARR, [1, 0], U32)])
    # Damage, one of each kind.
    yield "bad-magic", build(t and (), magic=b"FUGG")
    yield "bad-zip", b"PK\x03\x04" + bytes(28)
    yield "bad-version-1", build(version=1)
    yield "bad-version-big", build(version=0x03000000)
    yield "bad-count-kv", build([kv("k", U32, 1)], n_kv=2**60)
    yield "bad-count-tensors", build(tensors=t, n_tensors=2**60)
    yield "bad-duplicate", build([kv("k", U32, 1), kv("k", U8, 1)])
    yield "bad-nested", build([text("k") + struct.pack("<IIQ", ARR, ARR, 1)])
    yield "bad-type", build([text("k") + struct.pack("<IQ", 13, 0)])
    yield "bad-array", build([text("k") + struct.pack("<IIQ", ARR, U64, 2**61 + 1)], tail=8)
    yield "bad-string", build([text("k") + struct.pack("<IQ", STR, 2**64 - 8)], tail=8)
    yield "bad-align", build([kv("general.alignment", U32, 48)], t)
    yield "bad-dims-0", build((), [("w", [], 0)])
    yield "bad-dims-5", build((), [("w", [1] * 5, 0)])
    yield "bad-dim-zero", build((), [("w", [8, 0], 0, 0)], tail=64)
    yield "bad-elements", build((), [("w", [2**32, 2**32], 0, 0)], tail=64)
    yield "bad-bytes", build((), [("w", [2**62], 0, 0)], tail=64)
    yield "bad-row", build((), [("w", [48], 3, 0)], tail=64)
    yield "bad-removed", build((), [("w", [32], 31, 0)], tail=64)
    yield "bad-offset", build((), [("w", [8], 0, 8)], tail=64)
    yield "bad-end", build((), [("w", [2**61], 0, 2**64 - 32)], tail=64)
    yield "bad-overlap", build((), [("a", [16], 0, 0), ("b", [8], 0, 32)], tail=128)
    yield "bad-truncated", build((), t, tail=-8)


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus", "gguf")
    os.makedirs(folder, exist_ok=True)
    total = 0
    for name, data in seeds():
        with open(os.path.join(folder, f"seed-{name}"), "wb") as f:
            f.write(data)
        total += len(data)
    print(f"{sum(1 for _ in seeds())} seeds, {total} bytes in {folder}")


if __name__ == "__main__":
    main()
