#!/usr/bin/env python3
"""Writes the text that the shipped base model is trained on: simple English about everyday life, one JSON record a
line ({"text": ...}), from a grammar with agreement, recurring people and places, dialogues, lists and small
structured notes; and short conversations ({"messages": [...]}): questions with answers, and sentences turned into
notes. Neither contains the example's task (a driver's utterance and its JSON action): the base is to know the
language and what JSON looks like, not the job.

usage: make_text.py TEXT.jsonl CHAT.jsonl [--megabytes 6] [--seed 1]        (standard library only)
"""
import argparse
import json
import random

NAMES = {
    "she": "Anna Maria Lucy Emma Nora Grace Ella Ruth Clara Helen Julia Rosa Alice Vera Tina Paula Diana Olga Irene Lena "
           "Sofia Hannah Leah Naomi Amira Mei Yuki Priya Fatima Ines".split(),
    "he": "Tom Ben Paul Max Leo Sam Jack Oscar Henry Peter David Simon Felix Adam Noah Luke Mark Eric Victor Hugo "
          "Ivan Omar Ravi Kenji Marco Pedro Jonas Emil Anton Walter".split(),
}
PRONOUN = {"she": ("she", "her", "her"), "he": ("he", "him", "his")}
RELATIONS = {"she": ["sister", "mother", "friend", "neighbour", "teacher", "cousin", "aunt", "grandmother", "boss", "daughter", "colleague"],
             "he": ["brother", "father", "friend", "neighbour", "teacher", "cousin", "uncle", "grandfather", "boss", "son", "colleague"]}
ALL_RELATIONS = sorted(set(RELATIONS["she"] + RELATIONS["he"]))
TOWNS = ["Milford", "Ashton", "Riverside", "Oakdale", "Fairview", "Brighton", "Kingsbury", "Lakewood", "Norwood", "Elmstead",
         "Westport", "Stonebridge", "Harlow", "Greenville", "Maplewood", "Southgate", "Redhill", "Bayview"]
STREETS = ["Main Street", "Station Road", "Park Avenue", "Church Lane", "Mill Road", "Garden Street", "High Street",
           "River Road", "Hill Street", "Market Square", "Oak Lane", "School Road", "Bridge Street", "Lake Drive"]
PLACES = ["market", "park", "library", "station", "school", "bakery", "museum", "hospital", "cinema", "beach", "airport",
          "office", "restaurant", "garage", "pharmacy", "supermarket", "bank", "post office", "hotel", "stadium", "zoo",
          "gas station", "car wash", "swimming pool", "theatre", "bookshop", "town hall", "harbour", "farm", "castle"]
ROOMS = ["kitchen", "living room", "bedroom", "bathroom", "garden", "garage", "hall", "cellar", "office", "attic", "balcony"]
FOODS = ["bread", "soup", "rice", "cheese", "an apple", "a sandwich", "pasta", "salad", "a cake", "an omelette", "fish", "pizza",
         "a pancake", "some grapes", "porridge", "a pear", "chicken", "potatoes", "a bowl of cereal", "yoghurt"]
DRINKS = ["water", "tea", "coffee", "milk", "orange juice", "lemonade", "hot chocolate", "apple juice"]
THINGS = ["book", "lamp", "bag", "phone", "key", "letter", "umbrella", "jacket", "ball", "clock", "camera", "radio", "chair",
          "table", "box", "map", "ticket", "watch", "hat", "cup", "blanket", "basket", "picture", "guitar", "bicycle", "ladder",
          "hammer", "candle", "mirror", "pillow", "suitcase", "notebook", "pencil", "scarf", "glove", "knife", "plate", "bottle"]
