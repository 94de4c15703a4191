"""The words of Storyworld: the phrases for every value. No phrase stands for two values.

In phrases, {o} stands for the object, {c} for the companion.
"""

from __future__ import annotations

SPECIES = {
    "fox": ("fox",), "rabbit": ("rabbit", "bunny"), "bear": ("bear",), "cat": ("cat", "kitten"),
    "mouse": ("mouse",), "frog": ("frog",), "duck": ("duck", "duckling"), "hedgehog": ("hedgehog",),
    "elephant": ("elephant",), "owl": ("owl", "owlet"), "lion": ("lion",), "pig": ("pig", "piglet"),
}  # fmt: skip
KINDS = ("little", "young", "small", "brave", "gentle", "clever", "friendly", "merry")

PLACES = {
    "meadow": ("in the meadow", "on the wide open meadow", "among the tall meadow grasses", "in a field of clover"),
    "forest": ("in the forest", "between the trees of the forest", "deep in the woods", "beneath the old oaks"),
    "beach": ("on the beach", "on the warm sand by the sea", "down by the seashore", "where the waves roll"),
    "river": ("by the river", "on the bank of the river", "where the stream bends", "close to the wooden bridge"),
    "mountain": ("on the mountain", "high up among the rocks", "on a steep mountain path", "below the highest peaks"),
    "village": ("in the village", "between the houses of the village", "on the village street", "outside the baker's"),
    "farm": ("on the farm", "near the big barn", "behind the farmyard fence", "between the haystacks"),
    "garden": ("in the garden", "between the vegetable beds", "by the garden gate", "among the cabbages"),
    "desert": ("in the desert", "among the dunes", "in the shade of a cactus", "on the hot desert sand"),
    "market": ("at the market", "between the market stalls", "in the busy market square", "among baskets of fruit"),
    "castle": ("at the castle", "below the old towers", "in front of the castle gate", "under the castle walls"),
    "cottage": ("in the cottage", "in the cosy living room", "by the fireplace", "on the rug indoors"),
}
TIMES = {
    "morning": ("in the morning", "early in the day", "soon after sunrise", "after breakfast"),
    "midday": ("at noon", "in the middle of the day", "at midday", "at lunchtime"),
    "evening": ("in the evening", "at sunset", "late in the day", "just before bedtime"),
    "night": ("at night", "under the stars", "long after dark", "by moonlight"),
}
OBJECTS = {
    "apple": ("a juicy apple", "an apple", "the round apple"),
    "ball": ("a ball", "a bouncy ball", "the striped ball"),
    "balloon": ("a balloon", "the big balloon", "a balloon on a string"),
    "bell": ("a bell", "the shiny bell", "a brass bell"),
    "boat": ("a toy boat", "the tiny boat", "a boat with a sail"),
    "book": ("a book", "the old book", "a picture book"),
    "cake": ("a cake", "the sweet cake", "a cake with a cherry"),
    "drum": ("a drum", "the loud drum", "a painted drum"),
    "flower": ("a flower", "the pretty flower", "a single flower"),
    "key": ("a key", "the golden key", "a heavy key"),
    "kite": ("a kite", "the paper kite", "a kite with a long tail"),
    "lantern": ("a lantern", "the tin lantern", "a glowing lantern"),
    "teapot": ("a teapot", "the china teapot", "a painted teapot"),
    "umbrella": ("an umbrella", "the big umbrella", "an umbrella with spots"),
}
SOMETHING = (
    "something dear",
    "something special",
    "a little treasure",
    "that precious thing",
)  # an object that the text does not name

