"""Options are refused early, by the error that names them."""

import pytest

from diffexplain_fast.methods.options import Options


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 0),
        ("n_tokens", 0),
        ("images_per_step", -1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("word_pull", -0.1),
        ("noise", float("nan")),
        ("restart_below", 1.5),
        ("stop_probability", 0.0),
        ("n_images", 33),
        ("start", " "),
        ("candidates", []),
        ("candidates", ["boat", ""]),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: wanted .*, got "):
        Options(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iterations", 2.0),
        ("iterations", True),
        ("lr", "0.1"),
        ("prefix", None),
        ("start", 3),
        ("fresh_latents", 1),
        ("candidates", "boat"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=rf"^{name}: wanted .*, got "):
        Options(**{name: value})


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TypeError, match="learning_rate"):
        Options(learning_rate=0.1)
