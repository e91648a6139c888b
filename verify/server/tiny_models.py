"""Makes a Gemma 4 MoE target and its MTP assistant out of nothing, to boot a real server with.

    python verify/server/tiny_models.py OUT [--size tiny|float32|full]

OUT/target and OUT/assistant get a configuration, a byte tokenizer and processor files; "tiny" gets
random safetensors too, the same bytes on every host, and so does "float32", of a shape that several
GPUs can share and a server can run in float32. "full" has the shapes of google/gemma-4-26B-A4B-it and
is for --load-format dummy. (Dummy loading skips load_weights and so hides the crash on
`num_experts: null`; that one needs the tiny models' real files.)

Standard library only: shapes follow from the configuration, a safetensors file is a JSON header
and raw bytes, and a bfloat16 of about ±0.05 is two random bytes of which one has been looked up. So
two seconds make what 20 of importing torch and transformers, and building both models, made; and
no package's version decides what is in the files.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
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

# Part of the mark that says a folder is complete: raise it when the bytes of the files change for
# another reason than their configurations.
_RECIPE = 1
_MARK = "complete.json"

_ROPE = {
    "full_attention": {
        "partial_rotary_factor": 0.25,
        "rope_theta": 1000000.0,
        "rope_type": "proportional",
    },
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
}
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
        "num_hidden_layers": 30,
        "hidden_size": 2816,
        "intermediate_size": 2112,
        "moe_intermediate_size": 704,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 2,
        "vocab_size": 262144,
        "vocab_size_per_layer_input": 262144,
        "sliding_window": 1024,
        "max_position_embeddings": 262144,
    },
    "tiny": {
        "num_hidden_layers": 6,
        "hidden_size": 256,
        "intermediate_size": 512,
        "moe_intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_global_key_value_heads": 1,
        "vocab_size": 1024,
        "vocab_size_per_layer_input": 1024,
        "sliding_window": 512,
        "max_position_embeddings": 8192,
    },
}
# What eight ranks can share, and what each of six stages has a layer of either kind of; heads so
# narrow that attention's tiles fit into a GPU's shared memory in float32 too.
_SHAPES["float32"] = _SHAPES["tiny"] | {
    "num_hidden_layers": 12,
    "moe_intermediate_size": 32,
    "num_attention_heads": 8,
    "head_dim": 64,
    "global_head_dim": 128,
}
_FULL_ATTENTION_EVERY = {"full": 6, "tiny": 6, "float32": 2}


def _text(size: str) -> dict[str, Any]:
    shapes, every = _SHAPES[size], _FULL_ATTENTION_EVERY[size]
    layers = shapes["num_hidden_layers"]
    return {
        "model_type": "gemma4_text",
        "dtype": "bfloat16",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "attention_k_eq_v": True,
        "bos_token_id": 2,
        "eos_token_id": 1,
        "pad_token_id": 0,
        "enable_moe_block": True,
        "num_experts": 128,
        "top_k_experts": 8,
        "final_logit_softcapping": 30.0,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size_per_layer_input": 0,
        "initializer_range": 0.02,
        "num_kv_shared_layers": 0,
        "rms_norm_eps": 1e-6,
        "rope_parameters": _ROPE,
        "tie_word_embeddings": True,
        "use_bidirectional_attention": "vision",
        "use_cache": True,
        "use_double_wide_mlp": False,
        "head_dim": 256,
        "global_head_dim": 512,
        "layer_types": [
            "sliding_attention" if (layer + 1) % every else "full_attention"
            for layer in range(layers)
        ],
        **shapes,
    }


def target_config(size: str) -> dict[str, Any]:
    """Multimodal, as the released MoE is: SGLang asks for vision_config and eoa_token_id."""
    full = size == "full"
    heads = 8 if size == "float32" else 1  # of the vision tower, of which every rank has a share
    return {
        "architectures": ["Gemma4ForConditionalGeneration"],
        "model_type": "gemma4",
        "dtype": "bfloat16",
        "text_config": _text(size),
        "vision_config": {
            "model_type": "gemma4_vision",
            "dtype": "bfloat16",
            "hidden_size": 1152 if full else 64,
            "intermediate_size": 4304 if full else 128,
            "num_hidden_layers": 27 if full else 1,
            "num_attention_heads": 16 if full else heads,
            "num_key_value_heads": 16 if full else heads,
            "head_dim": 72 if full else 64 // heads,
            "patch_size": 16,
            "pooling_kernel_size": 3,
            "position_embedding_size": 10240 if full else 64,
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 131072,
            "standardize": full,
            "rope_parameters": {"rope_theta": 100.0, "rope_type": "default"},
        },
        "audio_config": None,
        **_ENDS,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "transformers_version": "5.8.1",
        **{f"{name}_token_id": number for name, (number, _) in _MEDIA.items()},
        "eoa_token_index": _MEDIA["eoa"][0],
    }


def assistant_config(size: str) -> dict[str, Any]:
    """Dense, with `num_experts: null` as in the released assistants; all its layers share the
    target's keys and values."""
    full = size == "full"
    return {
        "architectures": ["Gemma4AssistantForCausalLM"],
        "model_type": "gemma4_assistant",
        "dtype": "bfloat16",
        "backbone_hidden_size": 2816 if full else 256,
        "use_ordered_embeddings": False,
        "num_centroids": 2048,
        "centroid_intermediate_top_k": 32,
        "tie_word_embeddings": True,
        "text_config": {
            **_text(size),
            "enable_moe_block": False,
            "num_experts": None,
            "top_k_experts": None,
            "moe_intermediate_size": None,
            "num_hidden_layers": 4,
            "num_kv_shared_layers": 4,
            "hidden_size": 1024 if full else 128,
            "intermediate_size": 8192 if full else 256,
            "vocab_size_per_layer_input": 0,
            "final_logit_softcapping": None,
            "attention_k_eq_v": False,
            "use_bidirectional_attention": None,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
        },
        **_ENDS,
        "transformers_version": "5.8.1",
    }


