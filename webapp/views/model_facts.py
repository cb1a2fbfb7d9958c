"""What a model is, in plain sentences: how large, how far it sees, which languages its tokens were made for.

All of it follows from the folder: nothing is asked of the model.
"""

from functools import lru_cache

from babel.numbers import format_compact_decimal

from generate import N_, Config, ModelFolder, Refusal, counted, gettext, languages, retelling
from webapp.views.sentences import listed

# A sentence in each; how many tokens it takes tells whether a vocabulary was made for it.
SENTENCES = {
    "English": "The old man went down to the river, and there he found a little boat that nobody had seen before.",
    "German": "Der alte Mann ging zum Fluss hinunter und fand dort ein kleines Boot, das niemand zuvor gesehen hatte.",
    "French": "Le vieil homme descendit vers la rivière et y trouva un petit bateau que personne n’avait jamais vu.",
    "Spanish": "El viejo bajó hasta el río y encontró allí una pequeña barca que nadie había visto antes.",
    "Russian": "Старик спустился к реке и нашёл там маленькую лодку, которой прежде никто не видел.",
    "Greek": "Ο γέρος κατέβηκε στο ποτάμι και βρήκε εκεί μια μικρή βάρκα που κανείς δεν είχε ξαναδεί.",
    "Arabic": "نزل الرجل العجوز إلى النهر ووجد هناك قاربا صغيرا لم يره أحد من قبل.",
    "Hindi": "बूढ़ा आदमी नदी तक गया और वहाँ उसे एक छोटी नाव मिली जिसे पहले किसी ने नहीं देखा था।",
    "Chinese": "老人走到河边，在那里发现了一只从来没有人见过的小船。",
    "Japanese": "老人は川まで下りて行き、誰も見たことのない小さな舟を見つけた。",
}
LETTERS = {"Chinese": 1.0, "Japanese": 1.0}  # tokens a character, up to which a script without spaces counts as known
RARER = 1.2  # times as many tokens has a word of a whole text, with names and long words, as one of the plain sentence above
FEW, MANY = 1.6, 2.4  # tokens a word, up to which a vocabulary was made for a language; from which on it spells it


def parameters(config: Config) -> int:
    """How many numbers the model consists of; its output shares the embedding, if it has no head of its own."""
    width, inner, ends = config.n_embd, config.n_inner, 1 if config.tied else 2
    attention, feed_forward = 4 * width * width + 4 * width, 2 * width * inner + inner + width
    block = attention + feed_forward + 4 * width
    return (ends * config.vocab_size + config.n_positions) * width + config.n_layer * block + 2 * width


def rounded(count: int) -> str:
    """As in `7.0 million` and `1.6 billion`, in three digits at the most; elsewhere in the powers that are counted there."""
    if languages.current() is not languages.ENGLISH:
        digits = 1 if len(str(count)) % 4 in (0, 3) else 2
        return format_compact_decimal(count, locale=languages.language(), fraction_digits=digits)
    for size, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand")):
        if count >= 0.9995 * size:
            value = count / size
            return f"{value:.0f} {name}" if value >= 99.95 else f"{value:.1f} {name}"
    return str(count)


def source_told(folder: ModelFolder) -> str:
    """One sentence on where it is from; "" where its folder does not say."""
    source = retelling.retold(folder.source) if folder.source else ""
    return gettext("{sentence}.", sentence=source[:1].upper() + source[1:]) if source else ""


def size_told(config: Config) -> str:
    """One sentence on how large it is."""
    layers = counted(config.n_layer, "layer")
    return gettext(
        "{count} parameters in {layers} of width {width:,}. The smallest GPT-2 of OpenAI’s has 124 million.",
        count=rounded(parameters(config)),
        layers=layers,
        width=config.n_embd,
    )


@lru_cache(64)
def tokens_a_word(folder: ModelFolder) -> dict[str, float]:
    """Tokens a word, for each language; of a script without spaces tokens a character."""
    found = {}
    for language, sentence in SENTENCES.items():
        try:
            ids = folder.tokenizer.encode(" " + sentence)
        except Refusal:  # it has no tokens for these characters at all
            continue
        if folder.tokenizer.unknown_id in ids:
            continue
        found[language] = len(ids) / (len(sentence) if language in LETTERS else len(sentence.split()))
    return found


def window_told(folder: ModelFolder) -> str:
    """One sentence on how far back it sees."""
    window, rate = folder.config.n_positions, tokens_a_word(folder).get("English")
    if not rate:
        return gettext(
            "It sees the last {tokens} of a text. What stands further back it does not know any more.",
            tokens=counted(window),
        )
    return gettext(
        "It sees the last {tokens} of a text, in English about {words:,.0f} words. What stands further back it does not "
        "know any more.",
        tokens=counted(window),
        words=round(window / rate / RARER, -1),
    )


def languages_known(folder: ModelFolder) -> list[str]:
    """The languages for which its vocabulary was made."""
    return [name for name, rate in tokens_a_word(folder).items() if rate <= LETTERS.get(name, FEW)]


def languages_told(folder: ModelFolder) -> str:
    """One or two sentences on the languages for which its vocabulary was made."""
    known = languages_known(folder)
    spelled = [name for name, rate in tokens_a_word(folder).items() if rate > LETTERS.get(name, MANY)]
    said = []
    if known:
        tokens = counted(folder.config.vocab_size)
        said.append(gettext("Its {tokens} were made for {languages}.", tokens=tokens, languages=joined(known)))
    if known and spelled:
        said.append(
            gettext(
                "It has to spell {languages} in pieces of letters, and will stumble there.", languages=joined(spelled)
            )
        )
    none = N_("Its tokens were made for no language that this page knows; it spells all of them in pieces.")
    return languages.spaced(said) or gettext(none)


def joined(names: list[str]) -> str:
    """As in `English, German and French`."""
    return listed([gettext(name) for name in names])
