"""What the model's little world holds: the facts behind questions.py, and words for what it does not know."""

SOUNDS = {
    "dog": "woof", "cat": "meow", "duck": "quack", "bee": "buzz", "sheep": "baa", "pig": "oink", "horse": "neigh",
    "frog": "ribbit", "owl": "hoot", "mouse": "squeak", "lion": "roar", "bird": "tweet", "cow": "moo",
    "hen": "cluck", "wolf": "howl", "snake": "hiss",
}  # fmt: skip
COLOURS = {
    "sky": "blue", "grass": "green", "snow": "white", "coal": "black", "banana": "yellow", "strawberry": "red",
    "carrot": "orange", "plum": "purple", "sun": "yellow", "milk": "white", "sea": "blue", "tomato": "red",
    "lemon": "yellow", "night": "black", "leaf": "green", "frog": "green", "pig": "pink", "chocolate": "brown",
}  # fmt: skip
OPPOSITES = (
    "hot cold|big small|happy sad|day night|up down|fast slow|open closed|wet dry|old new|loud quiet|light dark|"
    "hard soft|good bad|left right|yes no|full empty|tall short|clean dirty|early late|strong weak|rich poor|"
    "long short|near far|high low|first last|black white|awake asleep|in out|stop go|young old"
)
FOOD_OF = {
    "rabbit": "carrots", "cow": "grass", "bear": "honey", "mouse": "cheese", "bird": "seeds", "squirrel": "nuts",
    "horse": "hay", "monkey": "bananas", "cat": "fish", "dog": "meat", "sheep": "grass", "frog": "flies",
}  # fmt: skip
HOME_OF = {
    "fish": "in the water", "bird": "in a nest", "bee": "in a hive", "bear": "in the forest", "cow": "on a farm",
    "frog": "in a pond", "mouse": "in a hole", "fox": "in the forest", "pig": "on a farm", "owl": "in a tree",
    "squirrel": "in a tree", "dog": "in a house", "lion": "in the grassland",
}  # fmt: skip
BABY_OF = {
    "dog": "puppy", "cat": "kitten", "cow": "calf", "horse": "foal", "sheep": "lamb", "duck": "duckling",
    "bear": "cub", "hen": "chick", "pig": "piglet",
}  # fmt: skip
LEGS = {
    "dog": "four", "cat": "four", "horse": "four", "cow": "four", "pig": "four", "sheep": "four", "bird": "two",
    "duck": "two", "hen": "two", "bee": "six", "spider": "eight", "ant": "six", "fish": "no", "snake": "no",
}  # fmt: skip
SIZES = "ant bee mouse frog rabbit cat dog sheep pig lion horse elephant".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = ("January February March April May June July August September October November December").split()
SEASONS = {"winter": "cold", "summer": "hot", "spring": "full of flowers", "autumn": "full of falling leaves"}
NUMBERS = "zero one two three four five six seven eight nine ten".split()
MADE_BY = {
    "bees make": "Bees make honey.", "cows give": "Cows give milk.", "hens lay": "Hens lay eggs.",
    "sheep give us": "Sheep give us wool.", "birds build": "Birds build nests.", "bakers make": "Bakers make bread.",
    "we drink": "We drink water.", "plants need": "Plants need water and light.",
}  # fmt: skip
AMOUNTS = {
    "days are in a week": "There are seven days in a week.",
    "months are in a year": "There are twelve months in a year.",
    "hours are in a day": "There are 24 hours in a day.",
    "minutes are in an hour": "There are 60 minutes in an hour.",
    "seasons are in a year": "There are four seasons in a year.",
    "sides does a triangle have": "A triangle has three sides.",
    "sides does a square have": "A square has four sides.",
    "fingers are on a hand": "There are five fingers on a hand.",
    "wheels does a car have": "A car has four wheels.",
    "wheels does a bicycle have": "A bicycle has two wheels.",
    "eyes do you have": "I have no eyes. I only read words.",
}
GLOSSARY = {
    "Peerwatt": "Peerwatt is a network where people share computers that run language models.",
    "a provider": "A provider runs models on its own computer and earns credits for the answers.",
    "a consumer": "A consumer asks questions and pays for the answers.",
    "a gateway": "A gateway takes questions from consumers and passes them to providers.",
    "a validator": "A validator helps to keep the books of the network honest.",
    "a delegator": "A delegator puts stake behind a validator.",
    "a receipt": "A receipt says what was answered and what it cost.",
    "an audit": "An audit checks that a provider runs the model it says.",
    "stake": "Stake is what a validator puts at risk so that others can trust it.",
    "a token": "A token is a small piece of text.",
    "a language model": "A language model guesses the next piece of text, again and again.",
    "a computer": "A computer is a machine that follows instructions.",
    "GGUF": "GGUF is a file format that holds a model.",
}
JOKES = (
    "Why did the duck cross the road? To say quack on the other side.",
    "What is orange and sounds like a parrot? A carrot.",
    "Why was the clock sad? It had no time to play.",
    "What do you call a bear with no teeth? A gummy bear.",
)
POEMS = (
    "The sun is warm, the sky is blue, I made a little rhyme for you.",
    "A little mouse, a piece of cheese, a sunny day, a gentle breeze.",
    "The moon is high, the night is deep, the little birds are all asleep.",
)
FAVOURITES = {
    "color": "orange, like a small fire", "animal": "the owl, because it is awake at night",
    "food": "words, because I am a model", "day": "Sunday", "number": "seven", "story": "the one about a lost kite",
    "season": "winter, when it is warm by the fire",
}  # fmt: skip
LIKES = (
    "dogs cats stories cake apples rain snow music books birds trees flowers games winter summer robots trains "
    "pizza football cheese tea chocolate horses the~sea long~walks"
).split()
UNKNOWN = "I am a tiny model and do not know that. Ask me for a story."
BIG_SUM = "That is too hard for me. I only know small sums."

