import dataclasses
import json
import shutil
from itertools import product
from pathlib import Path

import pytest

from tests.archive.encoded_folders import MODELS, Small
from zsfuse_ray.archive.describe import is_model
from zsfuse_ray.archive.passes import Computed, Pass, ToEncode
from zsfuse_ray.archive.wanted import (
    embed_digest,
    encoding_options,
    identity,
    recorded_identity,
    repeats_of_table,
    repetitions,
    requested,
    score_digest,
    to_encode,
    with_normalise,
)
from zsfuse_ray.config.embed import EmbedConfig
from zsfuse_ray.config.label import LABELLING
from zsfuse_ray.config.options import build, resolved
from zsfuse_ray.config.score import ENCODING, OPERATIONAL, ScoreConfig
from zsfuse_ray.errors import InputError
from zsfuse_ray.models.catalog import ModelSpec, parse_spec
from zsfuse_ray.models.checkpoints.find import WEIGHTS

UNTRAINED = {"alm": "clap:untrained", "specialist": "classifier:untrained"}
NEEDED = {"input": "demo", "output": "out", **UNTRAINED}
CONFIG = ScoreConfig(**NEEDED)
IDENTITIES = {"alm": "dual:1", "specialist": "classifier:2"}
# Another valid value of each option except models and inputs.
OTHER = {
    **{"labels": ("sad", "happy"), "templates": ("a {} voice",), "words": 2, "text_repeats": (1, 2)},
    **{"separator": ", ", "ensemble": "logit", "temperature": 2.0, "fusion": "loglinear", "weight": 0.25},
    **{
        "unsure_below": 0.5,
        "specialist_temperature": 0.5,
        "fused_temperature": 2.0,
        "normalise": "recording",
        "transcripts": "folder",
        "prior": "uniform",
        "prior_strength": 0.5,
    },
    **{"output": "other", "overwrite": True, "ray_address": "auto", "pools": "separate", "encoders": (1, 2)},
    **{"gpus_per_encoder": 0.0, "cpus_per_encoder": 2.0, "batch_s": 7.0, "max_reject_rate": 0.5},
    **{
        "prune": True,
        "keep_encoded": False,
        "dashboard": True,
        "allow_hosts": ("s3://b",),
        "dry_run": True,
        "limit_hours": 2.0,
    },
    **{"vad": "none", "min_segment_s": 1.0, "max_segment_s": 8.0, "vad_threshold": 0.25, "long": "crop"},
    **{"crop": "seeded", "precision": "float32", "channels": "split"},
}


# What an option has no effect without.
NEEDS = {"prior_strength": {"prior": "uniform"}}


def changed(name: str, config: ScoreConfig = CONFIG) -> ScoreConfig:
    assert getattr(config, name) != OTHER[name]
    return dataclasses.replace(config, **{name: OTHER[name]})


def digest(config: ScoreConfig = CONFIG, models=IDENTITIES, source: str = "", increments: int = 1) -> str:
    return score_digest(config, models, increments, source)


@pytest.mark.parametrize("name", LABELLING)
def test_every_option_of_labelling_changes_the_digest(name: str) -> None:
    usual = dataclasses.replace(CONFIG, **NEEDS.get(name, {}))
    assert digest(changed(name, usual)) != digest(usual)


@pytest.mark.parametrize("name", sorted(OPERATIONAL))
def test_operational_options_do_not_change_the_digest(name: str) -> None:
    assert digest(changed(name)) == digest()
    assert encoding_options(changed(name)) == encoding_options(CONFIG)


@pytest.mark.parametrize("name", ENCODING)
def test_every_option_of_encoding_changes_the_record_of_encoded(name: str) -> None:
    assert encoding_options(changed(name)) != encoding_options(CONFIG)


def test_a_limit_changes_the_digest() -> None:
    assert digest(changed("limit_hours")) != digest()
    assert embed_digest({"alm": (1,)}, 2.0) not in (
        embed_digest({"alm": (1,)}),
        embed_digest({"alm": (1,)}, 3.0),
    )


