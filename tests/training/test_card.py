"""Output of a training: the line of an epoch and the model card."""

import yaml

from tests.training.training_support import table_of
from zsfuse_ray.training.card import card
from zsfuse_ray.training.watch import line

EPOCH = {"epoch": 2, "steps": 9, "loss": 1.5, "dev_ua": 0.5, "dev_macro_f1": 0.25, "lr": 1e-3}


def test_the_line_of_an_epoch() -> None:
    message = line(EPOCH | {"seconds": 30.0}, 10)
    assert message == "epoch 2/10  loss 1.5000  dev ua 50.0%  dev macro f1 25.0%  30.0 s  4 min left"
    assert line(EPOCH | {"seconds": 30.0}, 2).endswith("30.0 s  last")
    assert line({"epoch": 2, "step": 40, "resumed": 1.0}, 10) == "resumes from epoch 3/10, step 40"
    assert line({"epoch": 2, "step": 40, "checkpoint_rank": -1.0}, 10) == "checkpoint in epoch 3/10, step 40"


def card_of(**changed: object) -> str:
    given = {
        "about": {
            "family": "classifier",
            "labels": ["angry", "sad"],
            "parameters": 1234,
            "start_licence": "mit",
        },
        "table": table_of(["angry", "sad", "sad"], ["train", "train", "dev"], ["emodb", "own", "own"]),
        "history": [EPOCH | {"epoch": 1}, EPOCH],
        "best": EPOCH,
        "command": "zsfuse train --train 'my clips.csv' --init x",
        "options": {"lr": 1e-3},
        "versions": {"torch": "2"},
        "licences": {"emodb": "free for research"},
        "held_out": {},
    }
    return card(**given | changed)  # pyright: ignore


def test_card_states_the_origin_of_the_weights() -> None:
    text = card_of()
    front, _, body = text.removeprefix("---\n").partition("\n---\n")
    fields = yaml.safe_load(front)
    assert (fields["license"], fields["license_name"]) == ("other", "free for research")
    assert fields["datasets"] == ["emodb", "own"]
    assert body.splitlines()[0].startswith("Trained on emodb (free for research), own (licence not stated)")
    assert "| own | dev | 1 | 1 | sad 1 |" in body
    assert "zsfuse train --train 'my clips.csv' --init x" in body
    assert "Epoch 2 of 2 is saved here: dev_ua 50.0%, dev_macro_f1 25.0%." in body
    assert "parameters: 1,234" in body


def test_without_a_known_corpus_the_licence_is_that_of_the_initial_model() -> None:
    own = table_of(["angry", "sad"], ["train", "dev"], ["own", "own"])
    front = card_of(table=own).removeprefix("---\n").partition("\n---\n")[0]
    fields = yaml.safe_load(front)
    assert fields["license"] == "mit"
    assert "license_name" not in fields


def test_card_without_dev_metrics() -> None:
    without = [{"epoch": epoch, "steps": 9, "loss": 1.5, "lr": 1e-3} for epoch in (1, 2)]
    text = card_of(history=without, best=without[-1])
    assert "The last epoch, 2, is saved here, unmeasured: there were no dev clips." in text
    assert "optimistic" not in text
    assert "score" not in text


def test_card_lists_held_out_speakers() -> None:
    assert "held out" not in card_of()
    names = tuple(f"{number:02}" for number in range(20))
    message = f"Speakers held out of training for dev: {', '.join(names)}."
    assert message in card_of(held_out={"emodb": names})
