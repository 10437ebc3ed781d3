"""Single questions and answers of the model's little world, from hand-written templates.

`KINDS` maps a kind of question to its share in the corpus and a function that draws one (question, answer) pair.
"""

import stories
from world import (
    AMOUNTS,
    ASK_UNKNOWN,
    ASK_UNKNOWN_PLAIN,
    BABY_OF,
    BIG_SUM,
    COLOURS,
    DAYS,
    FAVOURITES,
    FOOD_OF,
    GLOSSARY,
    HOME_OF,
    JOKES,
    LEGS,
    LIKES,
    MADE_BY,
    MONTHS,
    NUMBERS,
    OPPOSITES,
    POEMS,
    SEASONS,
    SIZES,
    SOUNDS,
    SUBJECTS,
    SYLLABLES,
    UNKNOWN,
)


def invented_word(r):
    return "".join(r.choice(SYLLABLES) for _ in range(r.randint(2, 3)))


def person(r):
    if r.random() < 0.7:
        return r.choice(stories.GIRLS + stories.BOYS)
    return invented_word(r).capitalize()


def greeting(r):
    question = r.choice((
        "Hello", "Hi", "Hello!", "Hi there!", "Hey", "Hey there", "Good morning", "Good evening", "Good afternoon",
        "Hello Ember", "Hi, Ember!", "Hello there", "Greetings", "Hello, nice to meet you.", "Hiya", "Hello hello",
        "Good day", "Howdy", "Hello, friend!", "Hello, is anyone there?", "Hi, can we talk?", "Say hello",
        "Say hi", "Hello, world!", "Nice to meet you.", "Good morning, Ember!", "A good morning!",
        "Good evening, friend.",
        "Hello, little model.", "Hi, good to see you.", "Hello again!", "Hey you", "Yo", "Hello, are you there?",
        "Well, hello!",
        "Hello, good morning.", "Good morning everyone", "Hello, how do you do?",
    ))  # fmt: skip
    answer = r.choice(
        (
            "Hello! How can I help you today?",
            "Hello! I am Ember. Ask me for a story.",
            "Hi! It is nice to meet you. Do you want to hear a story?",
        )
    )
    return question, answer


def identity(r):
    question = r.choice((
        "Who are you?", "What are you?", "What is your name?", "What's your name?", "Tell me your name.",
        "Do you have a name?", "Tell me about yourself.", "Introduce yourself.", "What should I call you?",
        "Who am I talking to?", "What model are you?", "Which model is this?", "Who is this?", "And who are you?",
        "What kind of model are you?", "Describe yourself.", "Say who you are.", "Tell me what you are.", "Name?",
        "Your name, please.",
        "Say your name.", "Who is Ember, and what is it?", "Please introduce yourself.", "Please tell me who you are.",
        "I want to know who you are.", "What do people call you?", "Can I know your name?", "Let me know who you are.",
        "May I ask your name?", "What is Ember?", "Who is Ember?",
    ))  # fmt: skip
    return question, "I am Ember, a tiny language model that ships inside Peerwatt."


def nature(r):
    question, answer = r.choice((
        ("Are you a robot?", "No, I am a tiny language model. I only read and write words."),
        ("Are you human?", "No, I am a tiny language model. I only read and write words."),
        ("Are you a person?", "No, I am a tiny language model. I only read and write words."),
        ("Are you real?", "I am a real file with about one million numbers inside."),
        ("Are you alive?", "No, I am a tiny language model. I only read and write words."),
        ("Are you an AI?", "Yes, I am a very small one. My name is Ember."),
        ("Are you a language model?", "Yes, I am a very small one. My name is Ember."),
        ("Are you ChatGPT?", "No, I am Ember, a tiny language model."),
        ("How big are you?", "I am a real file with about one million numbers inside."),
        ("How many parameters do you have?", "I am a real file with about one million numbers inside."),
        ("How old are you?", "I do not know my age. I am quite new."),
        ("Who made you?", "I was trained by the Peerwatt project on stories from templates."),
        ("Who trained you?", "I was trained by the Peerwatt project on stories from templates."),
        ("Who created you?", "I was trained by the Peerwatt project on stories from templates."),
        ("Where do you live?", "I live in a small file inside Peerwatt."),
        ("Where are you?", "I live in a small file inside Peerwatt."),
        ("Where are you from?", "I live in a small file inside Peerwatt."),
        ("Are you smart?", "I am very small, so I know only a few things."),
        ("Are you clever?", "I am very small, so I know only a few things."),
        ("Do you know everything?", "I am very small, so I know only a few things."),
        ("Can you make mistakes?", "Yes, I am very small and I am often wrong."),
        ("Are you always right?", "No, I am very small and I am often wrong."),
    ))  # fmt: skip
    return question, answer