def test_every_option_determines_tables_or_is_operational() -> None:
    """A new option belongs in one of these groups; models, repeats and inputs are handled separately."""
    others = {"speakers", "alm", "specialist", "head", "audio_repeats", "input", "embeddings", "item_s"}
    others.add("limit_hours")
    groups = [set(LABELLING), set(ENCODING), set(OPERATIONAL), others]
    names = {field.name for field in dataclasses.fields(ScoreConfig)}
    assert set().union(*groups) == names
    assert sum(map(len, groups)) == len(names)


def test_models_repeats_and_source_change_the_digest() -> None:
    several = dataclasses.replace(CONFIG, audio_repeats=(1, 2))
    seen = [
        digest(),
        digest(several),
        digest(source="a table"),
        digest(models=IDENTITIES | {"alm": "dual:3"}),
    ]
    seen += [digest(models={"alm": "dual:1"}), digest(models={"specialist": "classifier:2"})]
    assert len(set(seen)) == len(seen)
    assert digest(dataclasses.replace(CONFIG, audio_repeats=(2, 1, 2))) == digest(several)
    alone = {"specialist": "classifier:2"}
    assert digest(several, alone) == digest(CONFIG, alone)  # without an ALM audio repeats have no effect


def test_growth_changes_all_labels_that_depend_on_other_recordings() -> None:
    for normalise, prior in product(("none", "recording", "speaker"), ("none", "uniform")):
        config = dataclasses.replace(CONFIG, normalise=normalise, prior=prior)
        depends = normalise == "speaker" or prior != "none"
        assert (digest(config, increments=2) != digest(config)) == depends


def test_the_digest_depends_on_the_shares_of_a_prior_and_not_on_their_file(tmp_path: Path) -> None:
    digests = []
    for name, happy in (("a.yaml", 0.25), ("b.yaml", 0.25), ("a.yaml", 0.5)):
        (tmp_path / name).write_text(f"happy: {happy}\nsad: {1 - happy}\n")
        prior = str(tmp_path / name)
        digests.append(digest(dataclasses.replace(CONFIG, labels=("happy", "sad"), prior=prior)))
    assert digests[0] == digests[1] != digests[2]


def test_the_digest_of_embed_depends_on_models_and_repeats() -> None:
    assert embed_digest({"alm": (1, 2), "s": ()}) == embed_digest({"s": [], "alm": [2, 1]})
    seen = {embed_digest(w) for w in ({"alm": (1, 2)}, {"alm": (1,)}, {"alm2": (1, 2)}, {})}
    assert len(seen) == 4


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path]:
    """A shipped model in two places."""
    places = tmp_path / "one", tmp_path / "two"
    for place in places:
        shutil.copytree(WEIGHTS / "mini", place)
    return places


def facts_of(spec: ModelSpec) -> dict:
    revision = identity(spec).partition(":")[2]
    return {"model": str(spec), "revision": revision}


def test_a_model_is_identified_by_its_weights(copies: tuple[Path, Path]) -> None:
    one, two = (ModelSpec("pooled-alm", str(place)) for place in copies)
    assert identity(one) == identity(two)
    facts = facts_of(one)
    assert recorded_identity(facts) == identity(two)
    assert is_model(two, facts)
    assert not is_model(ModelSpec("clap", str(copies[1])), facts)
    config = json.loads((copies[1] / "config.json").read_text())
    (copies[1] / "config.json").write_text(json.dumps(config | {"another": 1}))
    assert not is_model(two, facts)
    assert identity(one) != identity(two)


def test_an_untrained_model_is_identified_by_its_name() -> None:
    spec = parse_spec("clap:untrained", "alm")
    assert identity(spec) == recorded_identity(MODELS["alm"]) == "clap:untrained"
    assert is_model(spec, MODELS["alm"])
    assert not is_model(parse_spec("dual:untrained", "alm"), MODELS["alm"])
    with pytest.raises(InputError):
        identity(ModelSpec("dual", "/no/such/folder"))


