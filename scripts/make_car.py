#!/usr/bin/env python3
"""Writes the shipped example's data: a car's voice assistant, an utterance in, a JSON action out.

Every wording below was written by hand and is a *group*: wordings marked for the test set never occur in training, so
the held-out set asks for the same actions in words that were never trained on.

usage: make_car.py OUTPUT_DIR [--train 400] [--test 150] [--seed 1]      (standard library only)
"""
import argparse
import json
import os
import random
import re

ONES = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
        "eighteen nineteen").split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
GENRES = ["jazz", "rock", "pop", "folk", "blues", "country", "soul", "reggae"]
BANDS = ["the Blue Foxes", "Silver Lake", "the Night Riders", "Paper Boats", "Golden Hour", "Red Balloon", "Little River"]
PEOPLE = ["Anna", "Tom", "Maria", "Ben", "Lucy", "Paul", "Emma", "Max", "Nora", "Leo", "Grace", "Sam", "Clara", "Jack"]
PLACES = ["market", "park", "library", "station", "school", "bakery", "museum", "hospital", "cinema", "beach", "airport", "hotel"]
COLOURS = ["red", "blue", "green", "yellow", "white", "orange", "purple", "pink"]
MODES = ["sport", "comfort", "eco"]
ZONES = ["driver", "passenger"]
MESSAGES = ["I am late", "I am on my way", "please wait for me", "I will call you later", "see you soon"]


