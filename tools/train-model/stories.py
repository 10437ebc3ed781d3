"""Short stories from hand-written plots.

A story draws its cast once (child, animal, place, thing, food, friend) and every sentence of the plot refers to that
cast, so names and objects stay the same from the first line to the last.
"""

from dataclasses import dataclass

GIRLS = "Lily Anna Mia Zoe Ella Ruby Nora Ivy Clara Rosa Maya Lena Emma Alice Sara Jane".split()
BOYS = "Tom Sam Ben Max Leo Jack Finn Owen Noah Paul Hugo Oscar Peter Adam Luke Theo".split()
ANIMALS = (
    "dog cat bird fox rabbit bear duck frog mouse horse owl turtle pig sheep bee lion "
    "cow goat hen deer squirrel hedgehog puppy kitten monkey elephant wolf donkey goose snail"
).split()
IRREGULAR = {
    "mouse": "mice", "goose": "geese", "sheep": "sheep", "deer": "deer", "fox": "foxes", "wolf": "wolves",
    "puppy": "puppies", "fish": "fish",
}  # fmt: skip
PLACES = "forest park garden village meadow beach farm river castle lake valley island field hill pond orchard".split()
COLOURS = "red blue green yellow white black golden silver purple orange pink brown".split()
KINDS = "old small new wooden shiny warm big round little pretty soft lucky".split()
THINGS = (
    "ball kite map stone boat key hat book lamp box plane bell drum cup coat rope basket flute coin feather "
    "shell spoon blanket balloon clock bag ring bicycle wagon doll puzzle pencil button scarf umbrella mirror "
    "ladder bucket whistle ribbon lantern candle chair robot train car rocket star crown sword magnet toy "
    "letter picture flag shoe glove pillow bottle jar bowl pot brush hammer wheel leaf seed flower"
).split()
FOODS = "bread soup apples honey cake berries cookies carrots pears cheese pancakes nuts".split()
MOODS = "little brave happy shy kind clever funny quiet curious sleepy gentle young".split()
WEATHER = "sunny rainy windy cold warm snowy cloudy".split()
SKILLS = (
    ("swim", "The water was cold"),
    ("ride a bicycle", "The wheels would not go straight"),
    ("whistle", "Only air came out"),
    ("sing", "The notes came out wrong"),
    ("skate", "The ice was slippery"),
    ("climb the big tree", "The branches were high"),
    ("draw a horse", "It looked like a potato"),
    ("juggle", "The balls fell down"),
)
THEMES = {
    "sharing": "share", "friendship": "way_home", "honesty": "honest", "courage": "night", "being brave": "night",
    "kindness": "hungry", "helping": "lost", "patience": "seed", "the rain": "storm", "a storm": "storm",
    "a birthday": "birthday", "a treasure": "treasure", "the night": "night", "learning": "skill",
    "telling the truth": "honest", "never giving up": "skill", "a rainy day": "storm", "a lost thing": "lost",
}  # fmt: skip


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def thing_with_colour(r):
    return r.choice(r.choice((COLOURS, KINDS))) + " " + r.choice(THINGS)


@dataclass
class Cast:
    name: str
    girl: bool
    friend: str
    animal: str
    place: str
    thing: str
    food: str

    def words(self):
        she = ("she", "her", "her") if self.girl else ("he", "his", "him")
        return {
            "n": self.name, "f": self.friend, "a": self.animal, "an_a": article(self.animal), "p": self.place,
            "o": self.thing, "an_o": article(self.thing), "food": self.food, "he": she[0], "his": she[1],
            "him": she[2], "He": she[0].capitalize(), "His": she[1].capitalize(),
            "kid": "girl" if self.girl else "boy",
        }  # fmt: skip


def draw_cast(r, name=None, animal=None, place=None, thing=None):
    if name is None:
        name = r.choice(r.choice((GIRLS, BOYS)))
    girl = name in GIRLS
    friend = r.choice([other for other in GIRLS + BOYS if other != name])
    return Cast(
        name, girl, friend, animal or r.choice(ANIMALS), place or r.choice(PLACES),
        thing or thing_with_colour(r), r.choice(FOODS),
    )  # fmt: skip


