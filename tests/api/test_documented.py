"""Every option of an explanation is documented where help() reaches, with its default."""

import inspect
import pydoc
from dataclasses import fields

import pytest

import diffexplain_fast as dx
from diffexplain_fast.methods.diffexplainer.options import Options
from tests.explaining import QUICK, quick_explainer


@pytest.mark.parametrize("option", fields(Options), ids=lambda option: option.name)
def test_help_shows_every_option_with_its_default(option) -> None:
    text = pydoc.render_doc(dx.Explainer.explain, renderer=pydoc.plaintext)
    assert f"\n        {option.name}: " in text.partition("Args:")[2].partition("Returns:")[0]
    entry = text.partition(f"\n        {option.name}: ")[2]
    assert entry.partition("Default: ")[2].startswith(f"{option.default!r}.")
    assert inspect.signature(dx.Explainer.explain).parameters[option.name].default == option.default
    assert "**options" not in text


def test_the_signature_binds_what_the_method_takes() -> None:
    signature = inspect.signature(dx.Explainer.explain)
    signature.bind(None, "boat", n_tokens=2, progress=False)
    with pytest.raises(TypeError, match="n_token"):
        signature.bind(None, "boat", n_token=2)


def test_progress_is_shown_on_request_and_its_kind_is_checked(capsys: pytest.CaptureFixture) -> None:
    with quick_explainer() as explainer:
        explainer.explain("boat", **QUICK, progress=True)
        assert "ClassProbability(boat): optimising" in capsys.readouterr().err
        explainer.explain("boat", **QUICK)
        assert "optimising" not in capsys.readouterr().err
        with pytest.raises(TypeError, match="progress: wanted True, False or None, got"):
            explainer.explain("boat", **QUICK, progress="yes")
