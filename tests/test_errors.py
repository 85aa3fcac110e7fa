import pytest

from zsfuse_ray.errors import nearest, redact, redact_uri


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
        # users: also where a parser sees a bucket or a port
        ("s3://KEY:ab/cd@b/x.wav", "s3://b/x.wav"),
        ("gs://KEY:ab@b", "gs://b"),
        ("s3://KEY:1/cd@b", "s3://b"),
        ("https://me:p/w@host/a.wav failed", "https://host/a.wav failed"),
        ("https://KEY@host/a", "https://host/a"),
        ("'https://me:pw@host:8080/a@b.wav'", "'https://host:8080/a@b.wav'"),
        ("http://localhost:9000/a@b.wav", "http://localhost:9000/a@b.wav"),
        ("s3://bucket/a@b.wav", "s3://bucket/a@b.wav"),
        ("s3://arn:aws:s3:eu-1:123:accesspoint/x/a@b", "s3://arn:aws:s3:eu-1:123:accesspoint/x/a@b"),
        # every value and fragment, but a few plain ones
        ("https://h/a?hdnts=exp~hmac", "https://h/a?hdnts=***"),
        ("https://h/a?code=1&jwt=e.y.z;u=2", "https://h/a?code=***&jwt=***;u=***"),
        ("https://h/a#access_token=x", "https://h/a#access_token=***"),
        ("https://h/a?part=2#t=10,20", "https://h/a?part=2#t=10,20"),
        ("https://h/a?secretalone#and", "https://h/a?***#***"),
        ("https://h/a?id=12&id=0123456789abcdef0123", "https://h/a?id=12&id=***"),
        ("https://h/a?x=***&y=", "https://h/a?x=***&y="),
        ("s3://b/a b#1?.wav?token=x, s3://b/c", "s3://b/a b#1?.wav?token=***, s3://b/c"),
        ("/data/a?b=c#d=e.wav", "/data/a?b=c#d=e.wav"),
        ("mail me@host about /folder/a@b.wav", "mail me@host about /folder/a@b.wav"),
    ],
)
def test_redact(text: str, expected: str) -> None:
    assert redact(text) == expected


@pytest.mark.parametrize(
    ("text", "uri", "expected"),
    [
        ('Invalid bucket name "KEY:ab"', "s3://KEY:ab/cdef@b/x", 'Invalid bucket name "***"'),
        ("signed with cdef/gh+1", "s3://KEY1:cdef%2Fgh+1@b", "signed with ***"),
        ("403 for sig a+b c=", "https://h/a?sig=a%2Bb%20c%3D&part=12345", "403 for sig ***"),
        ("part 12345", "https://h/a?sig=xxxxx&part=12345", "part 12345"),
        ("bad abcd1234", "https://h/a#access_token=abcd1234", "bad ***"),
        ("/a/abcd", "/a/abcd", "/a/abcd"),
    ],
)
def test_redact_removes_the_secrets_of_a_uri_from_any_text(text: str, uri: str, expected: str) -> None:
    assert redact(text, uri) == expected


def test_a_uri_with_spaces_is_redacted_as_a_whole() -> None:
    assert redact_uri("https://me:p w@h/a b?x=1 2#f g") == "https://h/a b?x=***#***"
    assert redact_uri("/a?b=c") == "/a?b=c"
    assert redact_uri("demo:1") == "demo:1"
