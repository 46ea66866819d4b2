"""Soft tokens equal to real ones give, bit for bit, the embeddings of diffusers for the text."""

import pytest
import torch

from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.transformers_clip import ClipText
from tests.tiny import CONTEXT, WORDS, tiny_sd, tiny_sd2, tiny_sdxl

KINDS = {"sd": tiny_sd, "sd2": tiny_sd2, "sdxl": tiny_sdxl}


@pytest.fixture(params=KINDS)
def pipe(request):
    return KINDS[request.param]()


def diffusers_encode(pipe, texts):
    """Return the pipeline's prompt embeds, and pooled embeds or None."""
    out = pipe.encode_prompt(texts, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    return out[0], out[2] if len(out) == 4 else None


def assert_same(conditioning, expected):
    embeds, pooled = expected
    assert torch.equal(conditioning.prompt_embeds, embeds)
    assert (conditioning.pooled is None) == (pooled is None)
    assert pooled is None or torch.equal(conditioning.pooled, pooled)


def state(pipe):
    """Hooks, modes and flags of every module and parameter of the text encoders."""
    encoders = [each for each in (pipe.text_encoder, getattr(pipe, "text_encoder_2", None)) if each is not None]
    modules = [m for encoder in encoders for m in encoder.modules()]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in modules]
    return hooks, [p.requires_grad for encoder in encoders for p in encoder.parameters()]


def test_encode_text_is_what_diffusers_computes(pipe):
    texts = ["a photo of a red boat", "", "snow", "letters, too!"]
    with torch.no_grad():
        assert_same(load_pipeline(pipe).encode_text(texts), diffusers_encode(pipe, texts))


@pytest.mark.parametrize(
    ("prefix", "middle", "suffix"),
    [
        ("", "red boat", ""),
        ("a photo of", "the fish house", ""),
        ("", "snow", "tree"),
        ("a photo", "xyz", "the desert"),
        ("", "a photo of the red boat a photo of the red boat a photo", ""),
    ],
    ids=["alone", "prefix", "suffix", "both", "full"],
)
def test_soft_tokens_equal_to_real_ones_give_what_the_text_gives(pipe, prefix, middle, suffix):
    pipeline = load_pipeline(pipe)
    soft = pipeline.token_embeddings(middle)
    text = " ".join(part for part in (prefix, middle, suffix) if part)
    with torch.no_grad():
        assert_same(pipeline.encode_soft(soft, prefix, suffix), diffusers_encode(pipe, [text]))


def test_a_batch_of_soft_prompts_is_the_prompts_one_by_one(pipe):
    pipeline = load_pipeline(pipe)
    texts = ["red boat", "blue fish", "the tree"]
    soft = torch.stack([pipeline.token_embeddings(text) for text in texts])
    with torch.no_grad():
        got = pipeline.encode_soft(soft, prefix="a photo of")
        assert_same(got, diffusers_encode(pipe, [f"a photo of {text}" for text in texts]))
    assert got.prompt_embeds.shape == (3, CONTEXT, pipe.unet.config.cross_attention_dim)


def test_other_soft_tokens_give_another_prompt(pipe):
    pipeline = load_pipeline(pipe)
    soft = pipeline.token_embeddings("red boat")
    same, other = (pipeline.encode_soft(each).prompt_embeds for each in (soft, soft + 0.01))
    assert not torch.equal(same, other)


