"""Charts: each kind by each renderer plots what its answer says."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from renderers import need

from got_jax.errors import GotError
from pipelines import charts, grids
from pipelines.charts import KINDS, Charts


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


def test_bad_settings_are_refused():
    for settings, says in (
        ({"form": "csv"}, "choose dict or html"),
        ({"renderers": (("excel", 1.0),)}, "renderers is"),
        ({"kinds": ("cake",)}, "kinds is"),
    ):
        with pytest.raises(GotError, match=says):
            Charts(**settings)  # type: ignore[arg-type]
