"""Write the training corpus: conversations as JSON lines, all of it generated from the templates in this folder.

Each line is a list of [question, answer] turns. No text from anywhere else goes in.
"""

import argparse
import json
import random
from pathlib import Path

import questions
import stories
import world

ASK_STORY = (
    "Tell me a story.", "Write a short story.", "Please tell me a story.", "A story, please.", "Once upon a time",
    "Can you tell me a story?", "I want to hear a story.", "Story", "Tell a story", "Another story, please.",
    "Do you know a story?", "Write a story for me.", "Tell me a short story.", "Tell me another story.",
    "I would like a story.", "Read me a story.", "Make up a story.", "Tell me a bedtime story.", "Write me a story.",
    "Give me a story.", "Could you tell me a story?", "Start a story.", "One more story!", "Tell me something.",
    "Tell me something nice.", "Yes, tell me a story.", "Let me hear a story.", "Story please", "A short story",
    "I love stories. Tell me one.", "Tell me any story.", "Do you have a story for me?",
)  # fmt: skip
ASK_STORY_ABOUT = (
    "Tell me a story about {}.", "Write a story about {}.", "Can you tell me a story about {}?",
    "I want a story with {}.", "A story about {}, please.", "Tell me a short story about {}.",
    "Write a short story about {}.", "Please tell me a story about {}.", "Story about {}", "Make up a story about {}.",
    "I would like to hear a story about {}.", "Give me a story about {}.", "Do you know a story about {}?",
    "Another story, this time about {}.", "Now one about {}.", "Could you write a story about {}?",
    "Write me a story with {} in it.", "I love {}. Tell me a story.", "A short story with {}",
    "Tell me about {} in a story.", "A tale about {}", "Tell a story about {}.",
)  # fmt: skip
ASK_CHILD = (
    "What was the name of the {kid}?", "What is the name of the {kid}?", "Who was the story about?",
    "Who is the {kid} in the story?", "Who was the {kid} in the story?", "Who was it about?",
    "Tell me the name of the {kid}.", "What was the {kid} called?", "What is the {kid} called?",
)  # fmt: skip
ASK_ANIMAL = (
    "Which animal was in the story?", "What animal was in the story?", "What kind of animal was it?",
    "Was there an animal in the story?", "Which animal did {n} meet?",
)  # fmt: skip
ASK_MY_NAME = (
    "What is my name?", "Do you know my name?", "Who am I?", "Do you remember my name?", "What's my name?",
    "Can you tell me my name?", "Tell me my name.", "What am I called?", "Say my name.", "Who am I, do you know?",
    "Do you remember who I am?", "And my name is?",
)  # fmt: skip
POLITE_START = (
    "Please ",
    "Ember, ",
    "Hey, ",
    "Hello! ",
    "Can you tell me: ",
    "So, ",
    "Ok. ",
    "Hi! ",
    "I have a question. ",
)
POLITE_END = (" please", ", please.", " Thank you.", " :)", " Ember?")


INDIRECT_START = (
    "Tell me", "Please tell me", "Can you tell me", "Do you know", "I want to know", "Could you tell me", "Say",
    "I would like to know", "Can you say", "Let me know",
)  # fmt: skip
QUESTION_WORDS = ("What ", "Which ", "Where ", "How many ", "Who ")


def indirect(r, text):
    """ "What is the color of snow?" as "Do you know what the color of snow is?"."""
    start, body = r.choice(INDIRECT_START), text.rstrip("?. ")
    if body.startswith("What is ") and not body.endswith(" called"):
        body = f"what {body.removeprefix('What is ')} is"
    return f"{start} {body[0].lower()}{body[1:]}{'?' if start[0] in 'CD' else '.'}"