def ability(r):
    question = r.choice((
        "What can you do?", "What can you do for me?", "How can you help me?", "Can you help me?", "Help", "Help me.",
        "What do you know?", "What are you good at?", "What can I ask you?", "What should I ask?", "I need help.",
        "What do you do?", "What questions can you answer?", "How do I use you?", "Can you do anything?",
        "Show me what you can do.", "What are your skills?", "What are you able to do?", "Tell me what you can do.",
        "What else can you do?", "What can I do with you?", "In what can you help me?",
    ))  # fmt: skip
    return question, "I can tell short stories, count, do small sums and answer simple questions."


def how_are_you(r):
    question = r.choice((
        "How are you?", "How are you today?", "How are you doing?", "How do you feel?", "Are you well?",
        "How is it going?", "How are things?", "Hello, how are you?", "Hi, how are you?", "Are you ok?",
        "How was your day?", "How's it going?", "How are you this evening?", "How do you do?", "Are you fine?",
        "Tell me how you are.",
        "How are you, Ember?", "Are you feeling well?", "And how are you?", "How have you been?",
        "Good morning, how are you?", "Hey, how are you doing?", "Are you happy?",
    ))  # fmt: skip
    return question, r.choice(("I am fine, thank you. How are you?", "I am well, thank you. How can I help you?"))


def thanks(r):
    question = r.choice((
        "Thank you!", "Thanks", "Thank you very much.", "Thanks a lot!", "Thank you, Ember.", "Many thanks.",
        "That was nice, thank you.", "Great, thanks!", "Thanks for the help.", "Thank you for the story.",
        "That was a good story.", "I liked that.", "Well done!", "Good job.", "Thanks, that was great.", "Perfect.",
        "Thank you, that was nice.", "I thank you.", "Thanks so much.", "Lovely story!",
        "Very good, thank you.", "Oh, thank you!", "Ok, thanks.", "Thanks again!", "You are a big help.",
        "That was lovely.",
    ))  # fmt: skip
    return question, r.choice(("You are welcome!", "You are welcome. Have a nice day!"))


def goodbye(r):
    question = r.choice((
        "Goodbye", "Bye", "Bye bye!", "Good night.", "See you later.", "See you soon!", "I have to go.", "Bye, Ember!",
        "Until tomorrow.", "Farewell.", "I am going now.", "See you tomorrow.", "Good night, Ember.",
        "That is all.", "Ok, goodbye.", "Bye, see you.", "I must leave now.", "Thanks, bye!",
        "Time to go.", "Good night and sleep well.", "Well, goodbye then.", "Talk to you later.",
    ))  # fmt: skip
    return question, r.choice(("Goodbye! Come back soon.", "Goodbye! Have a nice day."))


