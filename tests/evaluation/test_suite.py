import json

import numpy as np
import pytest

from keras_siamim.evaluation import suite
from keras_siamim.evaluation.features import Features
from tests.evaluation.test_knn import clusters


def features(seed, images):
    values, labels = clusters(images, seed, width=8)
    return Features(values[:, ::-1].copy(), values, values[:, ::-1].copy(), labels)


TRAIN, TEST = features(1, 200), features(2, 60)


def test_every_protocol_by_name_gives_the_table(tmp_path):
    names = ("knn", "linear", "few_shot", "health")
    rows = {"mine": [r for name in names for r in suite.run_protocol(name, TRAIN, TEST)]}
    rows["other"] = rows["mine"][:1]

    lines = suite.markdown_table(rows).splitlines()
    suite.write_report(tmp_path, {"data": "clusters"}, rows)

    columns = "k-NN (k=20) | linear (exact) | few-shot 1 % | few-shot 10 % | rank | spread | uniformity"
    assert lines[0] == f"| representation | {columns} |"
    assert lines[3].count("–") == 6
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["data"] == "clusters"
    assert written["rows"]["mine"][0]["numbers"] == rows["mine"][0].numbers
    assert (tmp_path / "evaluation.md").read_text().splitlines() == lines
    assert not list(tmp_path.glob(".writing-*"))


def test_pooling_is_the_protocols_own_unless_given():
    def accuracy(name, **settings):
        return suite.run_protocol(name, TRAIN, TEST, **settings)[0].numbers

    one_shot = {"shots": [{"per_class": 3}]}
    assert accuracy("few_shot", **one_shot) == accuracy("few_shot", pooling="token", **one_shot)
    assert accuracy("health") == accuracy("health", pooling="mean")
    narrow = TEST._replace(token=np.ones_like(TEST.token))
    assert suite.run_protocol("health", TRAIN, narrow, pooling="token")[0].numbers["channel_spread"] < 1e-6


def test_unknown_names_and_shots_are_refused():
    with pytest.raises(ValueError, match="`name` must be one of knn, linear"):
        suite.run_protocol("nearest", TRAIN, TEST)
    with pytest.raises(ValueError, match="`shots` must be percentages"):
        suite.parse_shots("1%,few")