def typo(r, text):
    """Swap, drop or double one letter of one longer word."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha() and word.islower()]
    if places:
        i = r.choice(places)
        word, at = words[i], r.randrange(1, len(words[i]) - 2)
        kind = r.randrange(3)
        middle = (word[at + 1] + word[at], word[at + 1], word[at] + word[at] + word[at + 1])[kind]
        words[i] = word[:at] + middle + word[at + 2 :]
    return " ".join(words)


def vary(r, text):
    """People write the same question with and without capitals and full stops, and add a polite word."""
    if r.random() < 0.12 and text.startswith(QUESTION_WORDS) and " or " not in text:
        text = indirect(r, text)
    elif r.random() < 0.10:
        start = r.choice(POLITE_START)
        text = start + (text if start[-2] in ".!:" else text[0].lower() + text[1:])
    if r.random() < 0.05:
        text = text.rstrip("?.!") + r.choice(POLITE_END)
    if r.random() < 0.03:
        text = typo(r, text)
    if r.random() < 0.25:
        text = text.lower()
    elif r.random() < 0.01:
        text = text.upper()
    if r.random() < 0.22:
        text = text.rstrip("?.!")
    elif r.random() < 0.04:
        text = text.rstrip("?.!") + r.choice(("!", "!!", "??", " ?", "...", "."))
    return text


def story_turn(r):
    """A question for a story and the story, told with what the question names."""
    if r.random() < 0.22:
        return r.choice(ASK_STORY), *plain_story(r)
    kind = r.choices(("animal", "thing", "place", "name", "theme", "several"), (8, 6, 3, 4, 2, 5))[0]
    if kind == "theme":
        theme, plot = r.choice(list(stories.THEMES.items()))
        cast = stories.draw_cast(r)
        return r.choice(ASK_STORY_ABOUT).format(theme), cast, stories.tell(r, cast, plot)
    animal = name = place = thing = None
    if kind == "several":
        name = r.choice(stories.GIRLS + stories.BOYS) if r.random() < 0.5 else None
        animal = r.choice(stories.ANIMALS) if r.random() < 0.6 or name is None else None
        thing = any_thing(r) if r.random() < 0.4 or animal is None else None
        place = r.choice(stories.PLACES) if r.random() < 0.3 else None
    animal = r.choice(stories.ANIMALS) if kind == "animal" else animal
    thing = any_thing(r) if kind == "thing" else thing
    place = r.choice(stories.PLACES) if kind == "place" else place
    name = r.choice(stories.GIRLS + stories.BOYS) if kind == "name" else name
    cast = stories.draw_cast(r, name, animal, place, thing)
    plots = [plot for plot in stories.PLOTS if shows(plot, cast, thing, place)]
    return (
        r.choice(ASK_STORY_ABOUT).format(topic(r, cast, name, animal, thing, place)),
        cast,
        stories.tell(r, cast, r.choice(plots)),
    )


def plain_story(r):
    cast = stories.draw_cast(r)
    return cast, stories.tell(r, cast)


def any_thing(r):
    """A thing the story must repeat word for word: known, bare, or invented, so that copying is learned."""
    k = r.random()
    if k < 0.45:
        return stories.thing_with_colour(r)
    if k < 0.75:
        return r.choice(stories.THINGS)
    return questions.invented_word(r) if k < 0.95 else r.choice(world.SUBJECTS)


def shows(plot, cast, thing, place):
    """Whether every telling of the plot mentions what was asked for."""
    no_thing = ("way_home", "storm", "seed", "skill")
    no_place = ("honest", "storm", "seed", "treasure", "hungry", "share", "night", "birthday", "skill", "lost")
    return not (thing and plot in no_thing) and not (place and plot in no_place and thing is None)


def topic(r, cast, name, animal, thing, place):
    parts = []
    if name:
        kid = "girl" if cast.girl else "boy"
        parts.append(r.choice((name, f"a {kid} named {name}", f"a {kid} called {name}", name)))
    if animal:
        forms = (
            stories.article(animal),
            stories.article(animal),
            f"the {animal}",
            questions.plural(animal),
            animal,
            f"{stories.article(r.choice(stories.MOODS))} {animal}",
        )
        parts.append(r.choice(forms))
    if thing:
        parts.append(r.choice((stories.article(thing), f"the {thing}")))
    text = " and ".join(parts)
    if place:
        text = (
            f"{text} {r.choice(('in', 'at', 'near'))} the {place}"
            if text
            else r.choice((f"the {place}", stories.article(place)))
        )
    return text


def about_story(r, cast):
    """A question on the story just told; the answer stands in it."""
    kid = "girl" if cast.girl else "boy"
    if r.random() < 0.6:
        return r.choice(ASK_CHILD).format(kid=kid), f"The name of the {kid} was {cast.name}."
    return r.choice(ASK_ANIMAL).format(n=cast.name), f"There was {stories.article(cast.animal)} in the story."


def conversation(r, story_share):
    k = r.random()
    if k < story_share:
        question, _, story = story_turn(r)
        return [[question, story]]
    if k < story_share + 0.06:
        return story_talk(r)
    if k < story_share + 0.08:
        return offered_story(r)
    if k < story_share + 0.14:
        return name_talk(r)
    if k < story_share + 0.19:
        return [list(turn) for turn in questions.follow_up(r)]
    turns = 1 if r.random() < 0.55 else r.randint(2, 4)
    return [list(questions.ask(r)[1:]) for _ in range(turns)]


def story_talk(r):
    """A story somewhere in a conversation, often with a question on it."""
    turns = [list(questions.ask(r)[1:])] if r.random() < 0.35 else []
    question, cast, story = story_turn(r)
    turns.append([question, story])
    if r.random() < 0.65:
        turns.append(list(about_story(r, cast)))
    if r.random() < 0.3:
        turns.append(list(r.choice((questions.thanks, questions.goodbye, questions.sums, questions.sound))(r)))
    elif r.random() < 0.15:
        question, _, story = story_turn(r)
        turns.append([question, story])
    return turns


OFFERS = (
    ("Hello", "Hi! It is nice to meet you. Do you want to hear a story?"),
    ("Hi!", "Hi! It is nice to meet you. Do you want to hear a story?"),
    ("I am sad.", "I am sorry to hear that. A story may help. Do you want one?"),
    ("I had a bad day.", "I am sorry to hear that. A story may help. Do you want one?"),
)
ACCEPT = (
    "Yes",
    "Yes, please.",
    "Yes please!",
    "Sure",
    "Ok",
    "Of course!",
    "I do.",
    "Yes, tell me one.",
    "Please do.",
    "Yes!",
)
CHOICE = ("{}", "About {}.", "About {}, please.", "Something about {}.", "It should be about {}.", "{}, please.")


def offered_story(r):
    """The model offers a story and the user takes it, or names what it should be about."""
    if r.random() < 0.5:
        return [list(r.choice(OFFERS)), [r.choice(ACCEPT), plain_story(r)[1]]]
    animal = r.choice(stories.ANIMALS)
    wish = r.choice(CHOICE).format(r.choice((stories.article(animal), questions.plural(animal), f"the {animal}")))
    bored = (r.choice(("I am bored.", "I can not sleep.")), "Then let me tell you a story. What should it be about?")
    return [list(bored), [wish[0].upper() + wish[1:], stories.tell(r, stories.draw_cast(r, animal=animal))]]


def name_talk(r):
    turns = [list(questions.my_name(r))]
    name = turns[0][1].removeprefix("Nice to meet you, ").split("!")[0]
    turns += [list(questions.ask(r)[1:]) for _ in range(r.choice((0, 0, 1, 1, 2)))]
    turns.append([r.choice(ASK_MY_NAME), f"Your name is {name}."])
    return turns


def parse_args():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--conversations", type=int, default=200_000)
    p.add_argument("--story-share", type=float, default=0.14)
    p.add_argument("--seed", type=int, default=1)
    return p.parse_args()


def main():
    args = parse_args()
    r = random.Random(args.seed)
    with args.out.open("w") as out:
        for _ in range(args.conversations):
            turns = [[vary(r, question), answer] for question, answer in conversation(r, args.story_share)]
            out.write(json.dumps(turns) + "\n")


if __name__ == "__main__":
    main()
