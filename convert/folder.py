"""From a checkpoint to a complete `models/NAME`: written beside its place, then moved there in one step."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from convert.bundle import Bundle, open_bundle
from convert.certificate import Certificate, certify
from convert.from_gguf import gguf_vocabulary, open_gguf
from convert.names import to_transformers
from convert.nanogpt import PADDED
from convert.neighbours import Neighbours, read_neighbours
from convert.npm import ASKED, CHOSEN, SIZE, gpt2_vocabulary
from convert.pytorch import open_pytorch
from convert.questions import UnknownVocabulary
from convert.sizes import Sizes, find_sizes
from convert.source import Source
from convert.vocabulary import Bpe, find_vocabulary, word_list, write_makeshift, write_vocabulary
from convert.weights import read_back, write_weights
from generate import END, ModelFolder, Refusal, check_folder, check_target, in_place_of, retelling, write_json

SMALLEST_WINDOW = 32  # positions below which a model is asked for no sample of its own


@dataclass(frozen=True)
class Conversion:
    """What a conversion found and made."""

    bundle: Bundle
    sizes: Sizes
    vocabulary: Bpe | None
    certificate: Certificate | None


def convert(
    source: Source,
    target: Path,
    *,
    n_head: int | None = None,
    vocabulary: Path | None = None,
    dtype: str = "float32",
    force: bool = False,
    check: bool = True,
    end_marker: str | None = None,
    ask: bool = False,
    progress: Callable[[int], None] = lambda size: None,
    stage: Callable[[str], None] = lambda name: None,
) -> Conversion:
    """Convert a checkpoint into the folder `target`; with `check` the result is judged and gets a certificate.

    `end_marker` is "id" or "text"; None asks the model, or without `check` takes the id. With `ask` a vocabulary that is
    missing is asked for (UnknownVocabulary) instead of assumed or left out. `progress` gets the bytes that
    were written, `stage` the name of what is begun. A crash at any moment leaves either nothing or everything at `target`. Raises Refusal.
    """
    check_target(target, force, source.prefix)
    bundle = open_source(source)
    sizes = find_sizes(bundle, hparams_of(source), n_head)
    bpe = vocabulary_of(source, vocabulary, sizes.vocab_size, ask)
    told = read_neighbours(source, sizes.vocab_size, bpe)
    end = told.ends[0] if told.ends else None
    with in_place_of(target) as folder:
        if bpe is not None:
            write_vocabulary(bpe, folder)
        write_json(folder / "config.json", config_of(sizes, told, dtype))
        generation = {"do_sample": True} | told.generation | {"bos_token_id": told.begin, "eos_token_id": told.eos}
        write_json(folder / "generation_config.json", generation)
        stage("writing")
        written = write_weights(bundle, folder / "model.safetensors", dtype, progress)
        read_back(folder / "model.safetensors", written)
        notes = manifest(source, bundle, written.fingerprint, end)
        write_json(folder / "rubric.json", notes)
        certificate = None
        text_marker = end_marker == "text"
        if check:
            stage("judging")
            model = checked(folder, bpe)
            certificate = certify(bundle, sizes, model, dtype, None if bpe is None else bpe.origin)
            if bpe is not None and sizes.n_positions >= SMALLEST_WINDOW:
                sample, learned = ask_model(model)
                certificate = dataclasses.replace(certificate, sample=sample)
                text_marker = learned if end_marker is None else text_marker
            write_json(folder / "certificate.json", dataclasses.asdict(certificate))
        if end is not None and text_marker:
            notes["end"]["text"] = END
            write_json(folder / "rubric.json", notes)
    return Conversion(bundle, sizes, bpe, certificate)


def ask_model(model: ModelFolder) -> tuple[dict[str, str] | None, bool]:
    """A sample of the model's writing, {"prompt", "text"}, and whether it learned the end marker in ordinary tokens."""
    from convert.marker import learned_text_marker, write_samples  # brings the engine, and so torch

    prompt, samples = write_samples(model)
    if not samples:
        return None, False
    said = {"prompt": prompt, "text": samples[0][len(prompt) :]}
    texts = {k: model.tokenizer.vocabulary.bytes_of(ids).decode("utf-8", "replace") for k, ids in said.items()}
    return texts, learned_text_marker(model, prompt, samples)


def checked(folder: Path, bpe: Bpe | None) -> ModelFolder:
    """The new folder as the engine takes it; without a vocabulary it gets a makeshift one for as long as that takes."""
    if bpe is not None:
        return check_folder(folder)
    makeshift = folder / "tokenizer.json"
    write_makeshift(makeshift)
    try:
        return check_folder(folder)
    finally:
        makeshift.unlink()


