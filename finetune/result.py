"""A trained model as a folder that keeps the contract of `models/NAME`."""

import copy
import errno
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import GPT2LMHeadModel

from finetune.options import Options, changed
from finetune.start import Start
from generate import ModelFolder, Refusal, check_folder, in_place_of, logits_of, read_text, retelling, write_json

PROOF = 64  # tokens on which the written folder must give the trained model's logits
# The largest difference of a logit of up to 10 that rounding explains.
AGREE = {"float32": 1e-3, "float16": 0.1, "bfloat16": 1.0}


def write_model(folder: Path, model, start: Start, dtype: str, manifest: dict[str, Any]) -> ModelFolder:
    """Write weights, config, tokenizer and manifest into an empty folder; adapters are merged into a copy of the weights."""
    model = merged(model)
    weights = {
        name: value.detach().to("cpu", getattr(torch, dtype), copy=True).contiguous()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight" or not model.config.tie_word_embeddings  # else it is the embedding
    }
    try:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    except SafetensorError as error:  # so safetensors tells of a full disk
        raise OSError(errno.EIO, str(error), str(folder / "model.safetensors")) from None
    (folder / "model.safetensors").chmod(0o644)  # as all other files; safetensors makes it private
    write_json(folder / "config.json", config_of(model, dtype))
    (folder / "tokenizer.json").write_text(start.tokenizer.to_str(pretty=True), "utf-8")
    write_json(folder / "generation_config.json", generation_config(start))
    end = {"token_id": start.end} | ({"text": start.folder.end_text} if start.folder and start.folder.end_text else {})
    begin = {} if start.begin is None else {"begin": {"token_id": start.begin}}
    write_json(folder / "rubric.json", {"format": 1} | manifest | {"end": end} | begin)
    return check_folder(folder)


def place(out: Path, work: Path, model, start: Start, options: Options, facts: dict[str, Any], ids: list[int]) -> None:
    """Make the folder `out`: the model, proved on `ids`, with what is known of its training. Raises Refusal."""
    with in_place_of(out) as part:
        folder = write_model(part, model, start, options.dtype, manifest(start, options, facts))
        prove(folder, model, ids, options.dtype)
        sealed = json.loads((part / "rubric.json").read_text("utf-8")) | {"fingerprint": folder.fingerprint()}
        write_json(part / "rubric.json", sealed)
        write_json(part / "run.json", facts)
        (part / "tensorboard").mkdir()
        for n, file in enumerate(sorted((work / "tensorboard").iterdir())):
            shutil.copyfile(file, part / "tensorboard" / f"events.out.tfevents.{n}")  # theirs name this machine


def manifest(start: Start, options: Options, facts: dict[str, Any]) -> dict[str, Any]:
    """rubric.json of the new model: what it is, what it was trained on, and how its documents end."""
    names = ", ".join(source["name"] for source in facts["data"])
    how = retelling.FROM_NOTHING.format(files=names)
    if start.folder:
        how = retelling.FINE_TUNED.format(model=start.folder.name, files=names)
    training = {
        "base": facts["model"],
        "data": facts["data"],
        "options": changed(options),
        "steps": facts["steps"],
        "losses": {e["step"]: e.get("loss") for e in facts["evaluations"] if e["part"] == "validation"},
    }
    return {"source": how, "training": training}


def merged(model) -> GPT2LMHeadModel:
    """The plain GPT-2 that the playground serves."""
    if isinstance(model, GPT2LMHeadModel):
        return model
    return copy.deepcopy(model).merge_and_unload()


def config_of(model: GPT2LMHeadModel, dtype: str) -> dict[str, Any]:
    """config.json of the new model, with the type its weights are stored in."""
    config = model.config.to_dict() | {"architectures": ["GPT2LMHeadModel"], "dtype": dtype}
    for unneeded in ("_name_or_path", "transformers_version", "use_cache"):
        config.pop(unneeded, None)
    return config


def generation_config(start: Start) -> dict[str, Any]:
    """The base model's own defaults for sampling, with this model's end token."""
    file = start.folder.path / "generation_config.json" if start.folder else None
    kept = json.loads(read_text(file)) if file and file.exists() else {"do_sample": True}
    return kept | {"bos_token_id": start.end if start.begin is None else start.begin, "eos_token_id": start.eos}


def prove(folder: ModelFolder, model, ids: list[int], dtype: str) -> float:
    """The largest difference between the logits of the engine over the folder and those of the trained model.

    Raises Refusal when rounding does not explain it: what was written is then not what was trained.
    """
    ids = ids[: min(PROOF, folder.config.n_positions)]
    plain = merged(model)
    device, training = next(plain.parameters()).device, plain.training
    plain.eval()
    with torch.inference_mode():
        inputs = torch.tensor([ids], device=device)
        # the class's own forward: the Trainer puts autocast around the model's
        theirs = GPT2LMHeadModel.forward(plain, input_ids=inputs).logits[0].float().cpu().numpy()
    plain.train(training)
    difference = float(abs(logits_of(folder, [ids])[0] - theirs).max())
    if not difference <= AGREE[dtype] * max(1.0, float(abs(theirs).max()) / 10):
        raise Refusal(
            "The model that was written differs from the one that was trained by {difference:.2g} in a logit, which "
            "--dtype {dtype} does not explain; it was not kept.",
            difference=difference,
            dtype=dtype,
        )
    return difference