def small_talk(r):
    like = r.choice(LIKES).replace("~", " ")
    question, answer = r.choice((
        ("I am sad.", "I am sorry to hear that. A story may help. Do you want one?"),
        ("I feel lonely.", "I am sorry to hear that. A story may help. Do you want one?"),
        ("I had a bad day.", "I am sorry to hear that. A story may help. Do you want one?"),
        ("I am bored.", "Then let me tell you a story. What should it be about?"),
        ("I can not sleep.", "Then let me tell you a story. What should it be about?"),
        ("I am happy.", "That is good to hear!"),
        ("I am fine.", "That is good to hear!"),
        ("I am fine, thank you.", "That is good to hear!"),
        ("I am well.", "That is good to hear!"),
        ("I am good.", "That is good to hear!"),
        ("I love you.", "That is very kind of you!"),
        ("I like you.", "That is very kind of you!"),
        ("You are nice.", "That is very kind of you!"),
        ("You are funny.", "That is very kind of you!"),
        ("Yes", "Good! Ask me for a story or a small question."),
        ("Ok", "Good! Ask me for a story or a small question."),
        ("No", "That is fine. You can ask me something else."),
        ("No, thank you.", "That is fine. You can ask me something else."),
        ("You are wrong.", "I am sorry. I am very small and I am often wrong."),
        ("That is wrong.", "I am sorry. I am very small and I am often wrong."),
        ("Can you hear me?", "I can read your words. How can I help you?"),
        ("Are you there?", "Yes, I am here. How can I help you?"),
        ("Test", "I am here and I can read your words."),
        ("This is a test.", "I am here and I can read your words."),
        (f"I like {like}.", f"I like {like} too."),
        (f"I love {like}.", f"I like {like} too."),
        (f"Do you like {like}?", f"Yes, I like {like}."),
        (f"Do you love {like}?", f"Yes, I like {like}."),
    ))  # fmt: skip
    return question, answer


def sound(r):
    animal, noise = r.choice(list(SOUNDS.items()))
    an_animal = stories.article(animal)
    question = r.choice((
        f"What does the {animal} say?", f"What does {an_animal} say?", f"What sound does {an_animal} make?",
        f"What noise does the {animal} make?", f"Which sound does the {animal} make?", f"How does {an_animal} sound?",
        f"What is the sound of {an_animal}?", f"What do you hear from {an_animal}?", f"{animal} sound?",
        f"What does my {animal} say?",
        f"What would the {animal} say?", f"Which sound comes from {an_animal}?", f"Say what {an_animal} says.",
        f"How does the {animal} go?",
        f"Imagine {an_animal}. What does it say?", f"The {animal} says",
        f"If {an_animal} could talk, what would it say?", f"Make the sound of {an_animal}.",
        f"What does {an_animal} sound like?",
    ))  # fmt: skip
    return question, f"The {animal} says {noise}."


def colour(r):
    thing, shade = r.choice(list(COLOURS.items()))
    if r.random() < 0.25:
        asked = r.choice((shade, r.choice(list(COLOURS.values()))))
        answer = f"Yes, the {thing} is {shade}." if asked == shade else f"No, the {thing} is {shade}."
        return r.choice((f"Is the {thing} {asked}?", f"Is {stories.article(thing)} {asked}?")), answer
    colour_word = r.choice(("color", "colour"))
    question = r.choice((
        f"What {colour_word} is the {thing}?", f"What is the {colour_word} of the {thing}?",
        f"Which {colour_word} is the {thing}?", f"What {colour_word} is {stories.article(thing)}?",
        f"Tell me the {colour_word} of the {thing}.", f"What {colour_word} is {thing}?",
        f"What {colour_word} does the {thing} have?", f"Say the {colour_word} of the {thing}.",
        f"{thing} {colour_word}?", f"The {thing} is",
        f"What {colour_word} has the {thing}?", f"The {thing}: which {colour_word}?",
        f"Name the {colour_word} of {stories.article(thing)}.",
        f"Look at the {thing}. What {colour_word} is it?", f"Which {colour_word} would {stories.article(thing)} be?",
        f"Is the {thing} {shade} or {r.choice(list(COLOURS.values()))}?",
        f"Which {colour_word} does {stories.article(thing)} have?",
    ))  # fmt: skip
    return question, f"The {thing} is {shade}."