# --- tensors -------------------------------------------------------------------------------------


def shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a checkpoint with this configuration."""
    text = config["text_config"]
    assistant = config["model_type"] == "gemma4_assistant"
    prefix = "model." if assistant else "model.language_model."
    hidden = text["hidden_size"]
    found = dict(_text_shapes(text, prefix))
    if assistant:
        backbone = config["backbone_hidden_size"]
        found["pre_projection.weight"] = (hidden, 2 * backbone)
        found["post_projection.weight"] = (backbone, hidden)
    elif vision := config["vision_config"]:
        found["model.embed_vision.embedding_projection.weight"] = (hidden, vision["hidden_size"])
        found |= _vision_shapes(vision)
    return found


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
    """What these tensors take in bfloat16."""
    return 2 * sum(_count(shape) for shape in shapes(config).values())


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for one in shape:
        count *= one
    return count


# The high byte of a bfloat16 is its sign and all but the last bit of its exponent, so random low
# bytes under these make numbers of either sign between 2**-9 and 2**-3, with a deviation of 0.05.
_WEIGHTS = bytes(
    ([0x3D] * 57 + [0xBD] * 57 + [0x3C] * 58 + [0xBC] * 58 + [0x3B] * 13 + [0xBB] * 13)[i]
    for i in range(256)
)
_ONE = b"\x80\x3f"
# Of the norm of attention's queries. Gemma 4 does not scale their products, and with 1 here a softmax
# is so steep that a difference in the last bit grows by half in every layer; with a quarter it stays.
_QUERY_NORM = {"float32": b"\x80\x3e"}


def _values(name: str, shape: tuple[int, ...], query_norm: bytes = _ONE) -> bytes | bytearray:
    """A tensor's bytes: drawn from its name alone, so that its neighbours do not matter."""
    count = _count(shape)
    drawn = random.Random(f"{_RECIPE} {name}")
    if name.endswith("per_expert_scale"):
        # From 0.5 to 2: a router that forgets the scale, or takes another expert's, must be seen.
        values = bytearray(b"\x00\x3f" * count)
        values[0::2] = drawn.randbytes(count)
        return values
    if name.endswith("q_norm.weight"):
        return query_norm * count
    if len(shape) < 2:
        return _ONE * count  # norms and scalars: random ones drown what flows through them
    values = bytearray(2 * count)
    values[0::2] = drawn.randbytes(count)
    values[1::2] = drawn.randbytes(count).translate(_WEIGHTS)
    return values


def _write_safetensors(path: Path, tensors: dict[str, tuple[int, ...]], size: str) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in tensors.items():
        start, end = end, end + 2 * _count(shape)
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors.items():
            file.write(_values(name, shape, _QUERY_NORM.get(size, _ONE)))


# --- tokenizer and processor ---------------------------------------------------------------------


def _alphabet() -> list[str]:
    """GPT-2's 256 stand-ins for bytes: printable ones are themselves, the rest move to 256 and up."""
    shown = {*range(33, 127), *range(161, 173), *range(174, 256)}
    return sorted([chr(one) for one in shown] + [chr(256 + i) for i in range(256 - len(shown))])


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
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [],
        },
    }


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
    """The models of ``size`` in ``out``, made now or found complete.

    Servers that start together share one folder: the first holds the lock and makes it, the others
    wait. It is built beside and renamed, so a maker that was killed leaves no half of one.
    """
    out = Path(out).absolute()
    models = Models(out / "target", out / "assistant")
    configs = {models.target: target_config(size), models.assistant: assistant_config(size)}
    recipe = {"size": size, "recipe": _recipe(size, list(configs.values()))}
    out.parent.mkdir(parents=True, exist_ok=True)
    with _locked(out.with_name(f"{out.name}.lock")):
        if (there := _mark(out)) == recipe:
            return models
        if there is None and out.exists() and any(out.iterdir()):
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
                _write_safetensors(at / "model.safetensors", shapes(config), size)
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
    """Changes with whatever the files are made of."""
    made_of = [_RECIPE, size, [(_small_files(one), shapes(one)) for one in configs]]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _mark(out: Path) -> Any:
    try:
        return json.loads((out / _MARK).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        return "unreadable"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The kernel lets go of this lock when its holder dies, however it dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    asked = argparse.ArgumentParser(description="Make a Gemma 4 MoE target and its MTP assistant.")
    asked.add_argument("out", type=Path)
    asked.add_argument("--size", choices=tuple(_SHAPES), default="tiny")
    given = asked.parse_args()
    start = time.monotonic()
    try:
        models = make(given.out, given.size)
    except OSError as error:
        print(f"models: {error}", file=sys.stderr)
        return 1
    for folder in (models.target, models.assistant):
        mib = sum(one.stat().st_size for one in folder.iterdir()) / 2**20
        print(f"{folder}: {mib:.1f} MiB")
    print(f"{time.monotonic() - start:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
