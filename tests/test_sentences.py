import re

import numpy as np

from senone.corpus.sentences import GRAMMAR, MADE_UP, make_sentence, unseen_rate, words


def test_about_a_tenth_of_the_words_of_dev_are_unseen_in_train() -> None:
    for seed in range(3):
        rng = np.random.default_rng(seed)
        train = [make_sentence(rng) for _ in range(600)]
        dev = [make_sentence(rng) for _ in range(100)]
        assert 0.08 < unseen_rate(dev, train) < 0.13


def test_the_unseen_words_are_mostly_names_and_figures() -> None:
    rng = np.random.default_rng(0)
    known = {word for _ in range(600) for word in words(make_sentence(rng))}
    spoken = " ".join(make_sentence(rng) for _ in range(100)).split()
    unseen = [word for word in spoken if words(word)[0] not in known]
    assert np.mean([word[0].isupper() or word[0].isdigit() for word in unseen]) > 0.9
    assert 0.1 < np.mean([word[0].isdigit() for word in unseen]) < 0.5


def test_every_rule_of_the_grammar_is_defined_and_used() -> None:
    used = set(re.findall(r"<(\w+)>", str(GRAMMAR)))
    assert used | {"sentence"} == set(GRAMMAR) | set(MADE_UP)


def test_sentences_are_made_by_the_generator_alone() -> None:
    one, other = np.random.default_rng(7), np.random.default_rng(7)
    assert [make_sentence(one) for _ in range(50)] == [make_sentence(other) for _ in range(50)]


def test_sentences_hold_only_what_the_voice_reads_as_meant() -> None:
    rng = np.random.default_rng(3)
    for _ in range(300):
        sentence = make_sentence(rng)
        assert re.fullmatch(r"[A-Za-z0-9 ,.]+\.", sentence)
        assert 4 <= len(words(sentence)) <= 40


def test_words_are_lower_case_and_keep_the_figures() -> None:
    assert words("Up 4.5 percent, or 1,200.") == ["up", "4.5", "percent", "or", "1,200"]


def test_unseen_rate_counts_running_words() -> None:
    assert unseen_rate(["a b b c."], ["A, c d."]) == 0.5
    assert unseen_rate([], ["a"]) == 0
