"""The engine: text in, tokens out. It knows nothing of Flask, of databases, or of our other packages.

These are its public names. `LocalEngine`, `has_bfloat16`, `logits_of` and `read_tensors` bring torch, `RemoteEngine` an HTTP
client: they are imported when first asked for. All else is light.
"""

import os

# libgomp's busy waiting makes a step up to 100 times slower beside any other busy process; read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("GOMP_SPINCOUNT", "0")

from generate import files, languages
from generate.errors import Busy, NoRoom, Problem, Refusal
from generate.folders import retold as retelling
from generate.folders.atomic import (
    check_target,
    half_made,
    in_place_of,
    remove_whole,
    sync,
    write_json,
    write_secret,
    write_whole,
)
from generate.folders.config import ACTIVATIONS, Config, read_config
from generate.folders.contract import check_folder
from generate.folders.download import pull_from_hub
from generate.folders.examples import Example
from generate.folders.finding import Listed, find_model, list_models, model_homes, models_folder
from generate.folders.model_folder import ModelFolder
from generate.folders.strangers import kind_by_names, refuse_adapter, refuse_other_files
from generate.folders.tensors import tensor_shapes
from generate.folders.weights import plain_name
from generate.help import Help, RawHelp
from generate.interface.engine import Capabilities, Engine, Outlook
from generate.interface.log import RunLog, SampleLog
from generate.interface.request import Request
from generate.interface.states import BY_ITSELF, FinishReason, RunState, Withdrawal
from generate.interface.tally import OTHERS, Histogram, Tallies, Tally
from generate.journal import Journal
from generate.languages import N_, gettext, ngettext
from generate.mistaken import refuse_mistaken
from generate.network import address_on_the_network
from generate.sampling.explain import Place
from generate.sampling.groups import Group
from generate.sampling.in_use import in_use, require_samplers, without_effect
from generate.sampling.lists import ListOption, bias_pairs
from generate.sampling.options import LISTS, OPTIONS, Option, Sampling, parse_sampling
from generate.sampling.perplexity import Score, perplexity
from generate.sampling.presets import BY_PRESET, PRESETS, Preset, find_preset, parse_with_preset
from generate.sampling.records import is_known, known, record_as_dict, record_dtype, unknown_records
from generate.scheduling.window import context_at, window_start
from generate.settings import SETTINGS, read_settings
from generate.text.bpe import END, byte_level, check_reached, merges_of, model_of, read_encoder, read_object
from generate.text.characters import CharacterGate, split_half_character
from generate.text.counts import counted
from generate.text.escapes import unescape
from generate.text.guess import guess_encoding
from generate.text.incoming import TextDecoder, plain_text, read_text
from generate.text.kinds import character_level, is_lossless
from generate.text.tokenizer import open_tokenizer, read_pair, read_whole
from generate.text.vocabulary import Vocabulary, read_vocabulary
from generate.text.wordpiece import CLS, SEP, UNK, read_wordpiece
from generate.tied import tie
from generate.values import origin_of

__all__ = [
    "ACTIVATIONS",
    "BY_ITSELF",
    "BY_PRESET",
    "CLS",
    "END",
    "LISTS",
    "N_",
    "OPTIONS",
    "OTHERS",
    "PRESETS",
    "SEP",
    "SETTINGS",
    "UNK",
    "Busy",
    "Capabilities",
    "CharacterGate",
    "Config",
    "Engine",
    "Example",
    "FinishReason",
    "Group",
    "Help",
    "Histogram",
    "Journal",
    "ListOption",
    "Listed",
    "LocalEngine",
    "ModelFolder",
    "NoRoom",
    "Option",
    "Outlook",
    "Place",
    "Preset",
    "Problem",
    "RawHelp",
    "Refusal",
    "RemoteEngine",
    "Request",
    "RunLog",
    "RunState",
    "SampleLog",
    "Sampling",
    "Score",
    "Tallies",
    "Tally",
    "TextDecoder",
    "Vocabulary",
    "Withdrawal",
    "address_on_the_network",
    "bias_pairs",
    "byte_level",
    "character_level",
    "check_folder",
    "check_reached",
    "check_target",
    "context_at",
    "counted",
    "files",
    "find_model",
    "find_preset",
    "gettext",
    "guess_encoding",
    "half_made",
    "has_bfloat16",
    "in_place_of",
    "in_use",
    "is_known",
    "is_lossless",
    "kind_by_names",
    "known",
    "languages",
    "list_models",
    "logits_of",
    "merges_of",
    "model_homes",
    "model_of",
    "models_folder",
    "ngettext",
    "open_tokenizer",
    "origin_of",
    "parse_sampling",
    "parse_with_preset",
    "perplexity",
    "plain_name",
    "plain_text",
    "pull_from_hub",
    "read_config",
    "read_encoder",
    "read_object",
    "read_pair",
    "read_settings",
    "read_tensors",
    "read_text",
    "read_vocabulary",
    "read_whole",
    "read_wordpiece",
    "record_as_dict",
    "record_dtype",
    "refuse_adapter",
    "refuse_mistaken",
    "refuse_other_files",
    "remove_whole",
    "require_samplers",
    "retelling",
    "split_half_character",
    "sync",
    "tensor_shapes",
    "tie",
    "unescape",
    "unknown_records",
    "window_start",
    "without_effect",
    "write_json",
    "write_secret",
    "write_whole",
]


def __getattr__(name: str):
    if name == "LocalEngine":
        from generate.scheduling.engine import LocalEngine

        return LocalEngine
    if name == "has_bfloat16":
        from generate.transformer.cpu import has_bfloat16

        return has_bfloat16
    if name == "logits_of":
        from generate.transformer.logits import logits_of

        return logits_of
    if name == "read_tensors":
        from generate.transformer.reading import read_tensors

        return read_tensors
    if name == "RemoteEngine":
        from generate.remote.engine import RemoteEngine

        return RemoteEngine
    raise AttributeError(f"module 'generate' has no attribute {name!r}")