# Each plot is a list of sentences; where there is a tuple, one of its sentences is taken.
PLOTS = {
    "lost": [
        ("{He} loved to walk in the {p}.", "Every morning {he} went to the {p}."),
        ("One day {n} met {an_a} there.", "One day {he} saw {an_a} in the {p}."),
        "The {a} was very sad.",
        '"Why are you sad?" asked {n}.',
        '"I lost my {o}," said the {a}.',
        ('"Do not worry, I will help you," said {n}.', '"Let us look for it together," said {n}.'),
        ("They looked under the trees and behind the stones.", "They looked here and they looked there."),
        ("At last {n} found the {o} in the tall grass.", "Then {n} saw the {o} under a bush."),
        'The {a} was so happy. "Thank you, {n}!" said the {a}.',
        ("From that day on, {n} and the {a} were good friends.", "{n} learned that friends help each other."),
    ],
    "stuck": [
        ("{He} had {an_o} and took it everywhere.", "{He} had {an_o} that {he} loved very much."),
        ("One windy day {n} played with the {o} in the {p}.", "One day {he} took the {o} to the {p}."),
        ("A strong wind came and put the {o} high up in a tree.", "The {o} flew up and got stuck in a tree."),
        ("{n} jumped and jumped, but the tree was too tall.", "{n} could not reach it and began to cry."),
        "Then {an_a} came by.",
        '"I will help you," said the {a}.',
        ("{n} and the {a} shook the tree together.", "The {a} pushed the tree and {n} pulled a branch."),
        "Down came the {o}!",
        '{n} laughed and said, "Thank you, {a}!"',
        ("They played with the {o} until the sun went down.", "{n} learned that together we can do more."),
    ],
    "hungry": [
        ("One day {he} went to the {p} with a bag of {food}.", "{n} took some {food} and went to the {p}."),
        ("There {he} met {an_a}.", "Under a tree sat {an_a}."),
        '"I am so hungry," said the {a}.',
        ("{n} gave the {a} half of the {food}.", "{n} smiled and shared the {food} with the {a}."),
        '"You are very kind," said the {a}.',
        ("Then the {a} gave {n} {an_o}.", "The {a} went away and came back with {an_o}."),
        '"This is for you," said the {a}.',
        ("{n} took the {o} home and showed it to {f}.", "At home {n} put the {o} next to the bed."),
        ("{n} learned that kindness comes back.", "And {n} and the {a} stayed friends."),
    ],
    "way_home": [
        ("One day {he} walked far into the {p}.", "{n} went to the {p} to look for {food}."),
        ("Soon {he} did not know the way home.", "It got dark and {n} was lost."),
        ("{n} sat down and was scared.", "{n} was scared and called for help."),
        'Then {an_a} came and said, "Hello. Are you lost?"',
        '"Yes," said {n}. "I want to go home."',
        ('"Come with me," said the {a}. "I know the way."', '"I will show you the way," said the {a}.'),
        ("They walked and walked until they saw a light.", "They went over a bridge and up a hill."),
        "It was the house of {n}!",
        ("{n} gave the {a} some {food} to say thank you.", '{n} hugged the {a} and said, "Thank you!"'),
        ("From that day on, {n} and the {a} were best friends.", "{n} was glad to have a new friend."),
    ],
    "storm": [
        ("One rainy night {he} heard a sound at the door.", "One day there was a big storm at the {p}."),
        ("Outside {n} saw {an_a}.", "{n} looked out and saw {an_a} in the rain."),
        "The {a} was wet and cold.",
        ('"Come in," said {n}. "It is warm here."', '"You poor {a}," said {n}. "Please come in."'),
        "{n} made a bed with a soft blanket.",
        ("They ate {food} and listened to the rain.", "{He} gave the {a} some warm {food}."),
        "In the morning the sun came out.",
        ("The {a} wanted to go home to the {p}.", '"Now I can go home," said the {a}.'),
        '"Come back soon," said {n}.',
        ("And every rainy day, the {a} came to visit {n}.", "The {a} came back the next day with a flower."),
    ],
    "share": [
        ("{n} and {his} friend {f} found {an_o} in the {p}.", "One day {n} and {f} saw {an_o} at the {p}."),
        '"It is mine!" said {n}.',
        '"No, it is mine!" said {f}.',
        ("They pulled and pulled, and both were angry.", "They did not want to play any more."),
        ("{a_cap} came by and saw them.", "{a_cap} heard the noise and came to them."),
        '"You can both have it," said the {a}. "First one, then the other."',
        ('{n} said, "I am sorry, {f}. You can go first."', '{f} said, "I am sorry, {n}. You can go first."'),
        ("So they took turns with the {o} all day.", "Then they played with the {o} together."),
        ("{n} and {f} were happy again.", "It was much more fun than before."),
        "They learned that it is good to share.",
    ],
    "seed": [
        ("One day {n} found a tiny seed in the {p}.", "{n} got a tiny seed from {f}."),
        ("{He} put it in the ground and gave it water.", "{n} made a hole and put the seed in it."),
        ("The next day nothing was there.", "{n} waited one day, but nothing came up."),
        "{n} was sad and wanted to give up.",
        ('"Wait a little," said {an_a}. "Good things take time."', '{a_cap} said, "Be patient and give it water."'),
        "So {n} gave it water every day.",
        ("One sunny morning there was a small green leaf.", "Then a small green leaf came out of the ground."),
        ("The leaf became a tall tree with sweet apples.", "Soon there was a big yellow flower."),
        '"You were right," said {n} to the {a}.',
        "{n} learned to be patient.",
    ],
    "night": [
        ("One night {n} could not sleep.", "It was late and {n} was in bed."),
        ("There was a strange noise outside.", "{He} heard a noise under the window."),
        ("{n} was scared of the dark.", "{n} hid under the blanket and was scared."),
        ("But {he} took a small lamp and went to look.", "Then {he} was brave and opened the window."),
        "There was only {an_a} with {an_o}!",
        '"I am sorry," said the {a}. "I found this in the {p}. Is it yours?"',
        ('"Yes, it is my {o}!" said {n}. "I looked for it all day."', '"Yes, thank you!" said {n}.'),
        ("{n} laughed and was not scared any more.", "The {a} smiled and said good night."),
        ("{n} went back to bed and slept well.", "Then {n} slept until the morning."),
        "{n} learned that the dark is not so bad.",
    ],
    "birthday": [
        ("It was the birthday of {his} friend {f}.", "One day {f}, a good friend of {n}, had a birthday."),
        ("{n} wanted to make a big cake.", "{n} made a cake for {f}."),
        ("{He} carried the cake to the {p}, but {he} fell.", "On the way to the {p} the cake fell down."),
        '"Oh no!" said {n}. "Now I have nothing for {f}."',
        ("{a_cap} saw it and came to help.", "Then {an_a} came by."),
        '"I have {an_o}," said the {a}. "You can give it to {f}."',
        ("{n} said thank you and ran to {f}.", "{n} took the {o} and went to {f}."),
        '"Happy birthday, {f}!" said {n}.',
        ("{f} loved the {o}.", "{f} was very happy with the {o}."),
        ("Then {n}, {f} and the {a} sang and danced.", "And they all ate {food} together."),
    ],
    "honest": [
        ("{His} mother had {an_o}, and {n} was not to touch it.", "On the table was {an_o}. It was from {his} mother."),
        ("One day {n} played with {his} {a} and the {o} fell down.", "{n} ran after {his} {a} and hit the {o}."),
        ("The {o} broke.", "It fell on the floor and broke."),
        ("{n} wanted to hide it.", "{n} was scared and put it under the bed."),
        ("But {n} felt bad all day.", "The {a} looked at {n} with big eyes."),
        'So {n} said, "Mother, I broke the {o}. I am sorry."',
        ("{His} mother was not angry.", "{His} mother gave {him} a hug."),
        '"Thank you for telling the truth," she said.',
        ("Together they fixed the {o}.", "They fixed the {o} and ate some {food}."),
        "{n} learned that the truth is always best.",
    ],
    "treasure": [
        ("One day {n} found an old map in the {p}.", "{n} and {f} found a map in an old box."),
        ("The map had a big red cross on it.", "On the map there was a path and a red cross."),
        "{n} went to find the treasure.",
        ("On the way {he} met {an_a}.", "Soon {an_a} came along."),
        '"May I come with you?" asked the {a}. "Yes!" said {n}.',
        ("They walked over the hill and over the bridge.", "They walked past the big tree and over the river."),
        ("At the red cross they dug a deep hole.", "Then they saw the cross and began to dig."),
        "In the hole there was {an_o}.",
        ('"It is not gold," said {n}, "but it is very pretty."', '"What a nice treasure!" said the {a}.'),
        ("{n} kept the {o}, and the {a} became {his} friend.", "But the best treasure was a new friend."),
    ],
    "skill": [
        ("{n} wanted to learn to {skill}.", "More than anything, {n} wanted to {skill}."),
        ("{He} tried it at the {p}.", "{He} went to the {p} to try."),
        "{trouble}, and {n} could not do it.",
        ("{n} was sad and went home.", '"I can not do it," said {n}.'),
        ('"Try again," said {an_a}. "I will help you."', '{a_cap} saw {him} and said, "Try again tomorrow."'),
        "The next day {n} tried again, and the {a} was there too.",
        ("The first time was bad, but the second time was better.", "They tried it ten times."),
        "And then {n} could do it!",
        ('"I can {skill}!" said {n} and laughed.', "The {a} clapped and {n} was very proud."),
        "{n} learned that it is good to try again.",
    ],
}

OPENINGS = (
    "Once upon a time, there was {mood} {kid} named {n}.",
    "Once upon a time, {mood} {kid} named {n} lived near the {p}.",
    "{n} was {mood} {kid} who lived by the {p}.",
    "Long ago, there was {mood} {kid} named {n}.",
    "There was once {mood} {kid}. The name of the {kid} was {n}.",
)


def tell(r, cast, plot=None):
    words = cast.words()
    words["mood"] = article(r.choice(MOODS))
    words["a_cap"] = words["an_a"].capitalize()
    words["skill"], words["trouble"] = r.choice(SKILLS)
    sentences = [r.choice(OPENINGS)]
    for sentence in PLOTS[plot or r.choice(list(PLOTS))]:
        sentences.append(sentence if isinstance(sentence, str) else r.choice(sentence))
    return " ".join(sentence.format(**words) for sentence in sentences)
