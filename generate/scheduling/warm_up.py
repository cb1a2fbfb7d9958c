"""One step of a model before anybody waits for it."""

import torch

from generate.sampling.options import Sampling
from generate.sampling.pressure import Pressure, Pressures
from generate.sampling.sampler import Filters, RowOptions, choose
from generate.sampling.statistics import report_sampled, report_usual, survey
from generate.text.vocabulary import Vocabulary
from generate.transformer.kv_cache import KVCache
from generate.transformer.model import GPT2


def warm_up(model: GPT2, cache: KVCache) -> None:
    """Read one token and write one, so that a model that cannot run is known before it is offered.

    Whatever is compiled at its first use is compiled here, and not while somebody waits for a text.
    """
    prefix = cache.new_prefix(1)
    first, one = (torch.full((1,), n, dtype=torch.int64, device=model.device) for n in (0, 1))
    logits = model.logits(model.hidden([(prefix, first, first)]))
    pressure = Pressure(Sampling(dry_multiplier=1, presence_penalty=1), {}, Vocabulary([b""]), [0, 0])
    for more in ({}, {"filters": Filters(*[one.float()] * 4), "pressures": Pressures({0: pressure})}):
        options = RowOptions(one.float(), one, one.float(), one.float(), one, first, first, None, **more)
        report_sampled(logits, seen := survey(logits), choose(logits, options, seen.top), options).records()
        if options.usual:
            report_usual(logits, options)
    if model.config.n_positions > 1:
        prefix.length = 1
        slot = cache.join(None, prefix, shared=False)
        cache.make_room()
        cache.begin_step()
        model.hidden([(cache, first, first + 1)])
        cache.leave(slot)