def words(n):
    if n < 20:
        return ONES[n]
    return "one hundred" if n == 100 else TENS[n // 10] + ("-" + ONES[n % 10] if n % 10 else "")


def number(low, high):
    """A slot: its value, and how it may be said."""
    return lambda r: (lambda n: (n, r.choice((str(n), words(n)))))(r.randint(low, high))


def choice(values):
    return lambda r: (lambda v: (v, v))(r.choice(values))


def station(r):
    value = f"{r.randint(88, 107)}.{r.randint(0, 9)}"
    return float(value), value


# name: (action template, slots, wordings to train, wordings to test). "@slot" in the action is the slot's value.
INTENTS = {
    "set_temperature": ({"action": "set_temperature", "zone": "@zone", "value": "@n"}, {"zone": choice(ZONES), "n": number(16, 28)}, [
        "set the temperature on the {zone} side to {n} degrees", "{n} degrees for the {zone}", "I want {n} degrees on the {zone} side",
        "make it {n} degrees for the {zone}", "change the {zone} temperature to {n}", "the {zone} side should have {n} degrees",
        "put the {zone} zone at {n} degrees"], ["can we have {n} degrees on the {zone} side", "heat the {zone} side to {n} degrees", "temperature {zone} {n}",
         "the {zone} would like {n} degrees"]),
    "warmer": ({"action": "adjust_temperature", "direction": "up"}, {}, [
        "I am freezing", "it is too cold in here", "I am cold", "make it warmer", "a bit warmer please", "turn the heat up", "my hands are cold",
        "it feels like winter in here"], ["it is freezing in the car", "could it be a little warmer", "I feel cold"]),
    "cooler": ({"action": "adjust_temperature", "direction": "down"}, {}, [
        "it is too hot in here", "I am too warm", "make it cooler", "a bit cooler please", "turn the heat down", "it feels like summer in here",
        "I am sweating", "the car is too warm"], ["it is very hot in the car", "could it be a little cooler", "I feel hot"]),
    "fan": ({"action": "set_fan", "level": "@n"}, {"n": number(1, 6)}, [
        "set the fan to level {n}", "fan level {n}", "put the fan on {n}", "I want the fan at {n}", "ventilation to level {n}", "change the fan to {n}"],
        ["turn the fan to level {n}", "the fan should run at {n}"]),
    "defrost_on": ({"action": "set_defrost", "on": True}, {}, [
        "clear the windshield", "I cannot see through the windshield", "turn on the defroster", "the window is foggy", "there is ice on the windshield",
        "defrost the front window"], ["the windshield is foggy", "defrost the windshield", "there is ice on the front window"]),
    "seat_heat_on": ({"action": "set_seat_heating", "seat": "@zone", "on": True}, {"zone": choice(ZONES)}, [
        "heat the {zone} seat", "turn on the seat heating for the {zone}", "the {zone} seat is cold", "warm up the {zone} seat",
        "seat heating {zone} on", "I want a warm {zone} seat"], ["switch the {zone} seat heating on", "heat the seat of the {zone}", "the seat of the {zone} is cold"]),
    "seat_heat_off": ({"action": "set_seat_heating", "seat": "@zone", "on": False}, {"zone": choice(ZONES)}, [
        "turn off the seat heating for the {zone}", "the {zone} seat is too hot", "stop heating the {zone} seat", "seat heating {zone} off",
        "no more heat for the {zone} seat"], ["switch the {zone} seat heating off", "the {zone} seat is too warm", "stop heating the seat of the {zone}"]),
    "window_open": ({"action": "set_window", "side": "@zone", "open": True}, {"zone": choice(ZONES)}, [
        "open the {zone} window", "roll down the window on the {zone} side", "I need fresh air on the {zone} side", "window down for the {zone}",
        "let some air in on the {zone} side", "lower the {zone} window"], ["open the window on the {zone} side", "the {zone} window should be open", "the {zone} needs fresh air"]),
    "window_close": ({"action": "set_window", "side": "@zone", "open": False}, {"zone": choice(ZONES)}, [
        "close the {zone} window", "roll up the window on the {zone} side", "window up for the {zone}", "shut the {zone} window",
        "there is too much wind on the {zone} side"], ["close the window on the {zone} side", "the {zone} window should be closed", "too much air on the {zone} side"]),
    "sunroof": ({"action": "set_sunroof", "open": "@open"}, {"open": lambda r: r.choice(((True, "open"), (False, "close")))}, [
        "{open} the sunroof", "please {open} the roof window", "{open} the roof for me", "I want to {open} the sunroof", "can you {open} the glass roof"],
        ["would you {open} the sunroof for us", "it is time to {open} the roof"]),
    "lights": ({"action": "set_headlights", "on": "@on"}, {"on": lambda r: r.choice(((True, "on"), (False, "off")))}, [
        "turn {on} the headlights", "lights {on}", "switch the headlights {on}", "put the lights {on} please", "headlights {on} now"],
        ["switch {on} the lights", "turn the headlights {on}", "the headlights should be {on}"]),
    "wipers": ({"action": "set_wipers", "speed": "@speed"}, {"speed": choice(["slow", "fast", "off"])}, [
        "wipers {speed}", "set the wipers to {speed}", "put the wipers on {speed}", "change the wipers to {speed}", "wiper speed {speed}"],
        ["turn the wipers to {speed}", "the wipers should be {speed}"]),
    "navigate": ({"action": "navigate", "to": "@place"}, {"place": choice(PLACES)}, [
        "take me to the {place}", "drive to the {place}", "show me the way to the {place}", "navigate to the {place}", "I want to go to the {place}",
        "find a route to the {place}", "how do I get to the {place}", "we are going to the {place}"],
        ["bring me to the {place}", "I need to get to the {place}", "what is the way to the {place}", "next stop the {place}"]),
    "navigate_home": ({"action": "navigate", "to": "home"}, {}, [
        "take me home", "drive home", "I want to go home", "show me the way home", "navigate home", "let us go home"],
        ["bring me home", "how do I get home"]),
    "avoid_tolls": ({"action": "set_route_option", "avoid": "tolls"}, {}, [
        "avoid toll roads", "no tolls please", "find a way without tolls", "I do not want to pay tolls", "take a route without toll roads"],
        ["a route without tolls", "do not use toll roads", "stay away from toll roads"]),
    "radio": ({"action": "play_radio", "frequency": "@f"}, {"f": station}, [
        "play the station at {f}", "radio {f}", "tune the radio to {f}", "put on {f} FM", "I want to hear the station at {f}", "switch the radio to {f}"],
        ["turn the radio to {f}", "let me listen to {f}"]),
    "play_genre": ({"action": "play_music", "genre": "@g"}, {"g": choice(GENRES)}, [
        "play some {g}", "I want to listen to {g}", "put on some {g}", "play {g} music", "I am in the mood for {g}", "how about some {g}"],
        ["let me hear some {g}", "I would like to listen to {g}", "start some {g} music", "I would like {g} music"]),
    "play_artist": ({"action": "play_music", "artist": "@b"}, {"b": choice(BANDS)}, [
        "play {b}", "I want to hear {b}", "put on something by {b}", "play a song by {b}", "play music by {b}", "can we listen to {b}"],
        ["let me hear {b}", "I would like to listen to {b}", "start a song by {b}", "I would like something by {b}"]),
    "volume_up": ({"action": "adjust_volume", "direction": "up"}, {}, [
        "louder", "turn the volume up", "I cannot hear the music", "make it louder", "more volume please", "turn it up"],
        ["could it be a little louder", "the music is too quiet", "turn the music up"]),
    "volume_down": ({"action": "adjust_volume", "direction": "down"}, {}, [
        "quieter", "turn the volume down", "the music is too loud", "make it quieter", "less volume please", "turn it down"],
        ["could it be a little quieter", "it is too loud", "turn the music down"]),
    "call": ({"action": "call", "contact": "@p"}, {"p": choice(PEOPLE)}, [
        "call {p}", "phone {p}", "I want to talk to {p}", "give {p} a call", "make a call to {p}", "ring {p} for me"],
        ["I need to talk to {p}", "start a call with {p}", "get {p} on the phone"]),
    "message": ({"action": "send_message", "contact": "@p", "text": "@m"}, {"p": choice(PEOPLE), "m": choice(MESSAGES)}, [
        "send a message to {p}: {m}", "tell {p}: {m}", "write to {p}: {m}", "message to {p}: {m}", "text {p}: {m}"],
        ["send {p} a message: {m}", "let {p} know: {m}"]),
    "charge": ({"action": "set_charge_limit", "percent": "@n"}, {"n": lambda r: (lambda n: (n, r.choice((str(n), words(n)))))(r.randrange(50, 101, 10))}, [
        "charge the battery to {n} percent", "charge to {n} percent", "set the charge limit to {n} percent", "stop charging at {n} percent",
        "I need {n} percent in the battery"], ["the battery should charge to {n} percent", "charge the car to {n} percent"]),
    "mode": ({"action": "set_drive_mode", "mode": "@mode"}, {"mode": choice(MODES)}, [
        "switch to {mode} mode", "{mode} mode please", "drive in {mode} mode", "I want {mode} mode", "change the mode to {mode}", "set the car to {mode}"],
        ["turn on {mode} mode", "put the car in {mode} mode"]),
    "cruise": ({"action": "set_cruise_control", "speed": "@n"}, {"n": lambda r: (lambda n: (n, r.choice((str(n), words(n)))))(r.randrange(30, 101, 10))}, [
        "set cruise control to {n}", "cruise at {n} kilometres per hour", "keep the speed at {n}", "hold {n} kilometres per hour", "drive at {n} from now on"],
        ["cruise control at {n}", "keep {n} kilometres per hour"]),
    "mirrors": ({"action": "fold_mirrors"}, {}, [
        "fold the mirrors", "fold in the mirrors please", "the mirrors must go in", "put the mirrors in", "close the mirrors"],
        ["the mirrors should be folded", "fold the mirrors for parking"]),
    "lock": ({"action": "set_lock", "locked": "@l"}, {"l": lambda r: r.choice(((True, "lock"), (False, "unlock")))}, [
        "{l} the doors", "{l} the car", "please {l} all doors", "{l} everything", "can you {l} the car"], ["would you {l} the car doors", "it is time to {l} the car"]),
    "ambient": ({"action": "set_ambient_light", "colour": "@c"}, {"c": choice(COLOURS)}, [
        "make the light {c}", "set the ambient light to {c}", "ambient light {c}", "I want {c} light", "change the light to {c}", "give me some {c} light"],
        ["turn the ambient light {c}", "the light should be {c}", "I would like {c} light"]),
    "range": ({"action": "query", "what": "range"}, {}, [
        "how far can I drive", "what is my range", "how far will the battery last", "how many kilometres are left", "tell me the range"],
        ["how far can we go", "what range is left", "how many kilometres can I drive"]),
    "tyres": ({"action": "query", "what": "tyre_pressure"}, {}, [
        "check the tyres", "what is the tyre pressure", "is there enough air in the tyres", "how are the tyres", "tell me the tyre pressure"],
        ["are the tyres fine", "check the tyre pressure", "do the tyres need air"]),
    "weather": ({"action": "query", "what": "weather"}, {}, [
        "what is the weather like", "will it rain today", "tell me the weather", "how is the weather", "is it sunny outside"],
        ["will it be sunny today", "what will the weather be"]),
}
BEFORE = ["", "", "", "", "please ", "hey car, ", "could you please ", "now "]
AFTER = ["", "", "", "", " please", " now", " thank you"]


def fill(action, values):
    return {k: values[v[1:]] if isinstance(v, str) and v.startswith("@") else v for k, v in action.items()}


def polite(r, text):
    """Politeness around a wording that has none of its own; commands only."""
    if "please" in text or text.startswith(("I ", "it ", "the ", "what", "how", "is ", "are ", "will", "can", "could", "my ", "there", "we ",
                                             "do the ", "would ", "next stop", "too much")):
        return text
    before, after = r.choice(BEFORE), r.choice(AFTER)
    if ":" in text or ("please" in before and "please" in after):  # what follows a colon is the message
        after = ""
    return before + text + after


def example(r, intent, wording):
    action, slots, _, _ = INTENTS[intent]
    drawn = {name: slot(r) for name, slot in slots.items()}
    text = wording.format(**{name: said for name, (_, said) in drawn.items()})
    text = polite(r, text)
    if r.random() < 0.5:
        text = text[0].upper() + text[1:]
    answer = json.dumps(fill(action, {name: value for name, (value, _) in drawn.items()}), separators=(",", ":"))
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": answer}],
            "group": f"{intent}/{wording}"}


