"""What a model thinks of a text that is given whole."""

import numpy as np
import torch

from generate.folders.model_folder import ModelFolder
from generate.transformer.model import load_model
from generate.transformer.prefix import Prefix


def logits_of(folder: ModelFolder, texts: list[list[int]]) -> list[np.ndarray]:
    """Load a model as the engine does (CPU, float32) and return its logits, float32 [T, V], for each list of ids.

    Each list has 1 to n_positions ids. Raises Refusal for weights that cannot be served.
    """
    device = torch.device("cpu")
    with torch.inference_mode():
        model = load_model(folder, device, "float32")
        out = []
        for ids in texts:
            prefix = Prefix(model.config, len(ids), device, model.dtype)
            hidden = model.hidden([(prefix, torch.tensor(ids), torch.arange(len(ids)))])
            out.append(model.logits(hidden).numpy())
    return out
