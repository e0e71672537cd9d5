"""Slips: the decoder learns to go on after a mistake, since what it wrote so far will not always be right.

Trained on true answers alone, a small model that once wrote a wrong word, or one twice, goes on as its language would.
So some tokens of what it is given are wrong, repeated or left out; what it is to answer next stays the truth.

Source: Nougat (arXiv:2308.13418: tokens of the true answer are replaced at random in training, against repetitions).
Runs, repetitions and omissions are ours: they are what our models get wrong.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from got_jax.data.batches import UNCOUNTED, Sample
from got_jax.data.letters import NOWHERE

LONGEST = 32  # tokens of one slip


def with_slips(sample: Sample, rate: float, rng: np.random.Generator) -> Sample:
    """The sample as a reader who slips would have written it, with the truth as targets.

    Args:
        rate: slips begin at so many of the answer's tokens. Half of them are one token long, the others up to 32.

    A slip puts other tokens of the answer in the place of true ones, says the last tokens again, or leaves some out.
    Inside a repetition several tokens could be called right, so only its last one has a target.
    """
    truth = sample.answer[:-1]  # without the closing mark
    given: list[int] = []
    order = [0]  # what should stand there, as places in the answer
    at = 0  # tokens of the truth that are behind
    while at < len(truth):
        slip = rng.choice(("wrong", "again", "left out")) if rng.random() < rate else ""
        length = int(math.exp(rng.uniform(math.log(2), math.log(LONGEST)))) if slip and rng.random() < 0.5 else 1
        if slip == "again" and given:
            again = given[-length:]
            given += again
            order += [UNCOUNTED] * (len(again) - 1) + [at]
        elif slip == "left out" and at + length < len(truth):
            at += length
        else:
            length = min(length, len(truth) - at)
            start = int(rng.integers(len(truth) - length + 1)) if slip == "wrong" else at
            given += truth[start : start + length]
            order += range(at + 1, at + length + 1)
            at += length
    pick = lambda labels, none: [labels[i] if i != UNCOUNTED else none for i in order]
    targets, places = pick(sample.answer, UNCOUNTED), sample.places and pick(sample.places, NOWHERE)
    return dataclasses.replace(sample, answer=[*given, sample.answer[-1]], targets=targets, places=places)
