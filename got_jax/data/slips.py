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
    targets = [sample.answer[0]]
    at = 0  # tokens of the truth that are behind
    while at < len(truth):
        slip = rng.choice(("wrong", "again", "left out")) if rng.random() < rate else ""
        length = int(math.exp(rng.uniform(math.log(2), math.log(LONGEST)))) if slip and rng.random() < 0.5 else 1
        if slip == "again" and given:
            again = given[-length:]
            given += again
            targets += [UNCOUNTED] * (len(again) - 1) + [sample.answer[at]]
        elif slip == "left out" and at + length < len(truth):
            at += length
        else:
            length = min(length, len(truth) - at)
            start = int(rng.integers(len(truth) - length + 1)) if slip == "wrong" else at
            given += truth[start : start + length]
            targets += sample.answer[at + 1 : at + length + 1]
            at += length
    return dataclasses.replace(sample, answer=[*given, sample.answer[-1]], targets=targets)
