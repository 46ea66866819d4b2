"""Words that somebody added to the tokenizers are words of the pipeline."""

from typing import Any

import pytest
import torch

from diffexplain_fast.api.explainer import Explainer
from diffexplain_fast.methods.diffexplainer.vocabulary import whole_words
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.tinyworld.grammar import VOCABULARY
from tests.explaining import QUICK
from tests.models.test_encode_prompt import KINDS, encoders, invert, tokenizers
from tests.tiny import LABELS, tiny_classifier, tiny_sd


def with_words(pipe: Any, *words: str) -> Any:
    """Return a pipeline with further words, of embeddings of their own."""
    for tokenizer, encoder in zip(tokenizers(pipe), encoders(pipe), strict=True):
        tokenizer.add_tokens([*words])
        encoder.resize_token_embeddings(len(tokenizer))
        with torch.no_grad():
            drawn = torch.randn(len(words), encoder.config.hidden_size, generator=torch.Generator().manual_seed(0))
            encoder.get_input_embeddings().weight[-len(words) :] = drawn
    return pipe


@pytest.mark.parametrize("kind", KINDS)
def test_added_words_are_words_and_can_be_names(kind: str) -> None:
    before = load_pipeline(KINDS[kind]()).words()
    pipeline = load_pipeline(with_words(KINDS[kind](), "zebra", "<cat>"))
    assert pipeline.words() == [*before, "zebra", "<cat>"]
    assert torch.equal(pipeline.word_table()[-2:], pipeline.token_embeddings("zebra <cat>"))
    assert pipeline.nearest_words(pipeline.token_embeddings("zebra"), 1)[0][0][0] == "zebra"
    assert [pipeline.words()[place] for place in whole_words(pipeline)][-2:] == ["zebra", "<cat>"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vectors", [1, 3])
def test_a_textual_inversion_is_a_word_where_one_token_says_it(kind: str, vectors: int) -> None:
    pipe = KINDS[kind]()
    before = load_pipeline(pipe).words()
    invert(pipe, vectors)
    assert load_pipeline(pipe).words() == [*before, *(["<mine>"] if vectors == 1 else [])]


def test_special_tokens_and_made_up_words_of_the_tiny_world_are_none() -> None:
    pipe = tiny_sd()
    pipe.tokenizer.add_special_tokens({"additional_special_tokens": ["<special>"]})
    pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer))
    assert "<special>" not in load_pipeline(pipe).words()
    assert {*load_pipeline("tinyworld").words()} == {*VOCABULARY}


def test_a_screening_draws_added_words() -> None:
    options = {**QUICK, "n_tokens": 1, "iterations": 1, "start": "screen", "n_validation": 2}
    with Explainer(with_words(tiny_sd(), "zebra", "<cat>"), Classifier(tiny_classifier(), labels=LABELS)) as explainer:
        found = explainer.explain("fish", **options)
        assert found.settings["found"]["words_drawn"] == len(whole_words(explainer.pipeline))
        named = explainer.explain("fish", **{**options, "start": "<cat>", "lr": 1e-6})
    assert named.words[0][0].word == "<cat>"
