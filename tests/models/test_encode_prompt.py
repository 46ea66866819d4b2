"""Prompts are encoded as by the pipeline, for every tokenizer, text encoder and configuration."""

import pytest
import torch

from diffexplain_fast.models.loading import load_pipeline
from tests.tiny import CONTEXT, IMAGE_SIZE, tiny_sd, tiny_sd2, tiny_sdxl

KINDS = {"sd": tiny_sd, "sd2": tiny_sd2, "sdxl": tiny_sdxl}
TEXTS = ["a photo of a red boat", "", "snow <mine> tree", "<mine> <mine>"]
LONG = [" ".join(["a red boat <mine> in snow"] * 8), "boat"]


@pytest.fixture(params=KINDS)
def pipe(request):
    return KINDS[request.param]()


def tokenizers(pipe):
    return [each for each in (pipe.tokenizer, getattr(pipe, "tokenizer_2", None)) if each is not None]


def encoders(pipe):
    return [each for each in (pipe.text_encoder, getattr(pipe, "text_encoder_2", None)) if each is not None]


def invert(pipe, vectors):
    """Load a textual inversion of some vectors into every text encoder."""
    for tokenizer, encoder in zip(tokenizers(pipe), encoders(pipe), strict=True):
        drawn = torch.randn(vectors, encoder.config.hidden_size, generator=torch.Generator().manual_seed(vectors))
        pipe.load_textual_inversion(drawn, token="<mine>", text_encoder=encoder, tokenizer=tokenizer)


def masked(pipe):
    for encoder in encoders(pipe):
        encoder.config.use_attention_mask = True


def padded_left(pipe):
    for tokenizer in tokenizers(pipe):
        tokenizer.padding_side = "left"


def cut_left(pipe):
    for tokenizer in tokenizers(pipe):
        tokenizer.truncation_side = "left"


def masked_and_padded_left(pipe):
    masked(pipe)
    padded_left(pipe)


OPTIONS = {
    "one vector": lambda pipe: invert(pipe, 1),
    "three vectors": lambda pipe: invert(pipe, 3),
    "attention mask": masked,
    "padded left": padded_left,
    "cut left": cut_left,
    "mask, padded left": masked_and_padded_left,
    "all": lambda pipe: (invert(pipe, 2), masked_and_padded_left(pipe), cut_left(pipe)),
}


@torch.no_grad()
def theirs(pipe, texts, **options):
    """Return the pipeline's prompt embeddings and pooled text, then the unconditional ones."""
    for encoder in encoders(pipe):
        if not hasattr(encoder, "text_model"):  # the place in which diffusers looks for the final norm
            object.__setattr__(encoder, "text_model", encoder)
    out = pipe.encode_prompt(texts, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True, **options)
    return out[0], out[1], *(out[2:] or (None, None))


def near(got, wanted):
    return got is wanted or float((got - wanted).abs().max()) <= 1e-6


def assert_same(pipeline, texts, wanted):
    ours, negative = pipeline.encode_text(texts, cut=True), pipeline.unconditional()
    embeds, negative_embeds, pooled, negative_pooled = wanted
    assert near(ours.prompt_embeds, embeds) and near(ours.pooled, pooled)
    assert near(negative.prompt_embeds.expand_as(negative_embeds), negative_embeds)
    assert negative.pooled is None or near(negative.pooled.expand_as(negative_pooled), negative_pooled)


@pytest.mark.parametrize("texts", [TEXTS, LONG], ids=["short", "cut"])
@pytest.mark.parametrize("option", OPTIONS)
def test_texts_are_encoded_as_by_the_pipeline(pipe, option, texts):
    OPTIONS[option](pipe)
    with torch.no_grad():
        assert_same(load_pipeline(pipe), texts, theirs(pipe, texts))


