"""Charts: each kind by each renderer plots what its answer says."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from renderers import need

from got_jax.errors import GotError
from pipelines import chart_echarts, charts, grids
from pipelines.charts import KINDS, Charts
from pipelines.colours import ink_on
from pipelines.vocabulary import shortened


@pytest.mark.parametrize("renderer", ["matplotlib", "echarts"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_proved(kind, renderer):
    need("node", "matplotlib")
    example = Charts(renderers=((renderer, 1.0),), kinds=(kind,)).example(1, 0)
    assert charts.proof(example) == ""
    chart = json.loads(example.text)
    assert list(chart) == ["title", "source", "x_title", "y_title", "values"]
    name = next(iter(chart["values"]))
    value = chart["values"][name]
    if isinstance(value, dict):
        value[next(iter(value))] *= 2
    else:
        chart["values"][name] = value * 2
    wrong = dataclasses.replace(example, text=charts.as_dict(chart))
    assert charts.proof(wrong) != ""


def test_both_forms_say_the_same():
    need("node", "matplotlib")
    for index in range(12):
        one = Charts(effects=0).example(2, index)
        other = Charts(effects=0, form="html").example(2, index)
        assert one.images == other.images
        assert charts.proof(other) == ""
        chart = json.loads(one.text)
        names, series = charts.series_of(chart)
        rows = grids.from_html(other.text).rows
        assert [row[0].text for row in rows[1:]] == names
        table = [[cell.text for cell in row[1:]] for row in rows[1:]]
        assert table == [[str(part[name]) for part in series.values()] for name in names]


def test_titles_values_and_languages_vary():
    need("node", "matplotlib")
    made = [Charts(renderers=(("echarts", 1.0),)).example(3, index) for index in range(30)]
    assert len({example.text for example in made}) == 30
    assert {example.meta["language"] for example in made} == {"en", "zh"}
    charted = [json.loads(example.text) for example in made]
    assert any(chart["source"] == "None" for chart in charted)
    assert any(chart["source"] != "None" for chart in charted)
    assert np.ptp([len(example.text) for example in made]) > 100


@pytest.mark.parametrize("colour", ["#440154", "#2f4554", (0.05, 0.1, 0.5), (0.2, 0.2, 0.2, 1.0)])
def test_ink_on_dark_colours_is_white(colour):
    assert ink_on(colour) == "white"


@pytest.mark.parametrize("colour", ["#ffd10a", "#b6d634", (1, 1, 1), (0.6, 0.9, 0.9, 1.0)])
def test_ink_on_light_colours_is_dark(colour):
    assert ink_on(colour) == "#111111"


def test_values_inside_bars_and_cells_are_readable():
    styles = np.random.default_rng(1)
    series = {"a": {"x": 1.0, "y": 9.0}, "b": {"x": 4.0, "y": 2.0}}
    stacked = chart_echarts.style(styles, "stacked") | {"kind": "stacked", "palette": 2}
    made = chart_echarts._series("stacked", ["x", "y"], series, stacked, "#eeeeee")
    assert [one["label"]["color"] for one in made] == ["white", "white"]
    cells = chart_echarts._series("heat map", ["x", "y"], series, stacked | {"ramp": 2}, "#333333")[0]["data"]
    assert [cell["label"]["color"] for cell in cells] == ["#111111", "white", "#111111", "#111111"]


@given(st.lists(st.text("abé", min_size=1, max_size=8), min_size=1, max_size=6), st.integers(8, 30))
def test_phrases_are_cut_between_words(words, most):
    text = " ".join(words)
    short = shortened(text, most)
    assert 0 < len(short) <= most
    assert short.split() == words[: len(short.split())]
    assert len(text) > most or short == text


def test_bad_settings_are_refused():
    for settings, says in (
        ({"form": "csv"}, "choose dict or html"),
        ({"renderers": (("excel", 1.0),)}, "renderers is"),
        ({"kinds": ("cake",)}, "kinds is"),
    ):
        with pytest.raises(GotError, match=says):
            Charts(**settings)  # type: ignore[arg-type]
