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


METHODS = [name for name, _ in inspect.getmembers(dx.Explainer, inspect.isfunction) if not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_names_the_nearest_of_a_misspelt_argument(name: str) -> None:
    assert "explain" in METHODS and "attribute" in METHODS
    known = inspect.signature(getattr(dx.Explainer, name)).parameters
    needed = [None for one in known.values() if one.default is one.empty and one.kind is not one.VAR_KEYWORD][1:]
    last = [one for one in known.values() if one.kind is not one.VAR_KEYWORD][-1].name
    with quick_explainer() as explainer, pytest.raises(TypeError, match=rf"^option: wanted .*got '{last}_'") as refused:
        getattr(explainer, name)(*needed, **{f"{last}_": 3})
    nearest = "prefix" if name == "prefixes" else last  # which takes the options of an explanation
    assert f"nearest: {nearest}," in str(refused.value)


@pytest.mark.parametrize(
    ("call", "nearest", "got"),
    [
        (lambda: dx.Explainer("none", "none", backed="fast"), "backend", "backed"),
        (lambda: dx.explain("none", "boat", backed="fast"), "backend", "backed"),
        (lambda: dx.explain("none", "boat", iteration=3), "iterations", "iteration"),
        (lambda: dx.maps.explain_func(None, None, None, taxonomi=3), "taxonomy", "taxonomi"),
        (lambda: dx.maps.explain_func(None, None, None, target=3), "targets", "target"),
    ],
)
def test_functions_of_one_call_name_it_before_anything_is_loaded(call, nearest: str, got: str) -> None:
    with pytest.raises(TypeError, match=rf"^option: wanted one of \d+ known names, nearest: .*got '{got}'") as refused:
        call()
    names = str(refused.value).partition("nearest: ")[2].partition(", got")[0].split(", ")
    assert len(names) == len(set(names)) and nearest in names


def test_progress_is_shown_on_request_and_its_kind_is_checked(capsys: pytest.CaptureFixture) -> None:
    with quick_explainer() as explainer:
        explainer.explain("boat", **QUICK, progress=True)
        assert "ClassProbability(boat): optimising" in capsys.readouterr().err
        explainer.explain("boat", **QUICK)
        assert "optimising" not in capsys.readouterr().err
        with pytest.raises(TypeError, match="progress: wanted True, False or None, got"):
            explainer.explain("boat", **QUICK, progress="yes")
