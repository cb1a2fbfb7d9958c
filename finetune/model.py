"""The model that is trained: loaded from a folder or made anew, checked, and with adapters where they are asked for."""

import json
import os
import re

import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

from finetune.grow import add_layers
from finetune.options import Options
from finetune.start import WINDOW, Start
from generate import ModelFolder, Refusal, read_text

LAYERS = 6  # of a new model, where --layers does not say
WIDTH = 64  # features of an attention head of a new model, as in all of OpenAI's
HEAD = "lm_head.weight"


def load_model(start: Start, options: Options) -> GPT2LMHeadModel:
    """The model in float32, ready to be trained; the same for the same seed."""
    torch.manual_seed(options.seed)
    dropout = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), options.dropout)
    if start.folder is None:
        model = GPT2LMHeadModel(new_config(start, options, dropout))
        if options.zero_init:
            for block in model.transformer.h:
                torch.nn.init.zeros_(block.attn.c_proj.weight)
                torch.nn.init.zeros_(block.mlp.c_proj.weight)
        use_one_kernel(model)
    else:
        model = load_weights(start.folder, **dropout)
        if options.layers:
            add_layers(start.folder.name, model, options.layers)
    if start.added:
        model.resize_token_embeddings(start.tokenizer.get_vocab_size(with_added_tokens=True))
    model.config.bos_token_id = start.end if start.begin is None else start.begin
    model.config.eos_token_id = start.eos
    model.config.use_cache = False
    if options.freeze_embeddings:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = bool(re.match(r"transformer\.h\.", name))
    return with_adapters(model, options) if options.lora else model


def load_weights(folder: ModelFolder, **dropout: float) -> GPT2LMHeadModel:
    """The model of a folder as the engine reads it, in float32; raises Refusal where a number is not finite."""
    from generate import read_tensors

    # read by us: `transformers` takes no byte order mark, nor names with a trainer's prefix
    config = GPT2Config.from_dict(json.loads(read_text(folder.path / "config.json")), **dropout)
    tensors = read_tensors(folder, torch.device("cpu"), torch.float32)
    config.tie_word_embeddings = HEAD not in tensors
    model = GPT2LMHeadModel.from_pretrained(
        None,
        config=config,
        state_dict={name if name == HEAD else f"transformer.{name}": value for name, value in tensors.items()},
        # nothing is sampled from it; the folder's own is carried over by result.py, and might keep checkpoints from being
        # saved: `transformers` refuses to write a min_p without do_sample
        generation_config=GenerationConfig.from_model_config(config),
        dtype=torch.float32,
    )
    model.name_or_path = str(folder.path)  # where peft looks whether there are more tokens than the base model had
    use_one_kernel(model)
    return model


def use_one_kernel(model: GPT2LMHeadModel) -> None:
    """GELU in one kernel, where the same function as gelu_new takes eight."""
    if model.config.activation_function == "gelu_new":
        for block in model.transformer.h:
            block.mlp.act = torch.nn.GELU(approximate="tanh")


def new_config(start: Start, options: Options, dropout: dict[str, float]) -> GPT2Config:
    """The shape of a model from nothing; raises Refusal when it cannot be, or when memory is too small for its weights."""
    heads = options.heads or max(1, options.width // WIDTH)
    if options.width % heads:
        raise Refusal(
            "--width {width} cannot be shared by {heads} heads; give --heads that divide it.",
            width=options.width,
            heads=heads,
        )
    layers = options.layers or LAYERS
    needed = 4 * count_parameters(start, options)
    if needed > (there := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")):
        raise Refusal(
            "--layers {layers} of --width {width} need {needed:,.0f} GiB for the weights alone; this machine has "
            "{there:,.0f} GiB.",
            layers=layers,
            width=options.width,
            needed=needed / 2**30,
            there=there / 2**30,
        )
    return GPT2Config(
        vocab_size=start.tokenizer.get_vocab_size(with_added_tokens=True),
        n_positions=options.block_size or WINDOW,
        n_embd=options.width,
        n_layer=layers,
        n_head=heads,
        bos_token_id=start.end,
        eos_token_id=start.end,
        **dropout,
    )


def count_parameters(start: Start, options: Options) -> int:
    """The weights of the model that will be trained, biases and norms left out."""
    base = start.folder and start.folder.config
    width = base.n_embd if base else options.width
    layers = options.layers or (base.n_layer if base else LAYERS)
    positions = base.n_positions if base else options.block_size or WINDOW
    vocab = start.tokenizer.get_vocab_size(with_added_tokens=True)
    inner = base.n_inner if base else 4 * width
    return layers * (4 * width + 2 * inner) * width + (vocab + positions) * width


def with_adapters(model: GPT2LMHeadModel, options: Options):
    """Low-rank adapters on the matrices inside the blocks. GPT-2 keeps those transposed, as [in, out]."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=options.lora,
        lora_alpha=2 * options.lora,
        lora_dropout=options.dropout,
        target_modules=["c_attn", "c_proj", "c_fc"],
        fan_in_fan_out=True,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)
