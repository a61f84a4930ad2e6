"""A model and a tokenizer of a few thousand weights, made on the spot: no files, no network."""

from typing import Any

from suffice.jepa.views import Conversation, TokenizedChat, examples

TURN = "{{ '<start>' + m['role'] + '\\n' + m['content'] + '<end>\\n' }}"
OPENING = "{% if add_generation_prompt %}{{ '<start>assistant\\n' }}{% endif %}"
CHATML = "{% for m in messages %}" + TURN + "{% endfor %}" + OPENING


def tokenizer(*, template: str | None = CHATML, pad: str = "<end>") -> Any:
    """A tokenizer of bytes, with one merge: two line ends in a row are one token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: i for i, letter in enumerate([*letters, "ĊĊ"])}
    raw = Tokenizer(models.BPE(vocabulary, [("Ċ", "Ċ")]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<end>",
        pad_token=pad,
        additional_special_tokens=["<start>"],
        chat_template=template,
    )


def llama(*, vocabulary: int = 300, seed: int = 0, **changes: Any) -> Any:
    """A random Llama of two layers with grouped heads and tied embeddings."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 257,
        "pad_token_id": 257,
    }
    return LlamaForCausalLM(LlamaConfig(**shape | changes))


def conversation(question: str, answer: str, *, system: str | None = "Translate.") -> Conversation:
    opening = [] if system is None else [{"role": "system", "content": system}]
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return Conversation(messages=(*opening, *turns), where="rows.jsonl:1")


def cut(*pairs: tuple[str, str], using: Any = None) -> list[TokenizedChat]:
    return examples([conversation(q, a) for q, a in pairs], tokenizer=using or tokenizer())


PAIRS = (("lines with a dog", ".*dog.*"), ("a vowel", "[aeiou]"), ("digits, thrice", "[0-9]{3}"))
