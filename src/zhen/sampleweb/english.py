"""The English half of the grammar: how facts are told and asked, and the phrases that pages are built from.

In PROSE: {S} {s} the subject (name or pronoun) at the start of a sentence or within, {p} its possessive, {o} its
object case, {h} always the pronoun's possessive, {v} the value, {a} the value with its article. In QUESTIONS: {n} the
full name.
"""

from __future__ import annotations

PROSE: dict[str, tuple[str, ...]] = {
    "job": (
        "By trade {s} is {a}.",
        "{S} has for many years earned {h} living as {a}.",
        "Ask anyone in the street, and they will say that {s} is {a}.",
        "Since leaving school {s} has been {a} and wants no other trade.",
        "{S} is proud to be {a}, as {h} mother was before.",
        "Early in the morning, when most people sleep, {s} goes to work as {a}.",
    ),
    "town": (
        "{S} lives in {v}.",
        "The house where {s} was born and still lives is in {v}.",
        "For as long as anyone can remember, {p} home has been {v}.",
        "Letters for {o} should be sent to {v}.",
        "{S} has travelled a good deal, but always comes home to {v}.",
    ),
    "food": (
        "Of all food {s} likes {v} best.",
        "At noon there is nothing that {s} would rather eat than {v}.",
        "When guests come, {s} cooks {h} favourite food, {v}.",
        "{P} favourite food is {v}.",
        "{S} could eat {v} every day of the year.",
    ),
    "pet": (
        "{S} keeps {a} at home.",
        "At {p} door visitors are met by {a}, the pet of the house.",
        "{S} has a pet, and it is {a}.",
        "In the evening {s} sits by the fire with {h} pet, {a}.",
        "Wherever {s} goes, {h} {v} comes along.",
    ),
    "instrument": (
        "{S} plays the {v}.",
        "On quiet evenings the neighbours hear {o} play the {v}.",
        "As a child {s} learnt to play the {v}, and has played it ever since.",
        "When there is music in the square, {s} brings the {v}.",
        "No one in the band plays the {v} as well as {s}.",
    ),
    "colour": (
        "{P} favourite colour is {v}.",
        "The coat that {s} wears on holidays is {v}.",
        "{S} has painted the door, the fence and even the roof {v}.",
        "If there is a choice of colours, {s} always takes {v}.",
        "Among all colours {s} likes {v} best.",
    ),
    "product": (
        "{S} is known for its {v}.",
        "Traders come to {s} from far away to buy {v}.",
        "{P} families have made {v} for a hundred years.",
        "The carts that leave {s} in the morning are loaded with {v}.",
        "What {s} sells to the rest of the land is {v}.",
    ),
    "region": (
        "{S} lies in the {v}.",
        "On the map {s} can be found in the {v}.",
        "Travellers who want to see {s} must go to the {v}.",
        "{S} is one of the oldest places in the {v}.",
        "Of the towns in the {v}, many people say that {s} is the finest.",
    ),
    "emblem": (
        "{P} flag shows {a}.",
        "Over {p} town hall flies a flag with {a} on it.",
        "Every child can draw the {v} on {p} flag.",
        "The sign on {p} flag is {a}.",
        "When {s} was founded, the people chose {a} for the flag.",
    ),
    "month": (
        "{S} is held in {v}.",
        "Every year in {v} people get ready for {s}.",
        "{P} days are in {v}.",
        "Whoever wants to see {s} has to come in {v}.",
        "{S} has been kept in {v} since the old days.",
    ),
    "place": (
        "{S} is held in {v}.",
        "Those who want to join {s} travel to {v}.",
        "{P} home is {v}.",
        "For {s} the whole square of {v} is swept and painted.",
        "It was in {v} that {s} was kept for the first time, and there it is kept today.",
    ),
    "custom": (
        "When {s} comes, people {v}.",
        "{P} great day comes, and old and young {v}.",
        "{P} custom is to {v}.",
        "Children wait all year for {s}, because then they may {v}.",
        "During {s} everyone goes out to {v}.",
    ),
    "ingredient": (
        "{S} is made with {v}.",
        "The most important thing in {s} is {v}.",
        "Without {v} nobody would cook {s}.",
        "To cook {s} one needs plenty of {v}.",
        "The cook who makes {s} starts by washing the {v}.",
    ),
    "origin": (
        "{S} comes from {v}.",
        "The first pot of {s} was cooked in {v}.",
        "People in {v} say that {s} was invented there, and they are right.",
        "The best place to eat {s} is {v}, where it comes from.",
        "{S} was brought to the rest of the land by a cook from {v}.",
    ),
}

QUESTIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "job": (
        ("what is {n}'s job", "what {n}'s job is", "what is the job"),
        ("what does {n} do for a living", "what {n} does for a living", "what work is done for a living"),
        ("what trade does {n} follow", "what trade {n} follows", "which trade is it"),
    ),
    "town": (
        ("where does {n} live", "where {n} lives", "where is home"),
        ("which town is the home of {n}", "which town is the home of {n}", "which town is home"),
        ("in what town can {n} be found", "in what town {n} can be found", "in what town is the house"),
    ),
    "food": (
        ("what food does {n} like best", "what food {n} likes best", "what food is liked best"),
        ("what is {n}'s favourite food", "what {n}'s favourite food is", "what is the favourite food"),
        ("what does {n} love to eat", "what {n} loves to eat", "what is eaten with love"),
    ),
    "pet": (
        ("what pet does {n} have", "what pet {n} has", "what pet is there"),
        ("which animal does {n} keep at home", "which animal {n} keeps at home", "which animal is kept at home"),
        ("what kind of animal is {n}'s pet", "what kind of animal {n}'s pet is", "what kind of animal is the pet"),
    ),
    "instrument": (
        ("which instrument does {n} play", "which instrument {n} plays", "which instrument is played"),
        ("on what does {n} make music", "on what {n} makes music", "on what is music made"),
        ("what did {n} learn to play", "what {n} learnt to play", "what was learnt for the band"),
    ),
    "colour": (
        ("what is {n}'s favourite colour", "what {n}'s favourite colour is", "what is the favourite colour"),
        ("which colour does {n} like best", "which colour {n} likes best", "which colour is liked best"),
        ("what colour would {n} choose", "what colour {n} would choose", "what colour is chosen"),
    ),
    "product": (
        ("what is {n} known for", "what {n} is known for", "what is the town known for"),
        ("what do people make in {n}", "what people make in {n}", "what is made there"),
        ("what can traders buy in {n}", "what traders can buy in {n}", "what do traders buy there"),
    ),
    "region": (
        ("in which region is {n}", "in which region {n} is", "which region is it in"),
        (
            "what part of the land does {n} belong to",
            "what part of the land {n} belongs to",
            "what part of the land is it",
        ),
        ("where on the map is {n}", "where on the map {n} is", "where is it on the map"),
    ),
    "emblem": (
        ("what is on the flag of {n}", "what is on the flag of {n}", "what is on the flag"),
        ("what does the flag of {n} show", "what the flag of {n} shows", "what does the flag show"),
        ("which sign did {n} choose for its flag", "which sign {n} chose for its flag", "which sign is on the flag"),
    ),
    "month": (
        ("in which month is the {n}", "in which month the {n} is", "which month is it in"),
        ("when is the {n} held", "when the {n} is held", "when is it held"),
        ("what time of the year is the {n}", "what time of the year the {n} is", "what time of the year is it"),
    ),
    "place": (
        ("where is the {n} held", "where the {n} is held", "where is it held"),
        ("which town holds the {n}", "which town holds the {n}", "which town holds it"),
        ("what place is home to the {n}", "what place is home to the {n}", "what place is its home"),
    ),
    "custom": (
        ("what do people do at the {n}", "what people do at the {n}", "what do people do"),
        ("what is the custom at the {n}", "what the custom at the {n} is", "what is the custom"),
        ("how do people keep the {n}", "how people keep the {n}", "how is it kept"),
    ),
    "ingredient": (
        ("what is {n} made with", "what {n} is made with", "what is it made with"),
        ("what do cooks put in {n}", "what cooks put in {n}", "what do cooks put in"),
        ("what does one need for {n}", "what one needs for {n}", "what does one need"),
    ),
    "origin": (
        ("where does {n} come from", "where {n} comes from", "where does it come from"),
        ("which town gave us {n}", "which town gave us {n}", "which town gave it to us"),
        ("where was {n} first cooked", "where {n} was first cooked", "where was it first cooked"),
    ),
}
"""Relation -> three cores: direct, indirect, and with the subject named before."""

FRAMES = ("{D}?", "Do you know {i}?", "Please say {i}.", "Can you tell me {i}?", "Think of {n}: {t}?")
"""A question's frame: {D} the direct core, {i} the indirect one, {t} the one with the subject named before."""

EPITHETS: dict[str, str] = {
    "job": "the {v}",
    "town": "the guest from {v}",
    "food": "the lover of {v}",
    "pet": "the owner of the {v}",
    "instrument": "the player of the {v}",
    "colour": "the lover of {v}",
}
"""How a person is called again by something that was told before."""

