"""What another Rubric is asked fits within what its API takes, however much a run may ask for here."""

from generate import Request, Sampling, find_model
from generate.remote.asking import ask_rubric
from webapp.api.fields import read


def test_as_many_biased_words_are_sent_as_were_given_though_each_is_two_tokens(models):
    folder = find_model(models, "storyteller")
    tokens = {bytes(token) for token in folder.tokenizer.vocabulary.tokens}
    words = sorted(t.decode() for t in tokens if t.isalpha() and t.isascii() and b" " + t in tokens)[:300]
    assert len(words) > 200
    lines = tuple(f"{word} = {place % 7 - 3}" for place, word in enumerate(words))
    request = Request(folder, Sampling(logit_bias=lines))
    assert len(request.biases) > 300
    sent = ask_rubric(request, 0, [5], 0).fields["logit_bias"]
    understood = read({"logit_bias": sent}).options["logit_bias"]
    assert Request(folder, Sampling(logit_bias=tuple(understood))).biases == request.biases