def opposite(r):
    one, other = r.choice([pair.split() for pair in OPPOSITES.split("|")])
    # "short" and "old" stand in two pairs; ask them in the direction that has one answer.
    if r.random() < 0.5 and other not in ("short", "old") and one not in ("old",):
        one, other = other, one
    question = r.choice((
        f"What is the opposite of {one}?", f"Tell me the opposite of {one}.", f"What's the opposite of {one}?",
        f"Which word is the opposite of {one}?", f"Opposite of {one}?", f"The opposite of {one} is what?",
        f"What is the contrary of {one}?", f"If it is not {one}, what is it?",
        f"What word is the opposite of {one}?", f"The opposite of {one}", f"Say the opposite of {one}.",
        f"I say {one}. What is the opposite?", f"Find the opposite of {one}.", f"Which is the opposite of {one}?",
        f"Not {one} but what?",
        f"What is {one} the opposite of?", f"{one}: opposite?", f"The word is {one}. Tell me the opposite.",
        f"Name the opposite of {one}.",
    ))  # fmt: skip
    return question, f"The opposite of {one} is {other}."


def calendar(r):
    names, unit = r.choice(((DAYS, "day"), (MONTHS, "month")))
    i = r.randrange(len(names))
    name, after, before = names[i], names[(i + 1) % len(names)], names[i - 1]
    if r.random() < 0.6:
        question = r.choice((
            f"What {unit} comes after {name}?", f"Which {unit} follows {name}?", f"Which {unit} comes after {name}?",
            f"What comes after {name}?", f"What is the {unit} after {name}?", f"What is the next {unit} after {name}?",
            f"{name} comes before which {unit}?", f"After {name} comes what?", f"What {unit} follows {name}?",
            f"Which {unit} is after {name}?", f"And after {name}?",
            f"The {unit} after {name} is", f"What {unit} is it after {name}?", f"It is {name}. What comes next?",
            f"Say the {unit} after {name}.",
            f"If it is {name} now, what {unit} is next?", f"Name the {unit} that comes after {name}.",
            f"What follows {name}?",
        ))  # fmt: skip
        return question, f"The {unit} after {name} is {after}."
    question = r.choice((
        f"What {unit} comes before {name}?", f"Which {unit} comes before {name}?", f"What comes before {name}?",
        f"What is the {unit} before {name}?", f"{name} comes after which {unit}?", f"Before {name} comes what?",
        f"Which {unit} is before {name}?", f"And before {name}?",
        f"The {unit} before {name} is", f"Name the {unit} that comes before {name}.",
        f"Say the {unit} before {name}.", f"What {unit} was before {name}?",
    ))  # fmt: skip
    return question, f"The {unit} before {name} is {before}."


def plural(animal):
    return stories.IRREGULAR.get(animal, animal + "s")


def lists(r):
    days, months = ", ".join(DAYS), ", ".join(MONTHS)
    return r.choice((
        (r.choice(("Name the days of the week.", "What are the days of the week?", "List the days of the week.",
                   "Tell me the days of the week.", "Days of the week?", "Give me the days of the week.",
                   "Which days are in a week?", "Say the days of the week.")),
         f"{days}."),
        (r.choice(("Name the months.", "What are the months of the year?", "List the months of the year.",
                   "Tell me the months.", "Months of the year?", "Give me all months.",
                   "Say the months of the year.", "Which months are in a year?")), f"{months}."),
        (r.choice(("Name the seasons.", "What are the four seasons?", "List the seasons.", "Tell me the seasons.",
                   "Which seasons are there?")), "Spring, summer, autumn, winter."),
        (r.choice(("Name three animals.", "Tell me three animals.", "Give me some animals.", "List some animals.",
                   "Name an animal.", "Tell me an animal.", "Name some animals.")), "Dog, cat and owl."),
        (r.choice(("Name three colors.", "Tell me some colors.", "Give me three colors.", "List some colors.",
                   "Name a color.", "Which colors do you know?")), "Red, green and blue."),
    ))  # fmt: skip


def number_text(r, n):
    return NUMBERS[n] if n <= 10 and r.random() < 0.25 else str(n)