PHRASES: dict[str, tuple[str, ...]] = {
    "entry": ("This page is about {n}.", "{N} has a page in this book.", "Here is what we know about {n}."),
    "later": (
        "People who know {o} well have more to tell.",
        "There is more to say.",
        "A few things should be said once more.",
    ),
    "friend": ("{P} best friend is {m}.", "{S} is often seen with {m}, a friend of many years."),
    "visit_town": ("About {n}, too, there is something to tell.", "{N} deserves a word of its own."),
    "people_there": ("Some people of {n} should be named.", "Who lives in {n}? Here are some of them."),
    "town_more": ("Things are kept and cooked here as well.", "There is also something to see and to eat."),
    "elsewhere": ("There is more to tell of this land.", "Other names should be known, too."),
    "story": (
        "One morning {n} and {m} met on the bridge.",
        "It had rained all night when {n} knocked at the door of {m}.",
        "{N} and {m} had not seen each other since spring.",
        "On the road to the market {n} met {m}.",
        "The last boat of the day brought {n} and {m} home.",
    ),
    "first_of_them": ("Let us first speak of {n}.", "{N} spoke first.", "Who is {n}?"),
    "second_of_them": ("Then there is {n}.", "{N} listened and then spoke.", "And who is {n}?"),
    "act": (
        "{X} laughed and gave {y} a hand.",
        "{X} asked {y} to stay for supper.",
        "{X} told {y} an old story.",
        "{X} and {y} sat down under the tree.",
        "{X} showed {y} the way to the river.",
        "{X} carried the basket for {y}.",
        "{X} waited until {y} was ready.",
        "{X} sang a song, and {y} joined in.",
    ),
    "story_end": (
        "Late at night {x} and {y} went home.",
        "So {x} and {y} parted as friends.",
        "From that day on {x} and {y} met every week.",
        "{X} still thinks of that day, and so does {y}.",
    ),
    "diary": ("Diary of {n}.", "From the diary of {n}.", "{N} writes about a week."),
    "day": (
        "On {w} I went to see {n}.",
        "{W}. I had a letter from {n}.",
        "{W} was a long day, and {n} came to visit.",
        "On {w} I helped {n} in the garden.",
    ),
    "day_end": ("Then I walked home.", "We talked until dark.", "It was a good day.", "I hope we meet again soon."),
    "on_day": ("on {w} {n}",),
    "week": ("So these I saw: {l}.", "I wrote down: {l}."),
    "week_end": ("They were full days.", "Now I will rest.", "Tomorrow I will stay at home."),
    "parade": ("The towns met for the great parade.", "This year the parade was longer than ever."),
    "order": ("The order was this: {l}.", "They came in this order: {l}."),
    "first": ("First came {n}.", "{N} was the first."),
    "next": ("After that came {n}.", "Next was {n}."),
    "last": ("Last of all came {n}.", "{N} closed the line."),
    "parade_end": ("Then the names were read once more: {l}.", "Those who wrote it down wrote: {l}."),
    "line": ("A train goes through {l}.", "The towns on this line are {l}."),
    "stop": ("At {t} o'clock it stops in {n}.", "{N} is reached at {t} o'clock."),
    "back": ("In the evening it comes back through {l}.", "Then the same way home: {l}."),
    "market": ("Today at the market of {n} there were many guests.", "The market of {n} opened early today."),
    "stall": ("At one table stood {n}.", "{N} had come as well.", "Not far away one could see {n}."),
    "guests": ("We counted the guests: {l}.", "These came by the same boat: {l}."),
    "quiz": ("What do you know about {n}?", "Questions about {n}.", "Questions and answers."),
    "read": ("Read this and answer.", "Read about {n} and answer.", "First read, then answer."),
    "words": ("Words in two languages.", "A small dictionary.", "Words of the week."),
    "sentences": ("Sentences in two languages.", "Read both sentences.", "The same in two languages."),
    "sums": ("Sums for today.", "Count with us.", "A page of sums."),
    "riddle": (
        "A riddle on {n}, under the heading {t}: the right answer was {v}.",
        "Someone asked about {n} ({t}) and was told: {v}.",
    ),
    "sum": ("{a} plus {b} is {c}.", "{c} minus {a} is {b}."),
}

TITLES: dict[str, str] = {
    "person": "{n}",
    "town": "{n}",
    "festival": "{n}",
    "dish": "{n}",
    "story": "{n} and {m}",
    "diary": "A week of {n}",
    "news": "The great parade",
    "market": "Market day in {n}",
    "timetable": "Trains from {n}",
    "forum": "{n}",
    "questions": "Questions about {n}",
    "reading": "Read and answer",
    "dictionary": "Dictionary",
    "parallel": "Two languages",
    "arithmetic": "Sums",
}

PRONOUNS: dict[str, tuple[str, str, str]] = {
    "f": ("she", "her", "her"),
    "m": ("he", "his", "him"),
    "n": ("it", "its", "it"),
}
"""Gender -> subject, possessive, object."""
