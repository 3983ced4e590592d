import pytest

from counterlens.core.errors import UsageError
from counterlens.core.utils.uri import Uri, parse_uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("timm:resnet18", Uri("timm", "resnet18")),
        ("python:my.module:make", Uri("python", "my.module:make")),
        ("C:\\models\\a.safetensors", Uri("", "C:\\models\\a.safetensors")),
        ("file:C:\\a.safetensors?labels=x", Uri("file", "C:\\a.safetensors", {"labels": "x"})),
        ("file:/why?/a", Uri("file", "/why?/a")),
        ("photo.jpg", Uri("", "photo.jpg")),
    ],
)
def test_parts(text, expected):
    assert parse_uri(text) == expected
    assert str(parse_uri(text)) == text


def test_options_are_decoded_when_read():
    uri = parse_uri("clip:/m?labels=a cat,salt%2C pepper&template=a photo of {}&size=8x16")
    assert uri.names("labels") == ("a cat", "salt, pepper")
    assert uri.text("template") == "a photo of {}"
    assert uri.numbers("size") == (8, 16)
    assert uri.names("nothing") == ()


def test_bad_options_are_named():
    with pytest.raises(UsageError, match="given twice"):
        parse_uri("timm:x?labels=a&labels=b")
    with pytest.raises(UsageError, match="did you mean 'labels'"):
        parse_uri("timm:x?label=a").only("labels", "size")
    with pytest.raises(UsageError, match="not a list of numbers"):
        parse_uri("timm:x?mean=a").numbers("mean")