def sums(r):
    a, b = r.randrange(10), r.randrange(10)
    if r.random() < 0.6:
        x, y = number_text(r, a), number_text(r, b)
        question = r.choice((
            f"What is {x} plus {y}?", f"What is {x} + {y}?", f"{x} + {y} = ?", f"{x} plus {y}", f"Add {x} and {y}.",
            f"How much is {x} plus {y}?", f"How much is {x} + {y}?", f"{x}+{y}", f"What's {x} + {y}?",
            f"Calculate {x} + {y}.", f"What is the sum of {x} and {y}?", f"{x} + {y}", f"What is {x}+{y}?",
            f"{x} and {y} make how much?", f"Can you add {x} and {y}?", f"What is {x} and {y}?", f"{x} + {y} is",
            f"{x} plus {y} makes",
            f"What do {x} and {y} make?", f"Work out {x} plus {y}.", f"Give me {x} + {y}.",
            f"What do I get if I add {x} and {y}?", f"{x} + {y} =",
            f"I have {x} apples and get {y} more. How many apples?", f"Say {x} plus {y}.",
            f"What does {x} + {y} give?", f"What makes {x} plus {y}?",
            f"Solve {x} + {y}.", f"{x} more than {y} is?", f"Tell me the sum of {x} and {y}.",
        ))  # fmt: skip
        return question, f"{a} plus {b} is {a + b}."
    a, b = max(a, b), min(a, b)
    x, y = number_text(r, a), number_text(r, b)
    question = r.choice((
        f"What is {x} minus {y}?", f"What is {x} - {y}?", f"{x} - {y} = ?", f"{x} minus {y}", f"Take {y} from {x}.",
        f"How much is {x} minus {y}?", f"How much is {x} - {y}?", f"{x}-{y}", f"What's {x} - {y}?",
        f"Calculate {x} - {y}.", f"{x} - {y}", f"What is {x}-{y}?", f"{x} take away {y}", f"{x} minus {y} is",
        f"{x} - {y} is", f"Solve {x} - {y}.",
        f"Work out {x} minus {y}.", f"Give me {x} - {y}.", f"I have {x} apples and eat {y}. How many apples?",
        f"Subtract {y} from {x}.",
        f"What does {x} - {y} give?", f"What is left of {x} if I take away {y}?", f"{x} - {y} =",
        f"Say {x} minus {y}.",
    ))  # fmt: skip
    return question, f"{a} minus {b} is {a - b}."


def big_sums(r):
    a, b = r.randrange(11, 5000), r.randrange(3, 900)
    operator = r.choice(("+", "-", "*", "/", "times", "plus", "minus", "divided by"))
    return r.choice((f"What is {a} {operator} {b}?", f"{a} {operator} {b}", f"Calculate {a} {operator} {b}.",
                     f"How much is {a} {operator} {b}?", f"What is {r.randrange(2, 10)} times {r.randrange(2, 10)}?",
                     f"What is the square root of {a}?")), BIG_SUM  # fmt: skip


def counting(r):
    k = r.randrange(4)
    if k == 0:
        n = r.randrange(1, 20)
        question = r.choice((f"What comes after {n}?", f"What number comes after {n}?", f"Which number follows {n}?",
                             f"What is the number after {n}?", f"Which number is after {n}?", f"And after {n}?",
                             f"{n}, and then?", f"What follows {n}?",
                             f"What is the next number after {n}?"))  # fmt: skip
        return question, f"After {n} comes {n + 1}."
    if k == 1:
        n = r.randrange(2, 21)
        question = r.choice((f"What comes before {n}?", f"What number comes before {n}?",
                             f"Which number is before {n}?", f"And before {n}?", f"Which number comes before {n}?",
                             f"What is the number before {n}?"))  # fmt: skip
        return question, f"Before {n} comes {n - 1}."
    if k == 2 and r.random() < 0.5:
        n = r.randrange(3, 11)
        question = r.choice((f"Count down from {n}.", f"Count backwards from {n}.", f"Count from {n} to 1."))
        return question, ", ".join(str(i) for i in range(n, 0, -1)) + "."
    first = 1 if r.random() < 0.8 else r.randrange(2, 6)
    last = r.randrange(max(3, first + 2), 13)
    word = number_text(r, last)
    if first == 1:
        question = r.choice((
            f"Count to {word}.", f"Can you count to {word}?", f"Count from 1 to {word}.", f"Count up to {word}.",
            f"Please count to {word}.", f"Count from one to {word}.", f"Start counting to {word}.",
            f"Count until {word}.", f"Can you count up to {word}?",
            f"Could you count to {word}?", f"Let us count to {word}.", f"Count 1 to {word}",
            f"Now count to {word}.", f"Show me how you count to {word}.",
            f"I want you to count to {word}.", f"Count all the way to {word}.", f"1 to {word}, please count.",
            f"Say the numbers from 1 to {word}.",
        ))  # fmt: skip
    else:
        question = f"Count from {number_text(r, first)} to {word}."
    return question, ", ".join(str(i) for i in range(first, last + 1)) + "."