def test_gradients_reach_only_the_soft_tokens(pipe):
    pipeline = load_pipeline(pipe)
    soft = pipeline.token_embeddings("red boat").double().requires_grad_()
    for encoder in pipeline.text_encoders:
        encoder.double()
    weights = torch.randn(CONTEXT, pipe.unet.config.cross_attention_dim, generator=torch.Generator().manual_seed(0))

    def loss(soft):
        conditioning = pipeline.encode_soft(soft, prefix="a photo of")
        pooled = 0.0 if conditioning.pooled is None else conditioning.pooled.square().sum()
        return (conditioning.prompt_embeds[0] * weights).sum() + pooled

    loss(soft).backward()
    step = torch.randn(soft.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        slope = (loss(soft + 1e-6 * step) - loss(soft - 1e-6 * step)) / 2e-6
    torch.testing.assert_close((soft.grad * step).sum(), slope, rtol=1e-6, atol=1e-8)
    assert (soft.grad.abs().sum(dim=0) > 0).all()
    assert all(p.grad is None for encoder in pipeline.text_encoders for p in encoder.parameters())


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_hooks_modes_and_flags_are_put_back_also_after_an_exception(pipe, training):
    pipeline = load_pipeline(pipe)
    last = pipeline.text_encoders[-1].train(training)
    next(last.parameters()).requires_grad_(False)
    before, soft = state(pipe), pipeline.token_embeddings("red boat")
    pipeline.encode_soft(soft)
    pipeline.encode_text(["a boat"])
    assert state(pipe) == before

    def interrupt(module, args):
        raise KeyboardInterrupt

    deepest = [m for m in last.modules() if not list(m.children())][-1]
    with deepest.register_forward_pre_hook(interrupt):
        during = state(pipe)
        with pytest.raises(KeyboardInterrupt):
            pipeline.encode_soft(soft)
        assert state(pipe) == during
    assert state(pipe) == before


def test_the_end_token_stays_the_only_end(pipe):
    pipeline = load_pipeline(pipe)
    seen = []
    encoder, tokenizer = pipeline.text_encoders[-1], pipeline.tokenizers[-1]
    with encoder.get_input_embeddings().register_forward_pre_hook(lambda module, args: seen.append(args[0])):
        pipeline.encode_soft(pipeline.token_embeddings("red boat tree"), prefix="a", suffix="of")
    (ids,) = seen[0].tolist()
    assert ids[0] == tokenizer.bos_token_id
    assert ids.index(tokenizer.eos_token_id) == 1 + 1 + 3 + 1
    assert set(ids[7:]) == {tokenizer.pad_token_id}


def test_a_prompt_that_does_not_fit_is_refused_with_both_counts(pipe):
    pipeline = load_pipeline(pipe)
    assert pipeline.max_tokens == CONTEXT - 2
    soft = pipeline.token_embeddings(" ".join(["boat"] * 12))
    assert pipeline.encode_soft(soft, prefix="a photo").prompt_embeds.shape[1] == CONTEXT
    with pytest.raises(ValueError, match="at most 14 tokens between begin and end, got 15"):
        pipeline.encode_soft(soft, prefix="a photo of")
    with pytest.raises(ValueError, match="at most 14 tokens between begin and end, got 15"):
        pipeline.encode_soft(soft, prefix="a photo", suffix="tree")
    with pytest.raises(ValueError, match="at most 14 tokens between begin and end, got 20"):
        pipeline.encode_text(["boat", " ".join(["boat"] * 20)])


def test_a_prompt_longer_than_the_context_is_cut_as_diffusers_cuts_it(pipe):
    pipeline, texts = load_pipeline(pipe), ["boat", " ".join(["a red boat"] * 20)]
    assert_same(pipeline.encode_text(texts, cut=True), diffusers_encode(pipe, texts))
    assert [pipeline.fits(text) for text in texts] == [True, False]


def test_the_shorter_of_tokenizer_and_text_encoder_sets_the_context():
    pipe = tiny_sd()
    pipe.tokenizer.model_max_length = 10**30
    assert load_pipeline(pipe).max_tokens == CONTEXT - 2
    pipe.tokenizer.model_max_length = 9
    pipeline = load_pipeline(pipe)
    assert pipeline.max_tokens == 7
    assert_same(pipeline.encode_text(["a boat"]), diffusers_encode(pipe, ["a boat"]))


@pytest.mark.parametrize(
    ("soft", "error", "message"),
    [
        ([[0.0] * 16], TypeError, "soft: wanted a tensor of token embeddings, got list"),
        (torch.zeros(16), ValueError, r"shape \[n, 16\] or \[B, n, 16\] with n >= 1, got \[16\]"),
        (torch.zeros(2, 15), ValueError, r"got \[2, 15\]"),
        (torch.zeros(0, 16), ValueError, r"got \[0, 16\]"),
        (torch.zeros(1, 1, 2, 16), ValueError, r"got \[1, 1, 2, 16\]"),
        (torch.zeros(2, 16, dtype=torch.long), ValueError, "floating point dtype, got torch.int64"),
        (torch.zeros(2, 16, device="meta"), ValueError, "device cpu, got meta"),
    ],
    ids=["list", "rank-1", "width", "empty", "rank-4", "integers", "device"],
)
def test_bad_soft_tokens_are_named(soft, error, message):
    with pytest.raises(error, match=message):
        load_pipeline(tiny_sd()).encode_soft(soft)


def test_words_the_tokenizer_cannot_spell_are_refused_around_soft_tokens():
    pipeline = load_pipeline(tiny_sd())
    soft = pipeline.token_embeddings("boat")
    with pytest.raises(
        ValueError, match="prefix: wanted text whose every character the tokenizer knows, got 'photo 7'"
    ):
        pipeline.encode_soft(soft, prefix="photo 7")
    with pytest.raises(ValueError, match="suffix"):
        pipeline.encode_soft(soft, suffix="<|endoftext|>")


def test_encode_text_wants_a_sequence_of_prompts():
    pipeline = load_pipeline(tiny_sd())
    with pytest.raises(TypeError, match="texts: wanted a sequence of prompts, got str"):
        pipeline.encode_text("a boat")
    with pytest.raises(ValueError, match="texts: wanted at least one prompt, got none"):
        pipeline.encode_text([])


def test_the_word_table_has_one_row_per_whole_word(pipe):
    pipeline = load_pipeline(pipe)
    words, table = pipeline.words(), pipeline.word_table()
    assert table.shape == (len(words), pipeline.embedding_dim)
    assert set(words) >= {word for word in WORDS if word.isalpha()}
    assert all((len(word) > 1 or word == "a") and word.isalpha() for word in words)
    assert torch.equal(table[words.index("boat")], pipeline.token_embeddings("boat")[0])
    assert pipeline.token_embeddings("a red boats").shape == (2 + 3, pipeline.embedding_dim)
    assert pipeline.token_embeddings("").shape == (0, pipeline.embedding_dim)


def test_a_token_that_was_never_trained_is_not_a_word():
    pipe = tiny_sd()
    row = pipe.tokenizer("boat", add_special_tokens=False).input_ids[0]
    with torch.no_grad():
        pipe.text_encoder.get_input_embeddings().weight[row] = 0
    assert "boat" not in load_pipeline(pipe).words()


def test_words_beyond_ascii_are_spelt_readably():
    pipe = tiny_sd()
    (byte_spelling,) = (pipe.tokenizer._tokenizer.pre_tokenizer.pre_tokenize_str("é")[0][0],)
    assert byte_spelling != "é"
    vocabulary = pipe.tokenizer.get_vocab()
    first, second = byte_spelling
    for piece in (first, second, f"{second}</w>", f"{byte_spelling}</w>"):
        vocabulary[piece] = len(vocabulary)
    pipe.tokenizer = type(pipe.tokenizer)(vocab=vocabulary, merges=[(first, f"{second}</w>")], model_max_length=CONTEXT)
    pipe.text_encoder.resize_token_embeddings(len(vocabulary), mean_resizing=False)
    spelt = list(ClipText(pipe.tokenizer, pipe.text_encoder).vocabulary.values())
    assert spelt[-1] == "é"
    assert spelt[-4:-1] == [first, second, second]


def test_nearest_words_by_hand(pipe):
    pipeline = load_pipeline(pipe)
    boat, fish = (pipeline.token_embeddings(word) for word in ("boat", "fish"))
    unit = torch.nn.functional.normalize
    mixed = unit(boat, dim=-1) + 0.9 * unit(fish, dim=-1)
    nearest = pipeline.nearest_words(torch.cat([3 * boat, mixed]).requires_grad_(), k=4)
    assert [len(row) for row in nearest] == [4, 4]
    assert nearest[0][0] == ("boat", pytest.approx(1.0))
    assert nearest[1][0] == ("boat", pytest.approx(float(torch.cosine_similarity(mixed, boat)), abs=1e-6))
    assert dict(nearest[1])["fish"] == pytest.approx(float(torch.cosine_similarity(mixed, fish)), abs=1e-6)
    for row in nearest:
        assert len({word for word, _ in row}) == 4
        assert [s for _, s in row] == sorted((s for _, s in row), reverse=True)


def test_many_calls_leave_nothing_behind(pipe):
    pipeline = load_pipeline(pipe)
    before, soft = state(pipe), pipeline.token_embeddings("red boat").requires_grad_()
    for _ in range(50):
        pipeline.encode_soft(soft).prompt_embeds.sum().backward()
    assert state(pipe) == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_soft_tokens_reach_a_compiled_encoder():
    pipe = tiny_sd()
    pipeline = load_pipeline(pipe)
    soft = pipeline.token_embeddings("red boat")
    with torch.no_grad():
        expected = pipeline.encode_soft(soft + 1)
        pipe.text_encoder.compile(backend="eager")
        pipeline = load_pipeline(pipe)
        pipeline.encode_text(["a photo"])
        torch.testing.assert_close(pipeline.encode_soft(soft + 1)[0], expected[0])
    torch._dynamo.reset()
