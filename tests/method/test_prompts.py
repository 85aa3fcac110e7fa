import pytest

from zsfuse_ray.errors import InputError
from zsfuse_ray.method.prompts import TEMPLATES, check_template, prompt_grid, repeat_text


def test_templates_are_valid_and_distinct():
    assert [check_template(template) for template in TEMPLATES] == list(TEMPLATES)
    assert len(set(TEMPLATES)) == len(TEMPLATES) == 17


@pytest.mark.parametrize(
    "template",
    ["", "no place", "{} and {}", "{0}", "{label}", "{{}}", "{} {", "} {}", "}{", "{}" + "x" * 299],
)
def test_invalid_templates_are_errors(template: str):
    with pytest.raises(InputError):
        check_template(template)
    with pytest.raises(InputError):
        prompt_grid(["happy", "sad"], ["{}", template])


def test_check_template_message_is_one_line():
    with pytest.raises(InputError, match="printable") as error:
        check_template("a\n{}\n")
    assert "\n" not in str(error.value)


def test_prompt_grid_is_template_major():
    assert prompt_grid(["happy", "sadness"], ["is {}.", "{}!"], words=2) == [
        ["is happy.", "is sadness."],
        ["is happiness.", "is sad."],
        ["happy!", "sadness!"],
        ["happiness!", "sad!"],
    ]


def test_prompt_grid_cycles_through_few_words():
    column = [row[0] for row in prompt_grid(["frustrated", "happy"], ["{}"], words=5)]
    assert column == ["frustrated", "frustration", "exasperated", "frustrated", "frustration"]
    assert [row[0] for row in prompt_grid(["eerie", "happy"], ["{}"], words=3)] == ["eerie"] * 3


def test_prompt_grid_accepts_any_label():
    assert prompt_grid(["{x}", "100%"], ["a {}"]) == [["a {x}", "a 100%"]]


def test_prompt_grid_invalid_arguments_are_errors():
    with pytest.raises(InputError, match="at least one template"):
        prompt_grid(["happy", "sad"], [])
    with pytest.raises(InputError, match="not 0"):
        prompt_grid(["happy", "sad"], ["{}"], words=0)


def test_repeat_text():
    assert repeat_text("is sad.", 1) == "is sad."
    assert repeat_text("is sad.", 3) == "is sad. is sad. is sad."
    assert repeat_text("sad", 2, separator=", ") == "sad, sad"
    with pytest.raises(InputError, match="not 0"):
        repeat_text("sad", 0)