def test_names_in_encoded_are_reused_by_revision(copies: tuple[Path, Path]) -> None:
    one = ModelSpec("dual", str(copies[0]))
    there = {"alm": MODELS["alm"], "alm2": facts_of(one), "specialist": MODELS["specialist"]}
    config = dataclasses.replace(CONFIG, alm=f"dual:{copies[1]}", audio_repeats=(1, 3))
    spec = ModelSpec("dual", str(copies[1]))
    assert requested(config, there) == {
        "alm2": ToEncode(spec, (1, 3)),
        "specialist": ToEncode(parse_spec("classifier:untrained", "specialist")),
    }
    assert list(requested(config, {})) == ["alm", "specialist"]
    assert list(requested(config, {"alm": MODELS["alm"]})) == ["alm2", "specialist"]
    several = EmbedConfig(
        **{**NEEDED, "alm": f"dual:{copies[1]},clap:untrained,dual:untrained", "specialist": "none"}
    )
    assert list(requested(several, there)) == ["alm2", "alm", "alm3"]
    assert [str(wanted.spec) for wanted in requested(several, there).values()] == several.alm.split(",")
    twice = EmbedConfig(**{**NEEDED, "alm": "clap:untrained,clap:untrained", "specialist": "none"})
    assert list(requested(twice, {"alm": MODELS["alm"]})) == ["alm", "alm2"]


def test_a_pass_computes_what_its_record_lists() -> None:
    models = {key: MODELS[key] for key in ("alm", "specialist")}
    one = Pass("000", (0,), {"alm": Computed((3,), (1, 2)), "specialist": Computed()})
    here = ModelSpec("clap", "another place")
    assert to_encode(one, models, {"alm": here}) == {
        "alm": ToEncode(here, (3,), (1, 2)),
        "specialist": ToEncode(parse_spec("classifier:untrained", "specialist")),
    }


def test_embed_tables_cover_all_that_is_encoded(small: Small) -> None:
    encoded = small.encode(
        {"alm": Computed((1, 2)), "specialist": Computed()}, {"alm": Computed((4,), (1, 2))}
    )
    wanted = {"alm": ToEncode(ModelSpec("clap", "x"), (3, 1)), "alm2": ToEncode(ModelSpec("dual", "y"), (1,))}
    assert repeats_of_table(wanted, encoded) == {"alm": (1, 2, 3, 4), "alm2": (1,), "specialist": ()}
    assert repeats_of_table(wanted, None) == {"alm": (1, 3), "alm2": (1,)}


@pytest.mark.parametrize("crop", ["head", "seeded"])
def test_repetitions_are_counted_for_alms_only(crop: str) -> None:
    config = build(ScoreConfig, resolved(CONFIG) | {"crop": crop})
    found = repetitions(config, {"alm": [1, 2], "specialist": []}, MODELS)
    assert list(found) == ["alm"]
    one = found["alm"]
    assert (one.audio_repeats, one.sample_rate, one.window, one.fill, one.seeded) == (
        (1, 2),
        16_000,
        32_000,
        "repeat_pad",
        crop == "seeded",
    )


@pytest.mark.parametrize(
    ("normalise", "family", "columns", "expected"),
    [
        ("auto", "pooled", {}, "recording"),
        ("auto", "pooled", {"speaker"}, "speaker"),
        ("auto", "classifier", {"speaker"}, "none"),
        ("auto", "my.module:Class", {"speaker"}, "none"),
        ("auto", None, {"speaker"}, "none"),
        ("none", "pooled", {"speaker"}, "none"),
        ("recording", "classifier", {"speaker"}, "recording"),
        ("speaker", "pooled", {"speaker"}, "speaker"),
    ],
)
def test_how_vectors_are_normalised(normalise, family, columns, expected) -> None:
    config = dataclasses.replace(CONFIG, normalise=normalise)
    found = with_normalise(config, {"specialist": ModelSpec(family, "x")} if family else {}, columns)
    assert found == dataclasses.replace(CONFIG, normalise=expected)


def test_normalising_per_speaker_needs_speakers() -> None:
    config = dataclasses.replace(CONFIG, normalise="speaker")
    with pytest.raises(InputError, match="needs a manifest with a column speaker"):
        with_normalise(config, {"specialist": ModelSpec("pooled", "x")}, {"language"})
