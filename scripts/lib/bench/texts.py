"""What is asked: words at random, so that no text is used twice, and no cache answers what is not to be cached."""

import itertools
import random

WORDS = """river stone garden letter window morning yellow harbour silver bridge mountain winter kitchen paper market
forest island engine teacher silent ocean number family village castle summer travel orange doctor history""".split()
# Other texts in every run of this program: a server that is measured again still holds those of the last one.
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
    """One that models without a template go on with, too, also behind a long text of another kind."""
    return f"{story()} It begins like this: Once upon a time, there was a {drawn.choice(WORDS)}"


def calibrate(side):
    """Loads the side's model, warms it, and learns how many tokens a word is to it, beyond what the template adds."""
    global tokens_per_word
    fewer, more = (side.call(long_text(words), 1).prompt_tokens for words in (100, 500))
    tokens_per_word = (more - fewer) / 400
