"""A small Chinese GPT-2 as GPT2-Chinese and its children are: BERT's vocabulary, and a config that knows nothing of it."""

from pathlib import Path

CHARACTERS = "从前有一只狐狸住在河边的山上他说我爱你中国老人走到那里发现小船天地玄黄宇宙洪荒日月盈昃辰宿列张座庙个和尚王三女儿最小后扇门千万不能打开大海深处水蓝得像，。！？：“”《》、年月"
WORDS = ["the", "fox", "hello", "world", "gpt", "iphone", "un", "cafe", "a", "b", "c", "z", "2020", "3", "5", "12"]
PIECES = ["##s", "##ed", "##aff", "##able", "##x", "##y", "##z", "##a", "##年", "##2", "##0"]
SIGNS = list(".,!?-'\"()[]:;/%&@#$*+=<>|_~^`{}\\")


def vocabulary() -> list[str]:
    """Tokens in the order of their ids, the marks where bert-base-chinese has them, roughly."""
    marks = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return list(dict.fromkeys([*marks, *SIGNS, *CHARACTERS, *WORDS, *PIECES, "é", "к", "##от", "🦊"]))


def make_chinese(folder: Path, weights: str = "model.safetensors", **tokenizer) -> Path:
    """Write a seeded random model with a vocab.txt; `tokenizer` is what tokenizer_config.json says. Returns the folder."""
    import json

    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    folder.mkdir(parents=True)
    tokens = vocabulary()
    torch.manual_seed(5)
    shape = {"vocab_size": len(tokens), "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 4}
    model = GPT2LMHeadModel(GPT2Config(**shape, initializer_range=0.2))  # with 50256 for begin and end, as many have
    with torch.no_grad():  # [CLS] and [SEP], which end a text, are never likely
        model.transformer.ln_f.weight.fill_(0.3)
        model.transformer.ln_f.bias[0] = 5
        model.transformer.wte.weight[:, 0] = 0
        model.transformer.wte.weight[[3, 4], 0] = -10
    model.save_pretrained(folder)
    if weights != "model.safetensors":
        (folder / "model.safetensors").unlink()
        torch.save(model.state_dict(), folder / weights)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", "utf-8")
    if tokenizer:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder
