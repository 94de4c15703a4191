"""A tiny causal language model with random weights, as a hub would give it."""

from __future__ import annotations

from string import ascii_letters, digits, punctuation

import torch

from storylib.data import smollm2

SIZES = {
    "llama": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2},
    "granite": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2},
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 200},
}
END, LINE = "<|endoftext|>", "Ċ"  # how byte-level pieces spell a line feed


MERGES = ["h e", "Ġ t", "Ġt he", "Ċ Ċ"]
PIECES = [END, "<|user|>", *ascii_letters, *digits, *punctuation, "Ġ", LINE, "he", "Ġt", "Ġthe", "ĊĊ"]


def random_network(kind, **options):
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, vocab_size=len(PIECES), tie_word_embeddings=True, **SIZES[kind], **options)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    for weight in network.parameters():
        weight.data.mul_(8 if weight.ndim > 1 else 1)  # so that a word depends on those before it
    return network


def hub_folder(folder, kind="gpt2", **options):
    """A tiny causal model with random weights and a byte-level tokenizer, as a hub would give it."""
    from transformers import PreTrainedTokenizerFast

    random_network(kind, **options).save_pretrained(folder)
    core = smollm2._byte_level(PIECES, MERGES)
    marks = {"bos_token": END, "eos_token": END, "additional_special_tokens": ["<|user|>"]}
    PreTrainedTokenizerFast(tokenizer_object=core, **marks).save_pretrained(folder)
    return f"hf:{folder}"


WINDOWS = [
    (("The fox runs.", "It finds the river.", "It is cold."), "The fox swims."),
    (("A very long story about the owl.", "It flies.", "And flies."), "The owl sleeps at the end of it all."),
    ((), "The fox swims."),
    (("The fox runs.", "It finds the river.", "It is cold."), "The fox swims."),
]


def true_log_probabilities(model, context, target):
    """Of each piece of the target and its end, by the whole network on the whole text, alone."""
    text = "".join(f"{line}\n" for line in (*context, target))
    ids = torch.tensor([model.start, *model.tokenizer(text)["input_ids"]])
    with torch.inference_mode():
        scores = model.network(ids[None]).logits[0].log_softmax(-1)
    size = len(model.tokenizer(target)["input_ids"]) + 1
    return scores[:-1].gather(1, ids[1:, None])[-size:, 0]