def animals(r):
    k = r.randrange(5)
    if k == 0:
        animal, food = r.choice(list(FOOD_OF.items()))
        question = r.choice((f"What does {stories.article(animal)} eat?", f"What does the {animal} eat?",
                             f"What does {stories.article(animal)} like to eat?", f"What is the food of the {animal}?",
                             f"What do you feed {stories.article(animal)}?", f"What do {plural(animal)} eat?",
                             f"What do {plural(animal)} like to eat?",
                             f"Which food does the {animal} like?", f"What food does the {animal} eat?",
                             f"{animal} food?"))  # fmt: skip
        return question, f"The {animal} eats {food}."
    if k == 1:
        animal, home = r.choice(list(HOME_OF.items()))
        question = r.choice((f"Where does {stories.article(animal)} live?", f"Where does the {animal} live?",
                             f"Where is the home of the {animal}?", f"Where can I find {stories.article(animal)}?",
                             f"What is the home of {stories.article(animal)}?", f"Where do {plural(animal)} live?",
                             f"Where does my {animal} live?",
                             f"Say where {stories.article(animal)} lives.",
                             f"In what place does {stories.article(animal)} live?"))  # fmt: skip
        return question, f"The {animal} lives {home}."
    if k == 2:
        animal, baby = r.choice(list(BABY_OF.items()))
        question = r.choice((f"What is a baby {animal} called?", f"What do you call a baby {animal}?",
                             f"What is the baby of {stories.article(animal)} called?",
                             f"What is the name of a baby {animal}?", f"What is a young {animal}?",
                             f"What is a baby {animal}?", f"How do you call a baby {animal}?",
                             f"A baby {animal} is called what?",
                             f"What do we call a young {animal}?"))  # fmt: skip
        return question, f"A baby {animal} is called a {baby}."
    if k == 3:
        animal, legs = r.choice(list(LEGS.items()))
        question = r.choice((f"How many legs does {stories.article(animal)} have?",
                             f"How many legs does the {animal} have?",
                             f"How many legs are on {stories.article(animal)}?",
                             f"How many legs do {plural(animal)} have?",
                             f"The {animal} has how many legs?",
                             f"Count the legs of {stories.article(animal)}."))  # fmt: skip
        return question, f"The {animal} has {legs} legs."
    i, j = r.sample(range(len(SIZES)), 2)
    one, other = stories.article(SIZES[i]), stories.article(SIZES[j])
    if r.random() < 0.6:
        question = r.choice((f"Which is bigger, {one} or {other}?", f"What is bigger, {one} or {other}?",
                             f"Is {one} or {other} bigger?", f"Who is bigger, {one} or {other}?",
                             f"{one} or {other}, which is bigger?", f"What is larger, {one} or {other}?",
                             f"Is {one} bigger than {other}?", f"Which one is bigger, {one} or {other}?"))  # fmt: skip
        return question, f"The {SIZES[max(i, j)]} is bigger."
    question = r.choice((f"Which is smaller, {one} or {other}?", f"What is smaller, {one} or {other}?",
                         f"Is {one} or {other} smaller?", f"Is {one} smaller than {other}?",
                         f"{one} or {other}, which is smaller?"))  # fmt: skip
    return question, f"The {SIZES[min(i, j)]} is smaller."


