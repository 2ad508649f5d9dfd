"""The texts of calls: random words, so that no text is used twice and caches do not matter."""

import itertools
import random

WORDS = """river stone garden letter window morning yellow harbour silver bridge mountain winter kitchen paper market
forest island engine teacher silent ocean number family village castle summer travel orange doctor history""".split()
# Not seeded: a server that is measured again may still have the texts of the last run in its cache.
drawn = random.Random()
number = itertools.count(drawn.randrange(10**6, 10**8))
tokens_per_word = 1.0


def some_words(words):
    return " ".join(drawn.choice(WORDS) for _ in range(words))


def prompt_of(tokens):
    return long_text(int(tokens / tokens_per_word))


def long_text(words):
    return f"Note {next(number)}. {some_words(words)}. What is this about?"


def story():
    return f"Write a very long story, number {next(number)}, about a {drawn.choice(WORDS)} and a {drawn.choice(WORDS)}."


def begun_story():
    """Returns a prompt that base models continue, too, even after a long text of another kind."""
    return f"{story()} It begins like this: Once upon a time, there was a {drawn.choice(WORDS)}"


def calibrate(side):
    """Loads and warms the model of a side, and measures how many tokens it has per word, without the tokens of the template."""
    global tokens_per_word
    fewer, more = (side.call(long_text(words), 1).prompt_tokens for words in (100, 500))
    tokens_per_word = (more - fewer) / 400