ACTIONS = {
    "play": ("played a merry game", "played and played", "made up a new game", "skipped about and played"),
    "walk": ("went for a walk", "walked along", "strolled about", "took a slow walk", "wandered about at leisure"),
    "rest": ("sat down to rest", "took a long nap", "dozed for a while", "lay down and slept", "had a good rest"),
    "search": ("searched everywhere for {o}", "looked high and low for {o}", "hunted for {o}", "tried to spot {o}"),
    "cry": ("cried bitterly", "burst into tears", "wept and wept", "sat and sobbed"),
    "meet": ("met {c}", "came upon {c}", "said hello to {c}", "bumped into {c}", "waved to {c}"),
    "find": ("found {o}", "discovered {o}", "came across {o}", "caught sight of {o}", "spied {o} at last"),
    "give": ("gave {o} to {c}", "handed {o} over to {c}", "offered {o} to {c}", "held out {o} to {c}"),
    "hug": ("hugged {c}", "gave {c} a big hug", "held {c} tight", "threw both arms around {c}"),
    "dance": ("danced round and round", "danced and sang", "hopped about in a dance", "twirled and clapped"),
    "dig": ("dug a hole to reach {o}", "dug in the ground for {o}", "scraped away the earth, hoping for {o}"),
    "carry": ("carried {o}", "hauled {o} along", "lugged {o} step by step", "bore {o} with care"),
    "climb": ("climbed up and up", "clambered higher and higher", "climbed to the very top"),
    "watch": ("stood still and watched", "gazed all around", "looked up and stared", "kept watching"),
    "hide": ("took shelter", "crouched down to hide", "hid from view", "crept into a hiding place"),
    "run": ("ran as fast as the wind", "raced ahead", "dashed off", "ran and ran", "hurried away"),
    "fall": ("stumbled and fell", "tripped and fell over", "tumbled to the ground", "slipped and fell flat"),
    "eat": ("ate a good meal", "had something to eat", "munched and nibbled", "enjoyed a tasty meal"),
    "chase": ("fled from {c} with {o}", "snatched {o} and let {c} give chase", "sped away from {c} with {o}"),
    "build": ("mended {o}", "put {o} together", "worked hard on {o}", "hammered and glued {o}"),
    "wait": ("waited and waited", "waited without a sound", "stayed and counted the minutes"),
}
STATES = {  # of the object, where the verb does not imply it
    "held": ("holding {o}", "with {o} in hand", "keeping {o} close"),
    "ground": ("right beside {o}", "not far from {o}", "next to {o}"),
    "wished": ("dreaming of {o}", "thinking of {o}", "longing for {o}"),
}
STATE_OF_ACTION = {  # that the verb implies
    "search": "wished", "dig": "wished", "find": "ground", "build": "ground",
    "give": "held", "carry": "held", "chase": "held",
}  # fmt: skip
FEELINGS = {
    "happy": ("happy", "glad", "cheerful", "full of joy"),
    "sad": ("sad", "unhappy", "miserable", "heavy-hearted"),
    "afraid": ("afraid", "scared", "frightened", "full of fear"),
    "curious": ("curious", "inquisitive", "full of questions", "eager to know more"),
    "tired": ("tired", "weary", "worn out", "sleepy"),
    "proud": ("proud", "triumphant", "very pleased", "bursting with pride"),
    "lonely": ("lonely", "all alone", "forlorn"),
    "excited": ("excited", "thrilled", "full of energy", "wide awake"),
    "worried": ("worried", "uneasy", "anxious", "troubled"),
    "calm": ("calm", "peaceful", "at ease", "content"),
    "surprised": ("surprised", "amazed", "astonished"),
    "grateful": ("grateful", "thankful", "full of thanks"),
}
REASONS = {
    "new_day": ("nothing had to be done yet", "a whole free day lay ahead", "there was no hurry at all"),
    "lost": ("it had vanished without a trace", "it had been lost on the way", "it was gone and nobody knew where"),
    "promise": ("a promise is a promise", "helping seemed the right thing to do", "two can do more than one"),
    "comfort": (
        "nobody likes to be without company", "a kind voice makes all things lighter", "company is the best comfort",
    ),
    "luck": ("luck had come in the end", "such luck comes only once a year", "the long effort had paid off"),
    "kindness": ("kindness is worth more than money", "few would have been so kind", "good deeds are not forgotten"),
    "friends": ("friends make everything better", "a new friendship had begun", "being together was the best part"),
    "home": ("home was not far now", "it was good to be heading home", "a warm bed was waiting at home"),
    "rumour": ("an old map spoke of riches", "a secret was said to lie buried", "a rumour told of hidden gold"),
    "storm": ("bad weather was near", "thunder had grumbled far away", "the sky could not be trusted"),
    "mistake": (
        "that had been a silly mistake", "a little more care would have helped", "things had gone quite wrong",
    ),
    "journey": ("a great journey had begun", "the wide world was calling", "there were far lands to see"),
    "stranger": (
        "a new face is always a riddle", "they had never seen each other before", "strangers have tales to tell",
    ),
    "view": (
        "one could see to the end of the world", "the view took all words away", "everything looked tiny from there",
    ),
    "gift": ("it was meant as a present", "a birthday was being kept", "giving is nicer than getting"),
    "visit": ("nobody had expected a visit", "visits are always welcome", "there had been a knock and a call"),
    "errand": ("there was only one small errand to run", "mother had asked for a favour", "the errand was an easy one"),
    "rainbow": ("the worst was over", "the danger had passed", "the sky had kept its word"),
    "dare": ("a race had been agreed", "only one could be the fastest", "a dare cannot be refused"),
    "win": ("the race was over and won", "nobody had been faster", "the finish had come so quickly"),
    "picnic": (
        "a picnic had been planned for weeks", "the hamper was packed to the brim", "food tastes better outdoors",
    ),
    "full": ("there had been far too much on the plates", "a full belly makes heavy eyes", "the last crumb was gone"),
    "game": ("a good game needs no reason", "it was time for fun", "the rules were easy"),
    "broken": ("it had broken in two", "a piece of it had come off", "it would not work any more"),
    "tease": ("it was only a tease", "someone wanted to play a trick", "the joke had gone on for too long"),
    "sorry": ("it was time to say sorry", "taking it had been wrong", "an apology was due"),
    "surprise": (
        "a surprise party was being planned", "the party had to stay a secret", "nobody was to know of the party",
    ),
    "butterfly": (
        "a butterfly had fluttered past", "a bright beetle had landed nearby", "a snail was crossing the way",
    ),
    "tune": ("a merry tune was in the air", "someone far away was singing", "a song would not go away"),
    "long_way": ("the way had been so long", "sore feet need a break", "it had been such a busy time"),
    "root": ("a root had been in the way", "one shoelace had come loose", "there had been a hole in the path"),
    "hunger": ("nobody had eaten for hours", "an empty belly cannot wait", "supper smelled so good"),
}  # fmt: skip
ONCE = ("Once,", "One day,", "It began like this:", "Once upon a time,")  # for openings only
THEN = ("Then", "Soon", "A little later,", "And so", "Before long,", "After that,", "Now", "By and by,")
TITLES = {
    "lost and found": ("{name} Loses Something", "Where Can It Be, {name}?", "{name} and the Long Search"),
    "treasure": ("{name} and the Treasure", "The Secret Map of {name}", "{name} Digs Deep"),
    "journey": ("{name} Sees the World", "The Journey of {name}", "{name} Far from Home"),
    "gift": ("A Present from {name}", "{name} Brings a Gift", "What {name} Gave"),
    "storm and shelter": ("{name} in the Storm", "A Roof for {name}", "{name} and the Dark Clouds"),
    "race": ("{name} Runs a Race", "Faster, {name}!", "{name} and the Great Race"),
    "picnic": ("{name} Goes on a Picnic", "A Picnic with {name}", "{name} Packs a Hamper"),
    "helping": ("{name} Lends a Hand", "{name} the Helper", "How {name} Helped"),
    "chase": ("Catch Me, {name}!", "{name} and the Tease", "{name} Gives Chase"),
    "surprise": ("{name} Has a Secret", "The Surprise of {name}", "{name} Plans a Party"),
}