@pytest.mark.parametrize("skip", [0, 1, 2])
def test_skipped_layers_are_those_of_the_pipeline(pipe, skip):
    """The unconditional rows never skip layers, as in diffusers."""
    if skip == 2 and "text_encoder_2" in pipe.components:
        pytest.skip("its first text encoder has two layers, of which the last is always left out")
    pipeline, soft = load_pipeline(pipe, call_options={"clip_skip": skip}), None
    with torch.no_grad():
        wanted = theirs(pipe, TEXTS[:2], clip_skip=skip)
        assert_same(pipeline, TEXTS[:2], wanted)
        soft = pipeline.token_embeddings(TEXTS[0])
        assert near(pipeline.encode_soft(soft).prompt_embeds[0], wanted[0][0])
        by_call = load_pipeline(pipe).encode_text(TEXTS[:2], clip_skip=skip)
        assert near(by_call.prompt_embeds, wanted[0])
    usual = load_pipeline(pipe).encode_text(TEXTS[:2]).prompt_embeds
    assert torch.equal(usual, by_call.prompt_embeds) == (skip == 0)


@pytest.mark.parametrize("option", OPTIONS)
def test_soft_tokens_equal_to_real_ones_give_what_the_text_gives(pipe, option):
    OPTIONS[option](pipe)
    pipeline = load_pipeline(pipe)
    prefix = "a photo of <mine>" if "<mine>" in pipe.tokenizer.get_vocab() else "a photo of"
    with torch.no_grad():
        embeds, _, pooled, _ = theirs(pipe, [f"{prefix} the red boat snow"])
        got = pipeline.encode_soft(pipeline.token_embeddings("the red boat"), prefix, "snow")
    assert near(got.prompt_embeds, embeds) and near(got.pooled, pooled)


def test_the_gradient_reaches_soft_tokens_through_mask_padding_and_skipped_layers(pipe):
    masked_and_padded_left(pipe)
    pipeline = load_pipeline(pipe, call_options={"clip_skip": 1})
    for encoder in pipeline.text_encoders:
        encoder.double()
    soft = pipeline.token_embeddings("red boat").detach().requires_grad_()
    direction = torch.randn(soft.shape, generator=torch.Generator().manual_seed(0), dtype=soft.dtype)
    cotangent = torch.randn(CONTEXT, pipe.unet.config.cross_attention_dim, dtype=soft.dtype)

    def loss(soft):
        return (pipeline.encode_soft(soft, prefix="a photo of").prompt_embeds * cotangent).sum()

    (gradient,) = torch.autograd.grad(loss(soft), soft)
    step = 1e-6 * direction
    with torch.no_grad():
        slope = (loss(soft + step) - loss(soft - step)) / 2e-6
    assert float((gradient * direction).sum()) == pytest.approx(float(slope), rel=1e-6)
    assert all(weight.grad is None for encoder in pipeline.text_encoders for weight in encoder.parameters())


@pytest.mark.parametrize("zeros", [True, False])
def test_xl_guides_away_from_what_its_configuration_says(zeros):
    pipe = tiny_sdxl()
    pipe.register_to_config(force_zeros_for_empty_prompt=zeros)
    pipeline = load_pipeline(pipe)
    assert_same(pipeline, TEXTS[:2], theirs(pipe, TEXTS[:2]))
    assert bool(pipeline.unconditional().prompt_embeds.abs().sum()) != zeros
    # A negative prompt is encoded, also an empty one.
    given = theirs(pipe, TEXTS[:1], negative_prompt=[""])
    written = pipeline.encode_text([""])
    assert near(written.prompt_embeds, given[1]) and near(written.pooled, given[3])


def test_sizes_of_xl_are_those_of_its_call():
    sizes = {"original_size": (40, 30), "crops_coords_top_left": (3, 5), "target_size": (32, 16)}
    negative = {"negative_original_size": (8, 9), "negative_target_size": (16, 20)}
    pipe = tiny_sdxl()
    pipeline = load_pipeline(pipe, call_options=sizes | negative)
    found = pipeline.extras(pipeline.encode_text(["a boat"]), 2)
    width = pipe.text_encoder_2.config.projection_dim
    own = pipe._get_add_time_ids(*sizes.values(), torch.float32, width)
    other = pipe._get_add_time_ids((8, 9), (0, 0), (16, 20), torch.float32, width)
    assert torch.equal(found["time_ids"], own.repeat(2, 1))
    assert torch.equal(found["negative_time_ids"], other.repeat(2, 1))
    assert pipeline.image_size == (IMAGE_SIZE, IMAGE_SIZE)