def open_source(source: Source) -> Bundle:
    """The checkpoint's variables, whichever program wrote it; raises Refusal."""
    if source.is_gguf:
        return open_gguf(source.prefix)
    return open_bundle(source.prefix) if source.is_tensorflow else open_pytorch(source.prefix)


def hparams_of(source: Source) -> Path | None:
    """The file with the hyper-parameters: OpenAI's beside a TensorFlow checkpoint, `transformers`' beside PyTorch's."""
    if source.is_gguf:
        return None
    names = ("hparams.json", "config.json")
    files = [source.beside(name) for name in (names if source.is_tensorflow else names[::-1])]
    return files[0] or files[1]


def vocabulary_of(source: Source, given: Path | None, rows: int, ask: bool = False) -> Bpe | None:
    """The vocabulary: of --vocab, else beside the checkpoint, else GPT-2's own where there are as many `rows`, else none.

    With `ask` nothing is assumed, and UnknownVocabulary raised where none is.
    """
    if source.is_gguf and given is None:
        return gguf_vocabulary(source.prefix)
    try:
        found = found_vocabulary(source, given, rows)
    except Refusal as refusal:  # of what was given as an answer: the question stands
        if not ask or given is None:
            raise
        raise UnknownVocabulary("{reason}", reason=refusal.problem) from None
    if found is None and ask:
        raise UnknownVocabulary(
            "This run holds no vocabulary for its {rows:,} tokens: say whose it is, with --vocab.", rows=rows
        )
    return gpt2_vocabulary() if found is None and rows in (SIZE, PADDED) else found


def found_vocabulary(source: Source, given: Path | None, rows: int) -> Bpe | None:
    """That of --vocab, else the one beside the checkpoint, None where none is; raises Refusal."""
    if given == Path(CHOSEN) and not given.exists():
        return gpt2_as_asked(rows)
    origin = retelling.BESIDE if given is None else retelling.FROM_FOLDER.format(given=given)
    if given is not None and given.suffix == ".txt" and given.name != "merges.txt" and given.is_file():
        return word_list(given, rows, origin)
    folder = source.prefix.parent if given is None else given.parent if given.is_file() else given
    found = find_vocabulary(folder, rows, origin)
    if found is None and given is not None:
        raise Refusal(
            "--vocab {given} holds no vocabulary: no encoder.json with vocab.bpe, no tokenizer.json, no vocab.txt and no "
            "meta.pkl.",
            given=given,
        )
    return found


def gpt2_as_asked(rows: int) -> Bpe:
    """GPT-2's own; raises Refusal where npm has not brought it, or it is too large."""
    found = gpt2_vocabulary(rows, ASKED)
    if found is None:
        raise Refusal("GPT-2's own vocabulary is not here; run `npm ci` once, which brings it.")
    return found


def config_of(sizes: Sizes, told: Neighbours, dtype: str) -> dict:
    """config.json as `transformers` writes it for a GPT-2."""
    return {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": sizes.vocab_size,
        "n_positions": sizes.n_positions,
        "n_embd": sizes.n_embd,
        "n_layer": sizes.n_layer,
        "n_head": sizes.n_head,
        "n_inner": None if sizes.n_inner == 4 * sizes.n_embd else sizes.n_inner,
        "activation_function": sizes.activation,
        "layer_norm_epsilon": sizes.layer_norm_epsilon,
        "initializer_range": sizes.initializer_range,
        "scale_attn_weights": sizes.scale_attn_weights,
        "scale_attn_by_inverse_layer_idx": sizes.scale_attn_by_inverse_layer_idx,
        "tie_word_embeddings": not sizes.has_head,
        "bos_token_id": told.begin,
        "eos_token_id": told.eos,
        "dtype": dtype,
    }


def manifest(source: Source, bundle: Bundle, fingerprint: str, end: int | None) -> dict:
    """rubric.json of the new folder; `end` is the id of its end token, if there is one."""
    name = source.prefix.name.encode("utf-8", "replace").decode()
    tensorflow = (retelling.FROM_TENSORFLOW, retelling.FROM_TENSORFLOW_AT)
    plain, stepped = tensorflow if source.is_tensorflow else (retelling.FROM_PYTORCH, retelling.FROM_PYTORCH_AT)
    plain = retelling.FROM_GGUF if source.is_gguf else plain
    found = to_transformers(bundle.variables)
    value = {
        "format": 1,
        "source": (plain if source.step is None else stepped).format(name=name, step=source.step),
        "fingerprint": fingerprint,
        "checksums": {
            old: [f"{piece.crc:08x}" for piece in bundle.variables[old].pieces] for old in found
        },  # TensorFlow's masked crc32c of every variable that went in
    }
    return value | ({} if end is None else {"end": {"token_id": end}})