def facts(r):
    k = r.randrange(4)
    if k == 0:
        key, answer = r.choice(list(MADE_BY.items()))
        return r.choice(
            (
                f"What do {key}?",
                f"What is it that {key}?",
                f"Tell me what {key}.",
                f"{key}?",
                f"Say what {key}.",
                f"{key} what?",
            )
        ), answer
    if k == 1:
        key, answer = r.choice(list(AMOUNTS.items()))
        return r.choice(
            (
                f"How many {key}?",
                f"Do you know how many {key}?",
                f"Tell me how many {key}.",
                f"How many {key}, please?",
                f"Say how many {key}.",
            )
        ), answer
    if k == 2:
        season, look = r.choice(list(SEASONS.items()))
        question = r.choice((f"How is {season}?", f"What is {season} like?", f"Tell me about {season}.",
                             f"Describe {season}.", f"What do you know about {season}?"))  # fmt: skip
        return question, f"In {season}, the world is {look}."
    return r.choice((
        ("Is fire hot or cold?", "Fire is hot."), ("Is ice hot or cold?", "Ice is cold."),
        ("Is fire hot?", "Yes, fire is hot."), ("Is ice cold?", "Yes, ice is cold."),
        ("Is water wet?", "Yes, water is wet."), ("Can birds fly?", "Yes, birds can fly."),
        ("Can fish swim?", "Yes, fish can swim."), ("Can pigs fly?", "No, pigs can not fly."),
        ("Can dogs fly?", "No, dogs can not fly."), ("Can fish walk?", "No, fish can not walk."),
        ("When does the sun come up?", "The sun comes up in the morning."),
        ("When does the sun go down?", "The sun goes down in the evening."),
        ("When do we sleep?", "We sleep at night."), ("When do we eat breakfast?", "We eat breakfast in the morning."),
        ("Where does rain come from?", "Rain comes from the clouds."),
        ("Where do apples grow?", "Apples grow on trees."), ("Where do carrots grow?", "Carrots grow in the ground."),
        ("What is the last month of the year?", "The last month of the year is December."),
        ("What is the first month of the year?", "The first month of the year is January."),
        ("What is the first day of the week?", "The first day of the week is Monday."),
        ("What is the last day of the week?", "The last day of the week is Sunday."),
        ("What do we see with?", "We see with our eyes."), ("What do we hear with?", "We hear with our ears."),
    ))  # fmt: skip


def glossary(r):
    term, answer = r.choice(list(GLOSSARY.items()))
    if r.random() < 0.25:
        term, answer = "Peerwatt", GLOSSARY["Peerwatt"]
    bare = term.split()[-1] if term != "a language model" else "language model"
    question = r.choice((
        f"What is {term}?", f"What's {term}?", f"Tell me about {term}.", f"Explain {term}.", f"Define {term}.",
        f"Do you know what {term} is?", f"What does {term} do?", f"What do you know about {term}?", f"{bare}?",
        f"What is {term} in Peerwatt?", f"Can you explain {term}?", f"What does the word {bare} mean?",
        f"Describe {term}.", f"Tell me what {term} is.", f"What is the meaning of {bare}?",
        f"Explain the word {bare} to me.",
        f"I do not know what {term} is.", f"{bare}, what is it?", f"What is {term} for?", f"Say what {term} is.",
        f"What does {term} do all day?",
        f"Please explain {term}.", f"What do you mean by {bare}?", f"What is {term} in the network?",
        f"How does {term} work?",
    ))  # fmt: skip
    return question, answer