ANIMALS = ["dog", "cat", "horse", "bird", "rabbit", "cow", "duck", "fox", "sheep", "mouse", "hen", "goat", "squirrel", "owl"]
COLOURS = ["red", "blue", "green", "yellow", "white", "black", "brown", "grey", "orange", "purple", "pink", "silver", "golden"]
SIZES = ["small", "big", "large", "tiny", "huge", "long", "short", "heavy", "light", "round", "narrow", "wide", "old", "new"]
MOODS = ["happy", "tired", "hungry", "cold", "warm", "proud", "nervous", "calm", "bored", "surprised", "sad", "angry",
         "excited", "thirsty", "sleepy", "worried", "busy", "ready", "quiet", "curious"]
WEATHER = ["sunny", "rainy", "cloudy", "windy", "foggy", "snowy", "stormy", "hot", "cold", "mild", "freezing", "warm", "dry", "wet"]
SEASONS = ["spring", "summer", "autumn", "winter"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
PARTS = ["morning", "afternoon", "evening"]
JOBS = ["nurse", "driver", "teacher", "farmer", "baker", "doctor", "painter", "pilot", "mechanic", "cook", "engineer", "gardener",
        "singer", "plumber", "waiter", "writer", "carpenter", "builder", "student", "musician"]
GENRES = ["jazz", "rock", "pop", "classical music", "folk", "blues", "country", "electronic music", "soul", "opera", "reggae"]
INSTRUMENTS = ["piano", "guitar", "violin", "drums", "flute", "trumpet", "cello"]
BANDS = ["the Blue Foxes", "Silver Lake", "the Night Riders", "Paper Boats", "the Old Harbour Band", "Golden Hour", "Red Balloon",
         "the Morning Birds", "Stone Garden", "Little River"]
CAR_PARTS = ["engine", "window", "door", "seat", "wheel", "tyre", "mirror", "battery", "roof", "heater", "radio", "boot", "wiper",
             "headlight", "brake", "steering wheel", "seat belt", "fan", "sunroof", "charger", "dashboard", "horn", "fuel tank"]
CAR_WORDS = ["temperature", "speed", "volume", "route", "traffic", "charge", "range", "tyre pressure", "fuel level", "air conditioning",
             "cruise control", "ambient light", "parking sensor", "navigation", "station", "lane", "motorway", "toll road", "ventilation"]
ADVERBS = ["slowly", "quickly", "carefully", "quietly", "happily", "suddenly", "gently", "loudly", "softly", "early", "late", "together",
           "alone", "again", "at once"]
ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen").split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()

# base, third person, past, -ing
VERBS_OBJECT = [("take", "takes", "took", "taking"), ("find", "finds", "found", "finding"), ("carry", "carries", "carried", "carrying"),
                ("buy", "buys", "bought", "buying"), ("clean", "cleans", "cleaned", "cleaning"), ("open", "opens", "opened", "opening"),
                ("close", "closes", "closed", "closing"), ("lose", "loses", "lost", "losing"), ("need", "needs", "needed", "needing"),
                ("bring", "brings", "brought", "bringing"), ("repair", "repairs", "repaired", "repairing"),
                ("paint", "paints", "painted", "painting"), ("move", "moves", "moved", "moving"), ("show", "shows", "showed", "showing"),
                ("forget", "forgets", "forgot", "forgetting"), ("hold", "holds", "held", "holding"), ("sell", "sells", "sold", "selling"),
                ("watch", "watches", "watched", "watching"), ("lift", "lifts", "lifted", "lifting"), ("check", "checks", "checked", "checking"),
                ("keep", "keeps", "kept", "keeping"), ("like", "likes", "liked", "liking"), ("want", "wants", "wanted", "wanting")]
VERBS_GO = [("walk", "walks", "walked", "walking"), ("drive", "drives", "drove", "driving"), ("run", "runs", "ran", "running"),
            ("ride", "rides", "rode", "riding"), ("go", "goes", "went", "going"), ("hurry", "hurries", "hurried", "hurrying"),
            ("travel", "travels", "travelled", "travelling"), ("return", "returns", "returned", "returning")]


def number(n):
    """n (0..100) in words."""
    if n < 20:
        return ONES[n]
    if n == 100:
        return "one hundred"
    return TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def plural(noun):
    special = {"mouse": "mice", "sheep": "sheep", "knife": "knives", "watch": "watches", "box": "boxes", "fox": "foxes",
               "library": "libraries", "radio": "radios"}
    return special.get(noun, noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s"))


def capital(s):
    return s[:1].upper() + s[1:]


def listed(items):
    return items[0] if len(items) == 1 else ", ".join(items[:-1]) + " and " + items[-1]


class Person:
    def __init__(self, r):
        kind = r.choice(("she", "he"))
        self.name = r.choice(NAMES[kind])
        self.sub, self.obj, self.pos = PRONOUN[kind]
        self.relation, self.job, self.town = r.choice(RELATIONS[kind]), r.choice(JOBS), r.choice(TOWNS)
        self.thing = (r.choice(COLOURS), r.choice(THINGS))
        self.animal, self.place = r.choice(ANIMALS), r.choice(PLACES)
        self.mood, self.music, self.age = r.choice(MOODS), r.choice(GENRES), r.randint(6, 80)


class Writer:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def pick(self, *options):
        return self.r.choice(options)

    def one(self, items):
        return self.r.choice(items)

    def some(self, items, low, high):
        return self.r.sample(items, self.r.randint(low, high))

    def clock(self):
        hour, minute = self.r.randint(1, 12), self.pick(0, 0, 15, 30, 45, 10, 20, 40)
        if minute == 0:
            return self.pick(f"{number(hour)} o'clock", f"{hour}:00")
        return self.pick(f"{hour}:{minute:02d}", {15: "a quarter past ", 30: "half past "}.get(minute, f"{number(minute)} past ") + number(hour))

    def amount(self, low, high):
        n = self.r.randint(low, high)
        return self.pick(str(n), number(n))

    def when(self):
        return self.pick(f"on {self.one(DAYS)}", f"on {self.one(DAYS)} {self.one(PARTS)}", f"at {self.clock()}", f"in the {self.one(PARTS)}",
                         "today", "yesterday", f"in {self.one(MONTHS)}", f"last {self.one(SEASONS)}", "after lunch", "before dinner", "every day")

    # ---- stories ------------------------------------------------------------------------------------

    def opening(self, p):
        return self.pick(
            f"{p.name} is {article(p.job)} and lives in {p.town}.",
            f"{p.name} lived in {article(self.one(SIZES))} house on {self.one(STREETS)} in {p.town}.",
            f"One {self.one(WEATHER)} {self.one(PARTS)}, {p.name} felt {p.mood}.",
            f"It was {article(self.one(WEATHER))} day in {self.one(SEASONS)}, and {p.name} was {p.mood}.",
            f"There was {article(p.job)} called {p.name}. {capital(p.sub)} was {number(p.age)} years old.",
            f"My {p.relation} {p.name} has {article(p.animal)} and {article(p.thing[0])} {p.thing[1]}.",
            f"{capital(self.when())}, {p.name} {self.one(VERBS_GO)[2]} to the {p.place}.")

    def sentence(self, p, q):
        v, w = self.one(VERBS_OBJECT), self.one(VERBS_GO)
        colour, thing = p.thing
        place, room = self.one(PLACES), self.one(ROOMS)
        return self.one([
            lambda: f"{capital(p.sub)} {v[2]} the {colour} {thing} in the {room}.",
            lambda: f"{capital(p.sub)} {w[2]} to the {place} {self.one(ADVERBS)}.",
            lambda: f"{p.name} wanted to {v[0]} {p.pos} {thing}, but it was too {self.one(SIZES)}.",
            lambda: f"Then {q.name} came, and they {w[2]} to the {place} together.",
            lambda: f"{capital(self.when())}, {p.sub} {v[2]} {article(self.one(SIZES))} {self.one(THINGS)} for {q.name}.",
            lambda: f"The {p.animal} was {self.one(MOODS)} and sat near the {self.one(THINGS)}.",
            lambda: f"{capital(p.sub)} ate {self.one(FOODS)} and drank {self.one(DRINKS)}.",
            lambda: f"{q.name} asked {p.obj} about the {thing}.",
            lambda: f"\"Where is my {thing}?\" asked {p.name}. \"It is in the {room},\" said {q.name}.",
            lambda: f"\"I am {self.one(MOODS)},\" said {q.name}, and {q.sub} {w[2]} home.",
            lambda: f"{capital(p.sub)} likes to listen to {p.music} when {p.sub} is {self.one(MOODS)}.",
            lambda: f"The weather was {self.one(WEATHER)}, so {p.name} {v[2]} {p.pos} {self.one(THINGS)}.",
            lambda: f"{q.name} is {self.one(VERBS_GO)[3]} to {q.town}, because {q.pos} {q.relation} lives there.",
            lambda: f"There were {self.amount(2, 20)} {plural(self.one(THINGS))} and {self.amount(2, 9)} {plural(self.one(ANIMALS))} at the {place}.",
            lambda: f"{capital(p.sub)} gave {q.name} the {thing}, and {q.sub} said thank you.",
            lambda: f"If it is {self.one(WEATHER)} tomorrow, {p.name} will {w[0]} to the {place}.",
            lambda: f"{p.name} plays the {self.one(INSTRUMENTS)}, and {q.name} sings.",
            lambda: f"They could not {v[0]} the {thing}, because the {room} was dark.",
            lambda: f"{capital(p.sub)} turned on the {self.pick('light', 'radio', 'heater', 'lamp', 'oven', 'fan')} and waited for {self.amount(2, 30)} minutes.",
        ])()

    def ending(self, p, q):
        return self.pick(f"In the end, {p.name} was {self.one(MOODS)}.", f"After that, {p.name} and {q.name} were good friends.",
                         f"{capital(p.sub)} went to bed at {self.clock()}.", "It was a good day.", f"And so the {p.animal} came home.",
                         f"{q.name} smiled, and they had {self.one(FOODS)} for dinner.", "Nobody ever forgot that day.")

    def two(self):
        p, q = Person(self.r), Person(self.r)
        while q.name == p.name:
            q = Person(self.r)
        return p, q

    def distinct(self, make, low, high):
        """A paragraph of different sentences."""
        return list(dict.fromkeys(make() for _ in range(self.r.randint(low, high))))

    def story(self):
        p, q = self.two()
        body = self.distinct(lambda: self.sentence(p, q), 5, 12)
        return " ".join([self.opening(p)] + body + [self.ending(p, q)])

    # ---- cars and travel, described, never commanded ---------------------------------------------------

    def car_sentence(self, p):
        part, word = self.one(CAR_PARTS), self.one(CAR_WORDS)
        return self.one([
            lambda: f"The {part} of the {self.one(COLOURS)} car was {self.pick('broken', 'clean', 'dirty', 'open', 'closed', 'new', 'cold', 'warm')}.",
            lambda: f"{p.name} looked at the {word} and drove on.",
            lambda: f"It is {self.amount(2, 90)} kilometres from {self.one(TOWNS)} to {self.one(TOWNS)}.",
            lambda: f"The temperature in the car was {self.amount(14, 30)} degrees, so {p.name} felt {self.pick('warm', 'cold', 'fine')}.",
            lambda: f"{capital(p.sub)} opened the window on the {self.pick('left', 'right', 'driver', 'passenger')} side a little.",
            lambda: f"On the radio, {self.one(BANDS)} played {self.one(GENRES)}, and {p.name} turned the volume {self.pick('up', 'down')}.",
            lambda: f"The station at {self.r.randint(88, 107)}.{self.r.randint(0, 9)} plays {self.one(GENRES)} in the {self.one(PARTS)}.",
            lambda: f"The seat in the {self.pick('front', 'back', 'rear')} was heated in {self.one(SEASONS)}.",
            lambda: f"{p.name} called {p.pos} {p.relation} from the car and sent a message to {self.one(NAMES['he'] + NAMES['she'])}.",
            lambda: f"The car drove at {self.amount(20, 100)} kilometres per hour on the motorway.",
            lambda: f"The battery was charged to {self.amount(20, 100)} percent at the {self.one(PLACES)}.",
            lambda: f"When it {self.pick('rained', 'snowed')}, the wipers moved {self.pick('fast', 'slowly')} and the lights were on.",
            lambda: f"The navigation showed a route to {self.one(STREETS)} without tolls and without traffic.",
            lambda: f"A mechanic checked the {part} and the {self.one(CAR_PARTS)}.",
            lambda: f"The driver and the passenger locked the doors and folded the mirrors.",
            lambda: f"The fan was set to level {self.amount(1, 6)}, and the windshield was clear again.",
            lambda: f"Sport mode is fast, comfort mode is soft, and eco mode saves energy.",
        ])()

    def travel(self):
        p = Person(self.r)
        start = self.pick(f"{p.name} drove from {p.town} to {self.one(TOWNS)} {self.when()}.", f"My {p.relation} {p.name} has a {self.one(COLOURS)} car.",
                          f"The trip to {self.one(TOWNS)} takes {self.amount(2, 12)} hours by car.", f"{p.name} is a driver and likes long roads.")
        return " ".join([start] + self.distinct(lambda: self.car_sentence(p), 5, 11))

    # ---- dialogues and questions -------------------------------------------------------------------------

    def question(self):
        n, m = self.r.randint(1, 20), self.r.randint(1, 20)
        c, d = self.r.sample(COLOURS, 2)
        thing, place = self.one(THINGS), self.one(PLACES)
        return self.one([
            lambda: (f"What is {n} plus {m}?", f"{n} plus {m} is {n + m}."),
            lambda: (f"What is {n + m} minus {m}?", f"{n + m} minus {m} is {n}."),
            lambda: (f"Which is more, {number(n)} or {number(n + m)}?", f"{capital(number(n + m))} is more than {number(n)}."),
            lambda: (f"How do you write {number(n + m)} in digits?", f"You write it {n + m}."),
            lambda: (f"Is the {thing} {c} or {d}?", f"The {thing} is {c}."),
            lambda: (f"Can you tell me the way to the {place}?", f"Yes. Go along {self.one(STREETS)} and turn {self.pick('left', 'right')} at the {self.one(PLACES)}."),
            lambda: (f"What is the weather like in {self.one(TOWNS)}?", f"It is {self.one(WEATHER)}, and it has {self.amount(1, 35)} degrees."),
            lambda: ("What time is it?", f"It is {self.clock()}."),
            lambda: (f"Would you please bring me the {thing}?", f"Of course. Here is the {thing}."),
            lambda: (f"Could you call my {self.one(ALL_RELATIONS)}?", f"I will call {self.pick('her', 'him', 'them')} {self.when()}."),
            lambda: (f"What day comes after {self.one(DAYS[:6])}?", None),
            lambda: (f"Do you like {self.one(GENRES)}?", self.pick("Yes, very much.", "No, it is too loud for me.", f"I like {self.one(GENRES)} more.")),
            lambda: (f"Who is {self.one(BANDS)}?", f"They play {self.one(GENRES)}."),
            lambda: (f"Is it too {self.pick('warm', 'cold', 'dark', 'loud')} for you?", self.pick("No, it is fine.", "Yes, a bit.", "Yes, please change that.", "It is just right.")),
            lambda: (f"Where can I buy {self.one(FOODS)}?", f"At the {place} on {self.one(STREETS)}."),
            lambda: ("How far is it?", f"It is {self.amount(1, 60)} kilometres, about {self.amount(2, 50)} minutes by car."),
        ])()

    def dialogue(self):
        a, b = self.two()
        lines = []
        for _ in range(self.r.randint(4, 8)):
            q, answer = self.question()
            if answer is None:
                day = q.split()[-1].rstrip("?")
                answer = f"After {day} comes {DAYS[DAYS.index(day) + 1]}."
            lines += [f"{a.name}: {q}", f"{b.name}: {answer}"]
        return "\n".join(lines)

    # ---- lists, recipes, notes, and what structured text looks like ----------------------------------------

    def recipe(self):
        foods = self.some(["flour", "butter", "sugar", "salt", "milk", "rice", "tomatoes", "onions", "cheese", "eggs", "oil", "pepper"], 3, 6)
        steps = self.some(["wash the vegetables", "mix everything", "heat the oven", "stir slowly", "cut the onions", "wait a little", "add some water",
                           "cook it gently", "put it on a plate", "let it cool"], 3, 5)
        head = f"To make {self.one(['soup', 'a cake', 'bread', 'an omelette', 'pancakes', 'a sauce'])}, you need {listed(foods)}."
        return head + "\n" + "\n".join(f"{i + 1}. {capital(s)}." for i, s in enumerate(steps))

    def shopping(self):
        return f"{self.pick('Shopping list', 'To buy', 'Please bring')}:\n" + "\n".join(
            f"- {self.amount(1, 12)} {plural(self.one(THINGS))}" for _ in range(self.r.randint(4, 8)))

    def settings(self):
        machine = self.one([("washing machine", {"program": ["cotton", "wool", "quick", "mixed"], "degrees": [30, 40, 60, 90], "spin": [600, 800, 1200]}),
                            ("oven", {"mode": ["grill", "bake", "steam"], "degrees": [120, 160, 180, 200, 220], "minutes": [10, 20, 35, 50]}),
                            ("lamp", {"colour": COLOURS, "level": [1, 2, 3, 4, 5], "on": [True, False]}),
                            ("coffee machine", {"drink": ["coffee", "espresso", "tea"], "cups": [1, 2, 3, 4], "strong": [True, False]}),
                            ("printer", {"paper": ["small", "large"], "copies": [1, 2, 5, 10], "colour": [True, False]}),
                            ("garden pump", {"zone": ["lawn", "roses", "trees"], "minutes": [5, 10, 15, 30], "on": [True, False]})])
        value = {"machine": machine[0], **{k: self.one(v) for k, v in machine[1].items()}}
        return f"The settings of the {machine[0]}:\n" + self.dump(value)

    def contact(self):
        p = Person(self.r)
        value = {"name": p.name, "age": p.age, "town": p.town, "street": self.one(STREETS), "job": p.job}
        keys = self.some(list(value), 2, 5)
        return f"{self.pick('An entry of the address book', 'A note about a person', 'From the list of guests')}:\n" + self.dump({k: value[k] for k in keys})

    def dump(self, value):
        return json.dumps(value, separators=self.pick((",", ":"), (", ", ": ")))

    def weather_report(self):
        lines = [f"{day}: {self.one(WEATHER)}, {self.amount(0, 35)} degrees" for day in DAYS[: self.r.randint(3, 7)]]
        return f"The weather in {self.one(TOWNS)} in {self.one(MONTHS)}:\n" + "\n".join(lines)

    def letter(self):
        p, q = self.two()
        body = " ".join(self.distinct(lambda: self.sentence(p, q), 3, 6))
        return f"Dear {q.name},\nthank you for the {self.one(THINGS)}. {body} Please call me {self.when()}.\nYours, {p.name}"

    # ---- conversations ---------------------------------------------------------------------------------------

    def note(self):
        """A sentence, and the note that it makes."""
        p, q = self.two()
        n, said = (lambda n: (n, self.pick(str(n), number(n))))(self.r.randint(2, 100))
        thing, verb, room, place, day = self.one(THINGS), self.one(VERBS_OBJECT)[0], self.one(ROOMS), self.one(PLACES), self.one(DAYS)
        snake = lambda *words: "_".join(" ".join(words).split())
        state, is_open = self.pick(("open", True), ("closed", False))
        return self.one([
            lambda: (f"{p.name} is {article(p.job)} from {p.town}.", {"name": p.name, "job": p.job, "town": p.town}),
            lambda: (f"{p.name} is {number(p.age)} years old.", {"name": p.name, "age": p.age}),
            lambda: (f"We need {said} {plural(thing)}.", {"need": thing, "count": n}),
            lambda: (f"The {p.thing[0]} {p.thing[1]} is in the {room}.", {"thing": p.thing[1], "colour": p.thing[0], "room": snake(room)}),
            lambda: (f"On {day} I must {verb} the {thing}.", {"task": snake(verb, thing), "day": day}),
            lambda: (f"{p.name} will {verb} the {thing} for {q.name}.", {"task": snake(verb, thing), "who": p.name, "for": q.name}),
            lambda: (f"The {place} is {state} on {day}.", {"place": snake(place), "open": is_open, "day": day}),
            lambda: (f"It was {said} degrees in {p.town} yesterday.", {"town": p.town, "degrees": n}),
            lambda: (f"The trip to {p.town} takes {said} minutes.", {"trip": p.town, "minutes": n}),
            lambda: (f"{p.name} plays {p.music} with {self.one(BANDS)}.", {"name": p.name, "plays": snake(p.music)}),
            lambda: (f"{q.name} says: {self.pick('see you tomorrow', 'the soup was good', 'happy birthday', 'come to the garden')}.", None),
            lambda: (f"My {p.relation} likes the {snake(p.animal)} and the {p.thing[0]} {thing}.", {"who": p.relation, "likes": [p.animal, thing]}),
            lambda: (f"The {self.one(CAR_PARTS)} is {self.pick('new', 'old', 'broken', 'clean')}.", None),
        ])()

    def instruction(self):
        sentence, note = self.note()
        if note is None:
            words = sentence.rstrip(".").replace(":", "").split()
            note = {"words": len(words), "first": words[0].lower(), "last": words[-1]}
        return sentence, json.dumps(note, separators=(",", ":"))

    def conversation(self):
        turns = []
        for _ in range(self.pick(1, 1, 1, 2)):
            user, answer = self.instruction() if self.r.random() < 0.65 else self.question()
            if answer is None:
                day = user.split()[-1].rstrip("?")
                answer = f"After {day} comes {DAYS[DAYS.index(day) + 1]}."
            if self.r.random() < 0.3:
                user = user.rstrip(".?").lower() if self.r.random() < 0.3 else user.rstrip(".?")
            turns += [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
        return turns

    def record(self):
        kinds = [(self.story, 30), (self.travel, 20), (self.dialogue, 20), (self.recipe, 4), (self.shopping, 3), (self.settings, 8),
                 (self.contact, 6), (self.weather_report, 3), (self.letter, 6)]
        make = self.r.choices([k for k, _ in kinds], [w for _, w in kinds])[0]
        text = make()
        if make in (self.settings, self.contact, self.shopping, self.recipe, self.weather_report):
            text = "\n\n".join([text] + [make() for _ in range(self.r.randint(1, 3))])
        return text


def write(path, megabytes, record):
    size = 0
    with open(path, "w", encoding="utf-8") as f:
        while size < megabytes * 1e6:
            size += f.write(json.dumps(record()) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text")
    parser.add_argument("chat")
    parser.add_argument("--megabytes", type=float, default=6, help="of each file")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    writer = Writer(args.seed)
    write(args.text, args.megabytes, lambda: {"text": writer.record()})
    write(args.chat, args.megabytes, lambda: {"messages": writer.conversation()})


if __name__ == "__main__":
    main()