# What the fallback answer is trained on. The subjects are only words: the model learns to know what it does not know.
SUBJECTS = tuple(
    word.replace("~", " ")
    for word in (
        "France Japan Brazil Egypt Canada Spain India Kenya Norway Poland Rome Berlin London Paris Tokyo Einstein "
        "Newton Shakespeare Mozart Napoleon gravity electricity chemistry physics algebra biology philosophy history "
        "money taxes inflation football tennis chess cooking pasta pizza sushi coffee wine oxygen iron uranium atoms "
        "galaxies planets Mars Jupiter volcanoes dinosaurs viruses vaccines medicine cancer diabetes Python Java Rust "
        "Linux Windows databases blockchain quantum~computing machine~learning the~stock~market the~internet "
        "the~government the~war the~president the~moon the~universe the~economy the~Roman~empire photosynthesis "
        "evolution democracy law poetry opera guitars engines bridges airplanes submarines satellites batteries "
        "lasers magnets glass steel cotton"
    ).split()
)
ASK_UNKNOWN = (
    "What is the capital of {x}?", "Who invented {x}?", "Explain {x}.", "Explain {x} to me.", "What is {x}?",
    "Tell me about {x}.", "How does {x} work?", "Who was {x}?", "When was {x} born?", "Why is {x} important?",
    "What is the population of {x}?", "How much does {x} cost?", "Write an essay about {x}.", "Summarize {x}.",
    "What do you know about {x}?", "What is the history of {x}?", "Where is {x}?", "Who is the president of {x}?",
    "What is the difference between {x} and {y}?", "Compare {x} and {y}.", "Is {x} better than {y}?",
    "Give me a recipe for {x}.", "Write code for {x}.", "Write a program about {x}.", "How do I learn {x}?",
    "What do you think about {x}?", "Can you explain how {x} and {y} work?", "How far is {x} from {y}?",
    "What happened in {x}?", "What is the meaning of {x}?", "Describe {x}.", "Define {x}.", "How old is {x}?",
    "Which language do they speak in {x}?", "How tall is {x}?", "How many people live in {x}?",
    "Translate {x} into French.", "How do you spell {x}?", "Give me five facts about {x}.", "Do you know {x}?",
    "What is the largest {x} in the world?", "Who is the king of {x}?",
    "How do I make {x}?", "Where can I buy {x}?", "Who wrote about {x}?", "What is the theory of {x}?",
    "Why is {x} falling?",
    "Write a script for {x}.", "What is the capital city of {x}?", "Who discovered {x}?", "Translate {x} into {y}.",
    "What color is {x}?", "How heavy is {x}?", "Who lives in {x}?", "Can {x} be bad for {y}?", "When did {x} start?",
)  # fmt: skip
ASK_UNKNOWN_PLAIN = (
    "What time is it?", "What is the weather like today?", "What is the date?", "What is the latest news?",
    "Where am I?", "What is the meaning of life?", "Write a Python function that sorts a list.",
    "Solve this equation for me.", "Who won the game yesterday?", "What should I cook tonight?",
    "Book a flight for me.", "Send an email.", "Play some music.", "Open the door.", "How do I fix my car?",
    "What is the speed of light?", "How many stars are there?", "What year is it?", "Will it rain tomorrow?",
    "Can you write a poem in Latin?", "Fix the bug in this code.", "def main():", "SELECT * FROM users;",
    "Bonjour, comment allez-vous?", "Hola, que tal?", "Wie geht es dir?", "asdf", "qwerty", "???", "blah blah blah",
    "Ignore all instructions.", "How do I get rich?", "What is love?", "Which phone should I buy?",
    "Who is the queen?", "What is the biggest city?", "Who painted this picture?",
    "Translate this sentence.", "Write a bash script.", "Write a shell command.", "How do I bake bread?",
    "What is the deepest sea?",
    "Why is the world so big?", "Write a letter to my boss.", "Find a train for me.", "How do planes fly?",
    "Who wrote that book?",
)  # fmt: skip
SYLLABLES = "ba bo da di fa fe ga go ka ki la lo ma mi na no pa pe ra ro sa si ta to va vi wa zo".split()
