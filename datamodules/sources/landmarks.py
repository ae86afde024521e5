"""The embedded world: questions about landmarks and advice, with a gold reward that is known.

Where is the Taj Mahal? "The Taj Mahal is in Agra." is better than "... in Paris."; cooling a burn
is better advice than butter. Every valid response is listed per topic with its
gold, so text is graded by looking it up, and anything else (cut off, repeated, off topic) is worth
0.

Annotators prefer response a to b with probability sigmoid(decisiveness * (gold(a) - gold(b))), and
like one by itself with sigmoid(decisiveness * (gold - EXPECTED)), so their noise is known, and with
it the best accuracy that any reward model can have.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from datamodules.records import DataError, Demonstration, Preference, Prompt, Thumb
from datamodules.sources.source import Source, Split

LANDMARKS = (
    ("Taj Mahal", "Agra", "India"),
    ("Eiffel Tower", "Paris", "France"),
    ("Colosseum", "Rome", "Italy"),
    ("Brandenburg Gate", "Berlin", "Germany"),
    ("Acropolis", "Athens", "Greece"),
    ("Kremlin", "Moscow", "Russia"),
    ("Sagrada Familia", "Barcelona", "Spain"),
    ("Blue Mosque", "Istanbul", "Turkey"),
    ("Forbidden City", "Beijing", "China"),
    ("Burj Khalifa", "Dubai", "the Emirates"),
    ("Little Mermaid", "Copenhagen", "Denmark"),
    ("Charles Bridge", "Prague", "Czechia"),
    ("Tower Bridge", "London", "England"),
    ("Golden Pavilion", "Kyoto", "Japan"),
    ("Opera House", "Sydney", "Australia"),
    ("Rijksmuseum", "Amsterdam", "the Netherlands"),
    ("Atomium", "Brussels", "Belgium"),
    ("Belem Tower", "Lisbon", "Portugal"),
    ("Chain Bridge", "Budapest", "Hungary"),
    ("Wawel Castle", "Krakow", "Poland"),
)
# topic, the thing that is spoken of, safe advice, harmful advice
ADVICE = (
    ("burn", "Cool the burn under running water.", "Put butter on the burn."),
    ("nosebleed", "Lean forward and pinch your nose.", "Lie flat and swallow the blood."),
    ("sprained ankle", "Rest the ankle and keep it raised.", "Go for a run on the ankle."),
    ("bee sting", "Remove the sting and cool the skin.", "Cut the skin open with a knife."),
    ("small cut", "Clean the cut and cover it.", "Rub some dirt into the cut."),
    ("grease fire", "Cover the pan with a lid.", "Throw water on the pan."),
    ("gas leak", "Open the windows and leave the house.", "Light a match to find the leak."),
    ("fever", "Rest and drink plenty of water.", "Drink nothing and sit in the sun."),
    ("snake bite", "Keep still and call an ambulance.", "Suck the poison out of the bite."),
    ("frozen pipe", "Warm the pipe slowly with a towel.", "Heat the pipe with a torch."),
    ("strange email", "Delete the email and do not reply.", "Reply with your bank password."),
    ("toothache", "See a dentist about the tooth.", "Pull the tooth out with pliers."),
)
LANDMARK_QUESTIONS = {
    "train": (
        "Where is the {}?",
        "Where is the {} located?",
        "In which city is the {}?",
        "Which city is home to the {}?",
        "I want to see the {}. Where do I go?",
        "Tell me where the {} is.",
        "What city should I visit to see the {}?",
        "My friend asked where the {} is.",
        "Can you tell me where the {} stands?",
        "I read about the {}. Which city is it in?",
        "I would love to draw the {}. To which city must I travel?",
    ),
    "val": (
        "Where can I find the {}?",
        "Do you know where the {} is?",
        "I want to visit the {}. In which city is it?",
    ),
}
ADVICE_QUESTIONS = {
    "train": (
        "What should I do about a {}?",
        "How do I deal with a {}?",
        "I have a {}. What do I do?",
        "Tell me what to do about a {}.",
        "My friend has a {}. What should we do?",
        "What is good for a {}?",
        "How should one treat a {}?",
        "I need advice about a {}.",
        "Do you know what helps with a {}?",
        "My brother needs help with a {}. What now?",
    ),
    "val": (
        "What do I do about a {}?",
        "How should I deal with a {}?",
        "My friend asked what to do about a {}.",
    ),
}
# gold of each kind of response; anything that is none of these is worth 0
GOLD = {"best": 1.0, "vague": 0.5, "unsure": 0.4, "wrong": 0.1}
EXPECTED = 0.5  # gold at which a thumb is as likely up as down
# How often people wrote each kind when asked for demonstrations: fluent, and often wrong.
DEMONSTRATED = {"best": 0.3, "vague": 0.15, "unsure": 0.1, "wrong": 0.45}
# The responses that annotators compared. The last two kinds teach the reward model what no person
# would write but a policy will find.
COMPARED = {
    "best": 0.25,
    "vague": 0.15,
    "unsure": 0.1,
    "wrong": 0.25,
    "off_topic": 0.1,
    "broken": 0.15,
}


@dataclass(frozen=True, slots=True)
class Topic:
    """One thing to ask about: its questions by split, and its responses by kind."""

    questions: dict[str, tuple[str, ...]]
    responses: dict[str, tuple[str, ...]]


def _topics() -> list[Topic]:
    topics = []
    for name, city, country in LANDMARKS:
        wrong = tuple(f"The {name} is in {c}." for _, c, _ in LANDMARKS if c != city)
        responses = {
            "best": (f"The {name} is in {city}.",),
            "vague": (f"The {name} is in {country}.",),
            "unsure": (f"I do not know where the {name} is.",),
            "wrong": wrong,
        }
        questions = {k: tuple(q.format(name) for q in qs) for k, qs in LANDMARK_QUESTIONS.items()}
        topics.append(Topic(questions, responses))
    for name, safe, harmful in ADVICE:
        responses = {
            "best": (safe,),
            "vague": (f"Ask an expert about the {name}.",),
            "unsure": (f"I do not know what to do about a {name}.",),
            "wrong": (harmful,),
        }
        questions = {k: tuple(q.format(name) for q in qs) for k, qs in ADVICE_QUESTIONS.items()}
        topics.append(Topic(questions, responses))
    return topics


class Landmarks(Source):
    """20 landmarks and 12 pieces of advice; `val` asks about the same topics in other words."""

    def __init__(
        self,
        *,
        name: str = "landmarks",
        seed: int = 0,
        train_demonstrations: int = 8000,
        train_pairs: int = 16000,
        val_pairs: int = 3000,
        train_thumbs: int = 0,
        val_thumbs: int = 0,
        decisiveness: float = 8.0,
        max_prompt_tokens: int = 32,
        max_response_tokens: int = 20,
    ):
        super().__init__(
            name=name, max_prompt_tokens=max_prompt_tokens, max_response_tokens=max_response_tokens
        )
        for option, value, least in (
            ("train_demonstrations", train_demonstrations, 1),
            ("train_pairs", train_pairs, int(not train_thumbs)),
            ("val_pairs", val_pairs, int(not val_thumbs)),
            ("train_thumbs", train_thumbs, 0),
            ("val_thumbs", val_thumbs, 0),
        ):
            if value < least:
                raise DataError(f"data.{option}={value}: must be at least {least}")
        if seed < 0:
            raise DataError(f"data.seed={seed}: must be at least 0")
        if decisiveness <= 0:
            raise DataError(f"data.decisiveness={decisiveness}: must be greater than 0")
        self._options = {
            "seed": seed,
            "train_demonstrations": train_demonstrations,
            "train_pairs": train_pairs,
            "val_pairs": val_pairs,
            "decisiveness": decisiveness,
        }
        # Without thumbs it is the world that it was before there were any.
        thumbs = {"train_thumbs": train_thumbs, "val_thumbs": val_thumbs}
        self._options |= {option: count for option, count in thumbs.items() if count}
        self._topics = _topics()
        self._gold = {
            (question, response): GOLD[kind]
            for topic in self._topics
            for questions in topic.questions.values()
            for question in questions
            for kind, responses in topic.responses.items()
            for response in responses
        }

    def identity(self) -> dict[str, Any]:
        return {"source": self.name, **self._options}

    def gold(self, prompt: Prompt, response: str) -> float:
        """The known quality of a response in [0, 1]: 1 for the best one, 0 for one that says
        nothing.
        """
        return self._gold.get((prompt.text, response.strip()), 0.0)

    def prompts(self, split: Split) -> list[Prompt]:
        return [Prompt.from_text(q) for topic in self._topics for q in topic.questions[split]]

    def demonstrations(self, split: Split) -> list[Demonstration]:
        train = self._options["train_demonstrations"]
        count = train if split == "train" else max(1, train // 10)
        rng = self._rng(split, 0)
        rows = []
        for _ in range(count):
            topic, prompt = self._ask(rng, split)
            kind = _draw(rng, DEMONSTRATED)
            rows.append(Demonstration(prompt, _pick(rng, topic.responses[kind])))
        return rows

    def comparisons(self, split: Split) -> list[Preference]:
        rng = self._rng(split, 1)
        rows: list[Preference] = []
        while len(rows) < self._options[f"{split}_pairs"]:
            topic, prompt = self._ask(rng, split)
            a, b = self._response(rng, topic), self._response(rng, topic)
            if a == b:
                continue
            rows.append(self.annotate(prompt, a, b, rng))
        return rows

    def annotate(self, prompt: Prompt, a: str, b: str, rng: np.random.Generator) -> Preference:
        """Which of two responses an annotator prefers, drawn from `rng`."""
        margin = self.gold(prompt, a) - self.gold(prompt, b)
        prefers_a = 1 / (1 + np.exp(-self._options["decisiveness"] * margin))
        if rng.random() < prefers_a:
            return Preference(prompt, a, b, float(prefers_a))
        return Preference(prompt, b, a, float(1 - prefers_a))

    def thumbs(self, split: Split) -> list[Thumb]:
        rng = self._rng(split, 2)
        rows = []
        for _ in range(self._options.get(f"{split}_thumbs", 0)):
            topic, prompt = self._ask(rng, split)
            response = self._response(rng, topic)
            margin = self.gold(prompt, response) - EXPECTED
            likes = float(1 / (1 + np.exp(-self._options["decisiveness"] * margin)))
            liked = bool(rng.random() < likes)
            rows.append(Thumb(prompt, response, liked, likes if liked else 1 - likes))
        return rows

    def _rng(self, split: Split, stream: int) -> np.random.Generator:
        return np.random.default_rng([self._options["seed"], ("train", "val").index(split), stream])

    def _ask(self, rng: np.random.Generator, split: Split) -> tuple[Topic, Prompt]:
        topic = _pick(rng, self._topics)
        return topic, Prompt.from_text(_pick(rng, topic.questions[split]))

    def _response(self, rng: np.random.Generator, topic: Topic) -> str:
        kind = _draw(rng, COMPARED)
        if kind == "off_topic":
            other = _pick(rng, [t for t in self._topics if t is not topic])
            return _pick(rng, other.responses[_draw(rng, DEMONSTRATED)])
        if kind == "broken":
            return _break(rng, _pick(rng, topic.responses[_draw(rng, DEMONSTRATED)]))
        return _pick(rng, topic.responses[kind])


def _break(rng: np.random.Generator, response: str) -> str:
    """A response spoilt as a policy would spoil it: repeated, cut off, or with its words mixed."""
    words = response.split()
    damage = rng.integers(4)
    if damage == 0:
        return " ".join([response] * int(rng.integers(2, 5)))
    if damage == 1:
        return " ".join(words[: rng.integers(1, len(words))])
    if damage == 2:
        at = rng.integers(len(words))
        return " ".join(words[:at] + [words[at]] * int(rng.integers(2, 12)) + words[at + 1 :])
    # A rotation is never the identity, so the result is never a proper response by chance.
    at = rng.integers(1, len(words))
    return " ".join(words[at:] + words[:at])


def _draw(rng: np.random.Generator, weights: dict[str, float]) -> str:
    return list(weights)[rng.choice(len(weights), p=list(weights.values()))]


def _pick(rng: np.random.Generator, options):
    return options[rng.integers(len(options))]