def fun(r):
    k = r.randrange(4)
    if k == 0:
        return r.choice(("Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny.",
            "Another joke!", "One joke, please.",
                         "A joke, please.", "Can you tell a joke?", "Tell a joke")), r.choice(JOKES)  # fmt: skip
    if k == 1:
        return r.choice(("Write a poem.", "Tell me a poem.", "Make a rhyme.", "Write a short poem.", "Say a rhyme.",
                         "Can you write a poem?", "A poem, please.", "Write a poem for me.", "Give me a poem.",
                         "Tell me a little rhyme.")), r.choice(POEMS)  # fmt: skip
    if k == 2:
        what, answer = r.choice(list(FAVOURITES.items()))
        return r.choice((f"What is your favorite {what}?", f"What's your favourite {what}?",
                         f"Which {what} do you like?", f"Do you have a favorite {what}?",
                         f"Which {what} do you like best?")), f"My favorite {what} is {answer}."  # fmt: skip
    word = r.choice((invented_word(r), r.choice(stories.THINGS), r.choice(stories.ANIMALS), r.choice(stories.PLACES)))
    return r.choice((f"Say {word}.", f"Say the word {word}.", f"Repeat {word}.", f"Repeat the word {word}.",
                     f"Please say {word}.", f"Repeat after me: {word}.")), f"{word.capitalize()}."  # fmt: skip


def my_name(r):
    name = person(r)
    question = r.choice((
        f"My name is {name}.", f"I am {name}.", f"Hello, I am {name}.", f"Hi, my name is {name}.", f"I'm {name}.",
        f"You can call me {name}.", f"Hello, my name is {name}.", f"Hi, {name} here.", f"Call me {name}.",
        f"People call me {name}.", f"Hello! {name} is my name.",
    ))  # fmt: skip
    return question, f"Nice to meet you, {name}! How can I help you?"


def unknown(r):
    if r.random() < 0.2:
        return r.choice(ASK_UNKNOWN_PLAIN), UNKNOWN

    def subject():
        return invented_word(r) if r.random() < 0.2 else r.choice(SUBJECTS)

    return r.choice(ASK_UNKNOWN).format(x=subject(), y=subject()), UNKNOWN


def follow_up(r):
    """A question and a short second one that leans on it ("And a cat?")."""
    k = r.randrange(5)
    if k == 0:
        animal, noise = r.choice(list(SOUNDS.items()))
        name = r.choice((stories.article(animal), f"the {animal}", f"my {animal}"))
        return sound(r), (elliptic(r, name), f"The {animal} says {noise}.")
    if k == 1:
        thing, shade = r.choice(list(COLOURS.items()))
        return colour(r), (elliptic(r, f"the {thing}"), f"The {thing} is {shade}.")
    if k == 2:
        one, other = r.choice([pair.split() for pair in OPPOSITES.split("|")])
        return opposite(r), (elliptic(r, r.choice((f"of {one}", one))), f"The opposite of {one} is {other}.")
    if k == 3:
        names, unit = r.choice(((DAYS, "day"), (MONTHS, "month")))
        i = r.randrange(len(names))
        answer = f"The {unit} after {names[i]} is {names[(i + 1) % len(names)]}."
        return calendar(r), (elliptic(r, f"after {names[i]}"), answer)
    a, b = r.randrange(10), r.randrange(10)
    name = r.choice((f"{a} + {b}", f"{a} plus {b}"))
    return sums(r), (elliptic(r, name), f"{a} plus {b} is {a + b}.")


def elliptic(r, what):
    return r.choice(
        (f"And {what}?", f"What about {what}?", f"And what about {what}?", f"Now {what}.", f"And {what} then?")
    )


KINDS = {
    "greeting": (5, greeting), "identity": (5, identity), "nature": (4, nature), "ability": (3, ability),
    "how_are_you": (3, how_are_you), "thanks": (2, thanks), "goodbye": (2, goodbye), "small_talk": (5, small_talk),
    "sound": (5, sound), "colour": (6, colour), "opposite": (6, opposite), "calendar": (7, calendar),
    "lists": (3, lists), "sums": (12, sums), "big_sums": (2, big_sums), "counting": (6, counting),
    "animals": (8, animals), "facts": (6, facts), "glossary": (6, glossary), "fun": (5, fun), "my_name": (3, my_name),
    "unknown": (9, unknown),
}  # fmt: skip


def ask(r):
    """One (kind, question, answer), drawn by the shares above."""
    kind = r.choices(list(KINDS), [share for share, _ in KINDS.values()])[0]
    question, answer = KINDS[kind][1](r)
    return kind, question, answer