def without_politeness(text):
    return re.sub(r"\b(please|now|thank you|hey car|could you|can you)\b|,", "", text.lower()).split()


def draw(r, n, column):
    """n different examples, the wordings in turn."""
    wordings = [(intent, w) for intent, row in INTENTS.items() for w in row[column]]
    seen, out = set(), []
    while len(out) < n:
        r.shuffle(wordings)
        for intent, w in wordings:
            e = example(r, intent, w)
            if e["messages"][0]["content"] not in seen and len(out) < n:
                seen.add(e["messages"][0]["content"])
                out.append(e)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output_dir")
    parser.add_argument("--train", type=int, default=400)
    parser.add_argument("--test", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    r = random.Random(args.seed)
    train, test = draw(r, args.train, 2), draw(r, args.test, 3)
    said = [without_politeness(e["messages"][0]["content"]) for e in train]
    leaks = [e["group"] for e in test if without_politeness(e["messages"][0]["content"]) in said]
    if leaks:
        raise SystemExit(f"wordings of the test set that training has too, politeness aside: {leaks}")
    os.makedirs(args.output_dir, exist_ok=True)
    for name, records in (("train", train), ("test", test)):
        with open(os.path.join(args.output_dir, name + ".jsonl"), "w", encoding="utf-8") as f:
            f.writelines(json.dumps(record) + "\n" for record in records)


if __name__ == "__main__":
    main()