@pytest.mark.parametrize(
    ("make", "options", "error", "message"),
    [
        (tiny_sd, {"clip_skip": 3}, ValueError, "clip_skip: wanted at most the 2 layers of text_encoder.*got 3"),
        (tiny_sdxl, {"clip_skip": 2}, ValueError, "clip_skip: wanted at most the 2 layers of text_encoder.*got 3"),
        (tiny_sd, {"clip_skip": -1}, ValueError, "clip_skip: wanted at least 0, got -1"),
        (tiny_sd, {"clip_skip": 1.0}, TypeError, "clip_skip: wanted a whole number of layers, got float"),
        (tiny_sd, {"original_size": (8, 8)}, ValueError, "call_options: wanted one of 1 known names.*'original_size'"),
        (tiny_sdxl, {"original_size": 8}, TypeError, "original_size: wanted a pair of numbers"),
        (tiny_sdxl, {"target_size": (8, 8, 8)}, ValueError, "target_size: wanted a pair of finite numbers"),
        (tiny_sdxl, {"negative_original_size": (8, 8)}, ValueError, "both or neither .*got negative_original_size"),
        (tiny_sdxl, {"negative_crops_coords_top_left": (8, 8)}, ValueError, "both or neither"),
        (tiny_sd, ["clip_skip"], TypeError, "call_options: wanted a mapping"),
    ],
)
def test_options_the_pipeline_does_not_have_are_named(make, options, error, message):
    with pytest.raises(error, match=message):
        load_pipeline(make(), call_options=options)


def test_a_loaded_pipeline_keeps_its_own_options():
    pipeline = load_pipeline(tiny_sd(), call_options={"clip_skip": 1})
    assert pipeline.call_options == {"clip_skip": 1}
    with pytest.raises(ValueError, match="call_options: wanted None with a loaded Pipeline"):
        load_pipeline(pipeline, call_options={"clip_skip": 0})


def test_pooled_text_of_another_width_is_refused_when_loaded():
    pipe = tiny_sdxl()
    pipe.text_encoder_2.config.projection_dim = 20
    with pytest.raises(ValueError, match="text_encoder_2: wanted pooled text of width 24, as the unet reads, got 20"):
        load_pipeline(pipe)


def test_a_tokenizer_without_words_lends_its_letters():
    pipe = tiny_sd()
    whole = load_pipeline(pipe).words()
    keep = {t: i for t, i in pipe.tokenizer.get_vocab().items() if len(t.removesuffix("</w>")) == 1 or t[0] == "<"}
    names = {token: number for number, token in enumerate(sorted(keep))}
    pipe.tokenizer = type(pipe.tokenizer)(vocab=names, merges=[], model_max_length=CONTEXT)
    pipe.text_encoder.resize_token_embeddings(len(names), mean_resizing=False)
    pipeline = load_pipeline(pipe)
    assert len(pipeline.words()) > 20 and "boat" in whole and "boat" not in pipeline.words()
    assert pipeline.word_table().isfinite().all() and len(pipeline.word_table()) == len(pipeline.words())
    assert pipeline.nearest_words(pipeline.token_embeddings("b"), k=1)[0][0][0] == "b"


def test_a_tokenizer_with_only_special_tokens_is_refused():
    pipe = tiny_sd()
    names = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    pipe.tokenizer = type(pipe.tokenizer)(vocab=names, merges=[], model_max_length=CONTEXT)
    pipeline = load_pipeline(pipe)
    for question in (pipeline.words, pipeline.word_table):
        with pytest.raises(ValueError, match=r"tokenizer: wanted a token that is not special.*got none"):
            question()


def test_a_tokenizer_without_padding_is_refused():
    pipe = tiny_sd()
    pipe.tokenizer.pad_token = None
    with pytest.raises(ValueError, match="begin, end and padding of a prompt, got pad_token_id None"):
        load_pipeline(pipe)
