"""Makes a tiny Gemma 4 MoE model and its MTP assistant, to boot a real server with.

    python verify/server/tiny_models.py OUT [--size tiny|float32|full]

OUT/target and OUT/assistant get a configuration, a byte tokenizer and processor files; "tiny" gets
random safetensors too, the same bytes on every host, and so does "float32", of a shape that several
GPUs can share and a server can run in float32. "full" has the shapes of google/gemma-4-26B-A4B-it and
is for --load-format dummy. (Dummy loading skips load_weights and so hides the crash on
`num_experts: null`; that one needs the tiny models' real files.)

Standard library only: shapes follow from the configuration, a safetensors file is a JSON header and
raw bytes, and a bfloat16 of about ±0.05 is two random bytes, one of them translated by a table. This
takes two seconds, where importing torch and transformers and building both models took 20, and the
files do not depend on any package's version.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import math
import os
import random
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Part of the file that marks a folder as complete. Raise it when the files' bytes change for another
# reason than their configurations.
_RECIPE = 1
_MARK = "complete.json"

_ROPE = {
    "full_attention": {
        "partial_rotary_factor": 0.25, "rope_theta": 1000000.0, "rope_type": "proportional",
    },
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
}  # fmt: skip
_ENDS = {"bos_token_id": 2, "eos_token_id": [1], "pad_token_id": 0}
_SPECIAL = {0: "<pad>", 1: "<eos>", 2: "<bos>", 3: "<unk>"}
_MEDIA = {
    "boi": (300, "<|image>"),
    "eoi": (301, "<image|>"),
    "image": (302, "<|image|>"),
    "video": (303, "<|video|>"),
    "boa": (304, "<|audio>"),
    "eoa": (305, "<audio|>"),
    "audio": (306, "<|audio|>"),
}


@dataclass(frozen=True)
class Models:
    """Two folders that ``--model-path`` and ``--speculative-draft-model-path`` take."""

    target: Path
    assistant: Path


# --- configurations ------------------------------------------------------------------------------


_SHAPES: dict[str, dict[str, Any]] = {
    "full": {
        "num_hidden_layers": 30, "hidden_size": 2816, "intermediate_size": 2112,
        "moe_intermediate_size": 704, "num_attention_heads": 16, "num_key_value_heads": 8,
        "num_global_key_value_heads": 2, "vocab_size": 262144,
        "vocab_size_per_layer_input": 262144, "sliding_window": 1024,
        "max_position_embeddings": 262144,
    },
    "tiny": {
        "num_hidden_layers": 6, "hidden_size": 256, "intermediate_size": 512,
        "moe_intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
        "num_global_key_value_heads": 1, "vocab_size": 1024,
        "vocab_size_per_layer_input": 1024, "sliding_window": 512,
        "max_position_embeddings": 8192,
    },
}  # fmt: skip
# Eight ranks can share it, and each of six stages has a layer of either kind. The heads are so narrow
# that attention's tiles fit into a GPU's shared memory in float32 too.
_SHAPES["float32"] = _SHAPES["tiny"] | {
    "num_hidden_layers": 12, "moe_intermediate_size": 32, "num_attention_heads": 8,
    "head_dim": 64, "global_head_dim": 128,
}  # fmt: skip
_FULL_ATTENTION_EVERY = {"full": 6, "tiny": 6, "float32": 2}


def _text(size: str) -> dict[str, Any]:
    shapes, every = _SHAPES[size], _FULL_ATTENTION_EVERY[size]
    layers = shapes["num_hidden_layers"]
    return {
        "model_type": "gemma4_text", "dtype": "bfloat16",
        "attention_bias": False, "attention_dropout": 0.0, "attention_k_eq_v": True,
        "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
        "enable_moe_block": True, "num_experts": 128, "top_k_experts": 8,
        "final_logit_softcapping": 30.0, "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size_per_layer_input": 0, "initializer_range": 0.02, "num_kv_shared_layers": 0,
        "rms_norm_eps": 1e-6, "rope_parameters": _ROPE, "tie_word_embeddings": True,
        "use_bidirectional_attention": "vision", "use_cache": True, "use_double_wide_mlp": False,
        "head_dim": 256, "global_head_dim": 512,
        "layer_types": [
            "sliding_attention" if (layer + 1) % every else "full_attention"
            for layer in range(layers)
        ],
        **shapes,
    }  # fmt: skip


def target_config(size: str) -> dict[str, Any]:
    """The configuration of the target: multimodal, as the released MoE is, since SGLang reads
    vision_config and eoa_token_id."""
    full = size == "full"
    heads = 8 if size == "float32" else 1  # of the vision tower, split among the ranks
    return {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "model_type": "gemma4",
        "dtype": "bfloat16",
        "text_config": _text(size),
        "vision_config": {
            "model_type": "gemma4_vision", "dtype": "bfloat16",
            "hidden_size": 1152 if full else 64, "intermediate_size": 4304 if full else 128,
            "num_hidden_layers": 27 if full else 1,
            "num_attention_heads": 16 if full else heads,
            "num_key_value_heads": 16 if full else heads,
            "head_dim": 72 if full else 64 // heads, "patch_size": 16, "pooling_kernel_size": 3,
            "position_embedding_size": 10240 if full else 64, "rms_norm_eps": 1e-6,
            "max_position_embeddings": 131072, "standardize": full,
            "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
        },
        "audio_config": None,
        **_ENDS,
        "tie_word_embeddings": True, "initializer_range": 0.02, "transformers_version": "5.8.1",
        **{f"{name}_token_id": number for name, (number, _) in _MEDIA.items()},
        "eoa_token_index": _MEDIA["eoa"][0],
    }  # fmt: skip


def assistant_config(size: str) -> dict[str, Any]:
    """The configuration of the assistant: dense, with `num_experts: null` as in the released ones.
    All its layers share the target's keys and values."""
    full = size == "full"
    return {
        "architectures": ["Gemma4AssistantForCausalLM"],
        "model_type": "gemma4_assistant",
        "dtype": "bfloat16",
        "backbone_hidden_size": 2816 if full else 256, "use_ordered_embeddings": False,
        "num_centroids": 2048, "centroid_intermediate_top_k": 32, "tie_word_embeddings": True,
        "text_config": {
            **_text(size),
            "enable_moe_block": False, "num_experts": None, "top_k_experts": None,
            "moe_intermediate_size": None, "num_hidden_layers": 4, "num_kv_shared_layers": 4,
            "hidden_size": 1024 if full else 128, "intermediate_size": 8192 if full else 256,
            "vocab_size_per_layer_input": 0, "final_logit_softcapping": None,
            "attention_k_eq_v": False, "use_bidirectional_attention": None,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
        **_ENDS,
        "transformers_version": "5.8.1",
    }  # fmt: skip


# --- tensors -------------------------------------------------------------------------------------


def tensor_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint with this configuration."""
    text = config["text_config"]
    assistant = config["model_type"] == "gemma4_assistant"
    prefix = "model." if assistant else "model.language_model."
    hidden = text["hidden_size"]
    shapes = dict(_text_shapes(text, prefix))
    if assistant:
        backbone = config["backbone_hidden_size"]
        shapes["pre_projection.weight"] = (hidden, 2 * backbone)
        shapes["post_projection.weight"] = (backbone, hidden)
    elif vision := config["vision_config"]:
        shapes["model.embed_vision.embedding_projection.weight"] = (hidden, vision["hidden_size"])
        shapes |= _vision_shapes(vision)
    return shapes


def _text_shapes(text: dict[str, Any], prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, wide = text["hidden_size"], text["intermediate_size"]
    yield f"{prefix}embed_tokens.weight", (text["vocab_size"], hidden)
    yield f"{prefix}norm.weight", (hidden,)
    own_kv = text["num_hidden_layers"] - text["num_kv_shared_layers"]
    for layer, kind in enumerate(text["layer_types"]):
        at = f"{prefix}layers.{layer}."
        full = kind == "full_attention"
        one_kv = full and text["attention_k_eq_v"]
        head = text["global_head_dim" if full else "head_dim"]
        queries = text["num_attention_heads"] * head
        heads = text["num_global_key_value_heads" if one_kv else "num_key_value_heads"]
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield f"{at}{name}_layernorm.weight", (hidden,)
        yield f"{at}layer_scalar", (1,)
        yield f"{at}self_attn.q_proj.weight", (queries, hidden)
        yield f"{at}self_attn.q_norm.weight", (head,)
        yield f"{at}self_attn.o_proj.weight", (hidden, queries)
        if layer < own_kv:
            yield f"{at}self_attn.k_proj.weight", (heads * head, hidden)
            yield f"{at}self_attn.k_norm.weight", (head,)
            if not one_kv:
                yield f"{at}self_attn.v_proj.weight", (heads * head, hidden)
        yield f"{at}mlp.gate_proj.weight", (wide, hidden)
        yield f"{at}mlp.up_proj.weight", (wide, hidden)
        yield f"{at}mlp.down_proj.weight", (hidden, wide)
        if text["enable_moe_block"]:
            experts, narrow = text["num_experts"], text["moe_intermediate_size"]
            for name in ("pre_feedforward_layernorm_2", "post_feedforward_layernorm_1"):
                yield f"{at}{name}.weight", (hidden,)
            yield f"{at}post_feedforward_layernorm_2.weight", (hidden,)
            yield f"{at}router.proj.weight", (experts, hidden)
            yield f"{at}router.scale", (hidden,)
            yield f"{at}router.per_expert_scale", (experts,)
            yield f"{at}experts.gate_up_proj", (experts, 2 * narrow, hidden)
            yield f"{at}experts.down_proj", (experts, hidden, narrow)


def _vision_shapes(vision: dict[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, wide, head = vision["hidden_size"], vision["intermediate_size"], vision["head_dim"]
    at = "model.vision_tower."
    yield f"{at}patch_embedder.input_proj.weight", (hidden, 3 * vision["patch_size"] ** 2)
    table = (2, vision["position_embedding_size"], hidden)
    yield f"{at}patch_embedder.position_embedding_table", table
    if vision["standardize"]:
        yield f"{at}std_bias", (hidden,)
        yield f"{at}std_scale", (hidden,)
    queries, keys = vision["num_attention_heads"] * head, vision["num_key_value_heads"] * head
    for layer in range(vision["num_hidden_layers"]):
        at = f"model.vision_tower.encoder.layers.{layer}."
        for name in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            yield f"{at}{name}_layernorm.weight", (hidden,)
        for name in ("gate", "up"):
            yield f"{at}mlp.{name}_proj.linear.weight", (wide, hidden)
        yield f"{at}mlp.down_proj.linear.weight", (hidden, wide)
        yield f"{at}self_attn.q_proj.linear.weight", (queries, hidden)
        yield f"{at}self_attn.k_proj.linear.weight", (keys, hidden)
        yield f"{at}self_attn.v_proj.linear.weight", (keys, hidden)
        yield f"{at}self_attn.o_proj.linear.weight", (hidden, queries)
        yield f"{at}self_attn.q_norm.weight", (head,)
        yield f"{at}self_attn.k_norm.weight", (head,)


def weight_bytes(config: dict[str, Any]) -> int:
    """The bytes that the tensors of this configuration take in bfloat16."""
    return 2 * sum(math.prod(shape) for shape in tensor_shapes(config).values())


# The high byte of a bfloat16 is its sign and all but the last bit of its exponent, so random low
# bytes under these make numbers of either sign between 2**-9 and 2**-3, with a deviation of 0.05.
_WEIGHTS = bytes(
    ([0x3D] * 57 + [0xBD] * 57 + [0x3C] * 58 + [0xBC] * 58 + [0x3B] * 13 + [0xBB] * 13)[i]
    for i in range(256)
)
_ONE = b"\x80\x3f"
# The weight of the norm of attention's queries. Gemma 4 does not scale their products. With 1 the
# softmax is so steep that a difference in the last bit grows by half in every layer; with 0.25 it
# does not grow.
_QUERY_NORM = {"float32": b"\x80\x3e"}


def _values(name: str, shape: tuple[int, ...], query_norm: bytes = _ONE) -> bytes | bytearray:
    """A tensor's bytes, drawn from its name alone, so that they do not depend on other tensors."""
    count = math.prod(shape)
    drawn = random.Random(f"{_RECIPE} {name}")
    if name.endswith("per_expert_scale"):
        # From 0.5 to 2, so that a router which forgets the scale, or takes another expert's, is noticed.
        values = bytearray(b"\x00\x3f" * count)
        values[0::2] = drawn.randbytes(count)
        return values
    if name.endswith("q_norm.weight"):
        return query_norm * count
    if len(shape) < 2:
        return _ONE * count  # norms and scalars: random ones would drown the activations
    values = bytearray(2 * count)
    values[0::2] = drawn.randbytes(count)
    values[1::2] = drawn.randbytes(count).translate(_WEIGHTS)
    return values


def _write_safetensors(path: Path, tensors: dict[str, tuple[int, ...]], size: str) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        start, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            file.write(_values(name, shape, _QUERY_NORM.get(size, _ONE)))


# --- tokenizer and processor ---------------------------------------------------------------------


def _alphabet() -> list[str]:
    """GPT-2's 256 characters for bytes: printable ones stay, the others move to 256 and up."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    return sorted(map(chr, (*printable, *range(256, 512 - len(printable)))))


def _tokenizer() -> dict[str, Any]:
    special = _SPECIAL | dict(_MEDIA.values())
    alphabet = iter(_alphabet())
    vocabulary = {}
    for number in range(max(special) + 1):
        piece = special.get(number) or next(alphabet, f"<unused{number}>")
        vocabulary[piece] = number
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {"type": "ByteLevel", "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": piece, **flags, "special": True}
            for number, piece in sorted(special.items())
        ],
        "normalizer": None,
        "pre_tokenizer": {**level, "add_prefix_space": False},
        "post_processor": None,
        "decoder": {**level, "add_prefix_space": True},
        "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>",
            "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
            "byte_fallback": False, "ignore_merges": False, "vocab": vocabulary, "merges": [],
        },
    }  # fmt: skip


def _small_files(config: dict[str, Any]) -> dict[str, Any]:
    tokens = {f"{name}_token": _MEDIA[name][1] for name in ("image", "boi", "eoi")}
    tokens |= {f"{name}_token": _MEDIA[name][1] for name in ("audio", "boa", "eoa")}
    return {
        "config.json": config,
        "generation_config.json": _ENDS,
        "tokenizer.json": _tokenizer(),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": "<bos>",
            "eos_token": "<eos>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "clean_up_tokenization_spaces": False,
            "model_max_length": 262144,
            "padding_side": "left",
            "processor_class": "Gemma4Processor",
            **tokens,
            "extra_special_tokens": tokens,
            "chat_template": "{{ bos_token }}{% for m in messages %}"
            "{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}model: ",
        },
        "processor_config.json": {
            "processor_class": "Gemma4Processor",
            "image_processor": {"image_processor_type": "Gemma4ImageProcessor"},
            "video_processor": {"video_processor_type": "Gemma4VideoProcessor"},
            "feature_extractor": {"feature_extractor_type": "Gemma4AudioFeatureExtractor"},
            "image_seq_length": 280,
            "audio_seq_length": 750,
            "audio_ms_per_token": 40,
        },
        "preprocessor_config.json": {
            "image_processor_type": "Gemma4ImageProcessor",
            "processor_class": "Gemma4Processor",
        },
    }


# --- the folder ----------------------------------------------------------------------------------


def make(out: Path | str, size: str = "tiny") -> Models:
    """Return the models of ``size`` in the folder ``out``, made now unless they are there.

    Servers that start together share one folder: the first takes the lock and makes it, the others
    wait. It is built beside ``out`` and renamed, so that a process that is killed leaves no part of
    it. Raises FileExistsError if ``out`` holds anything else.
    """
    out = Path(out).absolute()
    models = Models(out / "target", out / "assistant")
    configs = {models.target: target_config(size), models.assistant: assistant_config(size)}
    recipe = {"size": size, "recipe": _recipe(size, list(configs.values()))}
    out.parent.mkdir(parents=True, exist_ok=True)
    with _locked(out.with_name(f"{out.name}.lock")):
        if (existing := _read_mark(out)) == recipe:
            return models
        if existing is None and out.exists() and any(out.iterdir()):
            raise FileExistsError(f"{out} holds something else; name an empty or a new folder")
        for stale in out.parent.glob(f"{out.name}.partial-*"):
            shutil.rmtree(stale)
        partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
        for folder, config in configs.items():
            (at := partial / folder.name).mkdir(parents=True)
            for name, content in _small_files(config).items():
                text = json.dumps(content, indent=1, ensure_ascii=False)
                (at / name).write_text(text, encoding="utf-8")
            if size != "full":
                _write_safetensors(at / "model.safetensors", tensor_shapes(config), size)
        (partial / _MARK).write_text(json.dumps(recipe), encoding="utf-8")
        if out.exists():
            old = out.with_name(f"{out.name}.partial-{os.getpid()}-old")
            out.rename(old)
            partial.rename(out)
            shutil.rmtree(old)
        else:
            partial.rename(out)
    return models


def _recipe(size: str, configs: list[dict[str, Any]]) -> str:
    """A hash of everything from which the files are made."""
    sources = [_RECIPE, size, [(_small_files(config), tensor_shapes(config)) for config in configs]]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()


def _read_mark(out: Path) -> Any:
    try:
        return json.loads((out / _MARK).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return "unreadable"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that the kernel releases when the process dies, however it dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a Gemma 4 MoE target and its MTP assistant.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=tuple(_SHAPES), default="tiny")
    options = parser.parse_args()
    start = time.monotonic()
    try:
        models = make(options.out, options.size)
    except OSError as error:
        print(f"models: {error}", file=sys.stderr)
        return 1
    for folder in (models.target, models.assistant):
        mib = sum(file.stat().st_size for file in folder.iterdir()) / 2**20
        print(f"{folder}: {mib:.1f} MiB")
    print(f"{time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
