import pytest

from zsfuse_ray.errors import nearest, redact


@pytest.mark.parametrize(
    ("name", "valid", "message"),
    [
        ("weigth", ["weight", "words"], ' (did you mean "weight"?)'),
        ("WEIGHT", ["weight", "words"], ' (did you mean "weight"?)'),
        ("zzz", ["weight", "alm"], " (one of alm, weight)"),
        ("zzz", iter({"b": 1, "a": 2}), " (one of a, b)"),
    ],
)
def test_nearest(name: str, valid: list[str], message: str) -> None:
    assert nearest(name, valid) == message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a b.wav", "s3://bucket/a b.wav"),
        ("https://me:pa@ss@host/a.wav", "https://host/a.wav"),
        (
            "get https://h/a?X-Amz-Credential=AK%2F1&part=2: 403",
            "get https://h/a?X-Amz-Credential=***&part=2: 403",
        ),
        ("https://h/a?sv=2020&sig=a%2Bb%3D&episode=3", "https://h/a?sv=***&sig=***&episode=3"),
        (
            "(https://h/a?api_key=1&access_token=2&Password=3)",
            "(https://h/a?api_key=***&access_token=***&Password=***)",
        ),
        ("mail me@host about /folder/a@b.wav", "mail me@host about /folder/a@b.wav"),
    ],
)
def test_redact(text: str, expected: str) -> None:
    assert redact(text) == expected
