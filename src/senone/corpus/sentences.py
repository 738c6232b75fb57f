"""Sentences to be spoken: a small grammar of financial news, with names and numbers nobody has heard before.

Nearly all of the grammar's own words come up in training; made-up names and many figures do not. About a
tenth of the words of dev and test are therefore new, as in a real task, and to know words is no help there.
"""

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np


def _one_of(words: str) -> tuple[str, ...]:
    return tuple(words.split())


RULE = re.compile(r"<(\w+)>")

# A rule is a choice of expansions, equally likely unless repeated; <name> is replaced by an expansion of
# that rule, or by one of MADE_UP below. Commas become pauses, and pauses are where breaths and coughs go.
GRAMMAR: dict[str, tuple[str, ...]] = {
    "sentence": (
        "<opening>, <subject> <did>.",
        "<subject> <did> <when>.",
        "<subject> <did>, <attribution>.",
        "<subject>, <aside>, <did>.",
        "<subject> <did>, <turn> <subject> <did>.",
        "<person>, <office> of <company>, <did>.",
        "<subject> <did>, <result>.",
        "<attribution>, <group> <will> <plan>.",
        "<group> had expected <figure>, but <subject> <did>.",
        "in <place>, <subject> <will> <plan>.",
        "we <will> <plan>, said <person>, <turn> our <thing> <rose>.",
    ),
    "subject": (
        *("<company>",) * 2,
        "the Treasury",
        "the Federal Reserve",
        "the White House",
        "Congress",
        "<person>",
        "<group>",
        "the <adjective> <thing>",
        "<thing> of <company>",
        "the <place> <venture>",
        "shares in <company>",
        "the price of <goods>",
        "demand for <goods>",
        "the <sector> industry",
    ),
    "opening": (
        "<when>",
        "despite <adjective> <thing>",
        "as <group> watched",
        "after months of <adjective> talks in <place>",
        "in a <adjective> move",
        "with <goods> trading at <money>",
        "for the <ordinal> quarter",
        "while <thing> remained <adjective>",
    ),
    "aside": (
        "which makes <goods> and <goods>",
        "based in <place>",
        "once the <adjective> choice of <group>",
        "a unit of <company>",
        "the <adjective> <venture> of <person>",
        "already under pressure from <group>",
        "which employs about <count> people",
    ),
    "attribution": (
        "<person> said",
        *("<group> said",) * 2,
        "a <adjective> report said",
        "according to <person> of <company>",
        "a spokesman for <company> told reporters",
        "<person> wrote in a letter to <group>",
        "people close to the matter say",
    ),
    "turn": ("although", "because", "while", "and so", "even though", "before", "as", "but"),
    "did": (
        "<rose> <amount>",
        "<rose> <amount> to <money>",
        "<rose> to <money> from <money>",
        "reported <adjective> <thing> of <money>",
        "sold its <place> <venture> for <money>",
        "agreed to buy <count> shares of <company>",
        "closed <number> plants in <place>",
        "refused to discuss the <adjective> <thing>",
        "put the <thing> at <figure>",
        "would not measure its exposure to <goods>",
        "hired <person> from <company>",
        "joined <company> in a <adjective> <venture>",
        "took a charge of <money> against <thing>",
        "raised its <thing> by <percent>",
        "could not explain the <adjective> <thing>",
        "looked <adjective> to <group>",
        "changed <thing> without the usual warning",
    ),
    "rose": _one_of("rose fell climbed dropped jumped slipped gained tumbled eased surged"),
    "will": _one_of("will may could should would can might must"),
    "plan": (
        "cut <thing> by <percent>",
        "spend <money> on <goods>",
        "choose a new <office>",
        "finish the <venture> in <place>",
        "push <thing> through this <season>",
        "offer <count> bonds at <percent>",
        "lose <percent> of its <thing>",
        "pay <money> a share for <company>",
        "look at <goods> and <thing>",
        "join the <place> exchange",
        "enjoy a full year of <adjective> <thing>",
    ),
    "result": (
        "pushing <goods> to <money>",
        "leaving <thing> at <figure>",
        "a loss of <money>",
        "the <ordinal> such decision this <season>",
        "well above the <figure> of a year ago",
        "thus avoiding a <adjective> vote",
        "its worst showing since <year>",
    ),
    "when": (
        "on <day>",
        "last <season>",
        "this <season>",
        "in the <ordinal> quarter",
        "since <year>",
        "late on <day>",
        "early in <year>",
        "over the past <number> weeks",
        "on the <ordinal> of the month",
        "before the market opened",
    ),
    "figure": ("<percent>", "<money>", "<number>"),
    "amount": ("<percent>", "<percent>", "<number> points", "by <money>"),
    "group": _one_of(
        "analysts economists traders investors lenders regulators judges shareholders brokers officials "
        "bankers farmers managers workers lawyers"
    ),
    "office": ("chairman", "president", "chief economist", "treasurer", "founder", "vice chairman", "head"),
    "thing": _one_of(
        "earnings revenue output spending inventory inflation confidence production leverage growth volume "
        "employment exposure cash debt revision margins losses savings health cost ownership usage value "
        "wages income pleasure coverage interest strength"
    ),
    "goods": (
        *_one_of(
            "oil copper wheat soybeans steel chips beef cotton coffee sugar gold aluminum paper software toys"
        ),
        *_one_of("cloth leather wood books power housing beer corn shoes shipping wool fish rubber uranium"),
        "natural gas",
        "machine tools",
        "television sets",
        "foreign cars",
        "orange juice",
        "jet fuel",
    ),
    "venture": _one_of("venture division unit plant merger project office refinery store warehouse bank"),
    "sector": _one_of(
        "oil airline steel banking insurance textile software housing shipbuilding food beverage"
    ),
    "adjective": _one_of(
        "strong weak modest sharp unusual heavy thin foreign domestic annual joint rough smooth broad "
        "sluggish healthy huge tough casual quiet early global public private poor sure pure northern "
        "southern cheap volatile cautious visual loyal measured youthful awkward good bad new"
    ),
    "season": _one_of("spring summer autumn winter week month year quarter"),
    "day": _one_of("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "ordinal": _one_of("first second third fourth fifth sixth seventh eighth ninth tenth"),
    "person": ("<title> <surname>", "<first> <surname>", "<first> <surname>"),
    "title": _one_of("Mister Missus Doctor Judge Senator Miss"),
    "first": _one_of(
        "James Mary Robert Patricia John Jennifer Michael Linda David Susan Roy Judith Joyce Hugh Ruth Ethan "
        "Yvonne Zoe Victor Boyd Charles Grace Paul Ursula Howard Beth"
    ),
    "company": (
        "<name> Corporation",
        "<name> Industries",
        "<name> and <name>",
        "<name> Holdings",
        "<name>",
        "<name> Group",
        "<surname> Brothers",
        "First <name> Bank",
        "<name> Technology",
        "<name> Resources",
        "National Foundry",
        "Pacific Airways",
        "General Textile",
        "United Beverages",
    ),
    "money": (
        "<decimal> million dollars",
        "<decimal> billion dollars",
        "<count> dollars",
        "<number> cents",
        "half a cent",
    ),
    "percent": ("<decimal> percent", "<decimal> percent", "<number> percent"),
}

# The syllables of names: spellings that an English reader pronounces without hesitation.
ONSETS = _one_of(
    "b bl br ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sh sk sl sm sn sp st str "
    "sw t th tr tw v w y z"
)
NUCLEI = _one_of("a e i o u a e i o u a e i o u ai ea ee oa oo ou oy au")
CODAS = _one_of("b ck d ff g l ll m n nd ng nk nt p r rd rk rm rn rt sh ss st t th x z")
SURNAME_ENDINGS = _one_of(
    "son man ley ton field berg ski well worth more ard ini ova er ing by shaw ford ston"
)
NAME_ENDINGS = _one_of("co tech corp ex is on ia um al and est ore ent ic ine ix a o")
PLACE_ENDINGS = _one_of("ville burg port ia ham shire dale ton land field mouth stad bury ford")


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
    return options[int(rng.integers(len(options)))]


def _made_up_name(rng: np.random.Generator, endings: Sequence[str]) -> str:
    name = _pick(rng, ONSETS) + _pick(rng, NUCLEI) + _pick(rng, CODAS) + _pick(rng, endings)
    if rng.random() < 0.3:
        name = _pick(rng, ONSETS) + _pick(rng, NUCLEI) + name
    return name.capitalize()


MADE_UP: dict[str, Callable[[np.random.Generator], str]] = {
    "surname": lambda rng: _made_up_name(rng, SURNAME_ENDINGS),
    "name": lambda rng: _made_up_name(rng, NAME_ENDINGS),
    "place": lambda rng: _made_up_name(rng, PLACE_ENDINGS),
    "number": lambda rng: str(rng.integers(2, 100)),
    "decimal": lambda rng: f"{rng.integers(1, 30)}.{rng.integers(1, 10)}",
    "count": lambda rng: f"{rng.integers(1, 900)},{rng.integers(10)}00",
    "year": lambda rng: str(rng.integers(1900, 2020)),
}


def make_sentence(rng: np.random.Generator) -> str:
    """One sentence, to be read aloud: words, figures, commas and a full stop at the end."""

    def expand(rule: re.Match[str]) -> str:
        name = rule[1]
        if name in MADE_UP:
            return MADE_UP[name](rng)
        return RULE.sub(expand, _pick(rng, GRAMMAR[name]))

    return RULE.sub(expand, "<sentence>")


def words(sentence: str) -> list[str]:
    """The words of a sentence in lower case, figures included: ``"Up 4.5 percent."`` -> up, 4.5, percent."""
    return [word.strip(",.").lower() for word in sentence.split()]


def unseen_rate(sentences: Iterable[str], train_sentences: Iterable[str]) -> float:
    """The share of the running words of ``sentences`` that no train sentence has, 0 to 1."""
    known = {word for sentence in train_sentences for word in words(sentence)}
    running = [word for sentence in sentences for word in words(sentence)]
    return sum(word not in known for word in running) / max(len(running), 1)
