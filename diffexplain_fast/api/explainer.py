"""The public entry: it checks arguments, resolves names, and runs a method."""

import operator
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Unpack

import torch

from diffexplain_fast.api.attributing import Attributing
from diffexplain_fast.api.auditing import Auditing, Chosen, run_audit
from diffexplain_fast.api.documented import names_nearest, takes
from diffexplain_fast.api.fitting import Fitting
from diffexplain_fast.api.gathering import Gathering
from diffexplain_fast.api.intervening import Intervening
from diffexplain_fast.api.picturing import Picturing
from diffexplain_fast.api.segmenting import Segmenting
from diffexplain_fast.engine.checks import check_guidance
from diffexplain_fast.engine.gradients import GradientMode
from diffexplain_fast.engine.graphs.function import Graphed
from diffexplain_fast.engine.options import SamplerOptions
from diffexplain_fast.engine.sampler import DifferentiableSampler
from diffexplain_fast.engine.schedules import Schedule
from diffexplain_fast.engine.single import SingleCalls
from diffexplain_fast.errors import wrong_type, wrong_value
from diffexplain_fast.evidence.problem import Problem
from diffexplain_fast.evidence.recorded import graphed_text
from diffexplain_fast.methods.diffexplainer.explain import check_prompt, explain_target
from diffexplain_fast.methods.diffexplainer.options import AUTO, Options, is_auto, options_from
from diffexplain_fast.methods.diffexplainer.otherwise import explain_otherwise
from diffexplain_fast.models.classifier import Classifier
from diffexplain_fast.models.loading import load_pipeline
from diffexplain_fast.models.pipeline import Pipeline
from diffexplain_fast.models.together import checked_together
from diffexplain_fast.models.undisturbed import undisturbed
from diffexplain_fast.results.audit import Audit
from diffexplain_fast.results.explanation import Explanation
from diffexplain_fast.runs.bars import bars_beside, check_bars
from diffexplain_fast.runs.progress import Progress
from diffexplain_fast.targets import as_target, whole_number

_OTHER_OPTIONS = ("num_inference_steps", "guidance_scale", "modes", "checkpoint", "callback", "progress")
_COMPONENTS = ("unet", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")


class Explainer(Attributing, Gathering, Segmenting):
    """Explain a classifier with a latent diffusion pipeline, without any change in the modules of either.

    Args:
        pipeline: "tinyworld", "tinyworld-lcm", a diffusers Stable Diffusion pipeline object (its components may be
            replaced later), a hub id, a local folder, or a loaded ``Pipeline``.
        classifier: a ``Classifier``, or a name that ``Classifier.from_pretrained`` reads.
        backend: "auto", "reference" or "fast"; see ``DifferentiableSampler``.
        memory: limit of bytes for everything, text encoders and classifier included, such as "8GiB"; "auto" is the free
            memory of a CUDA device, None means no limit. For backends that plan their memory.
        gradient: "full", "checkpointed", "last:K", "detached" or "shortcut:K"; see ``DifferentiableSampler``.
        seed: source of every random number; the same seed gives the same bits on one machine.
        device: device for models that are loaded by name; modules that are passed stay on their device.
        call_options: options of the pipeline's call that change its pictures, by name: ``clip_skip`` and, for Stable
            Diffusion XL, its sizes, such as ``original_size`` and ``negative_original_size``; or None.

    Raises:
        TypeError: a classifier that is neither a ``Classifier`` nor a name; a seed that is not a whole number.
        ValueError: classifier and pipeline on different devices; a backend or gradient that does not exist.
    """

    @names_nearest()
    @torch.inference_mode(False)
    def __init__(
        self,
        pipeline: object,
        classifier: Classifier | str | Path,
        *,
        backend: str = "auto",
        memory: int | str | None = "auto",
        gradient: GradientMode | str = "full",
        seed: int = 0,
        device: torch.device | str | None = None,
        call_options: Mapping[str, object] | None = None,
    ) -> None:
        self.seed = whole_number("seed", seed)
        if isinstance(classifier, str | Path):
            classifier = Classifier.from_pretrained(classifier, device=device)
        if not isinstance(classifier, Classifier):
            raise wrong_type("classifier", "a Classifier (wrap a module: Classifier(module, labels=[...]))", classifier)
        place = None if isinstance(pipeline, Pipeline) else device
        self.pipeline = load_pipeline(pipeline, call_options=call_options, device=place)
        _ = self.pipeline.latent_shape, self.pipeline.words()  # raises here, before any work
        self.classifier = classifier
        if classifier.device is not None and torch.device(classifier.device) != torch.device(self.pipeline.device):
            raise wrong_value("classifier", f"a classifier on the pipeline's {self.pipeline.device}", classifier.device)
        self._sampler_options = SamplerOptions(backend=backend, memory=memory, gradient=gradient)
        self._given = None if isinstance(pipeline, Pipeline | str | Path) else pipeline
        self._components, self._call_options = _components(self._given), call_options
        self._current: tuple[tuple[Schedule, float], DifferentiableSampler] | None = None
        self._texts: dict[str, Graphed] = {}
        self._read: tuple[object, ...] = ()
        with self._frozen():
            self._sampler(None, None)

    def __getstate__(self) -> dict[str, object]:
        """Return the state without samplers and recordings, which a copy creates again when it needs them."""
        return {**vars(self), "_current": None, "_texts": {}}

    def _follow(self) -> None:
        """Read the caller's pipeline again if one of its components was replaced."""
        found = _components(self._given)
        if any(map(operator.is_not, found, self._components)):
            self.pipeline = load_pipeline(self._given, call_options=self._call_options)
            self._components = found

    def __enter__(self) -> "Explainer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._forget()

    @takes(Options)
    @torch.inference_mode(False)
    def explain(
        self,
        target: object,
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        modes: int = 1,
        checkpoint: str | Path | None = None,
        callback: Callable[[Progress], None] | None = None,
        progress: bool | None = None,
        **options: object,
    ) -> Explanation:
        """Find a soft prompt whose images make the classifier respond, and score it on held-out start latents.

        Args:
            target: class index, label, "layer:unit", text such as "logit:boat + 0.5*neuron:layer4:17", a target such as
                ``-ClassLogit("age") + 0.5 * Neuron("layer4", 17)``, or a function of a ``Response`` to scores [B].
            num_inference_steps: steps of the sampler; default 8 for tinyworld, 4 for LCM, otherwise 20.
            guidance_scale: default 4.0 for tinyworld, 1.0 for LCM, otherwise 7.5; 1.0 runs no unconditional
                row.
            modes: number of explanations to look for that differ from one another, because a class may have more than
                one; those after the first are in its ``others``. Starts that are given or random do not differ.
            checkpoint: folder of checkpoints; a run that was interrupted resumes from it.
            callback: function that receives a ``Progress`` after every step.
            progress: True for bars on stderr, False for none; None for them in a terminal or notebook without callback.
            **options: prefix, n_tokens, iterations, lr, images_per_step, start, restarts, candidates, n_images,
                n_score and the others of ``Options``.

        Returns:
            Images of held-out latents, soft prompt, activation scores, nearest words, history and settings.

        Raises:
            TypeError: an argument of the wrong kind, or an option that does not exist.
            ValueError: an argument out of range, an unknown label or layer, a prompt longer than the context, a
                candidate or start of no or more than n_tokens tokens or with a character that the tokenizer does not
                know, a checkpoint of another configuration, a memory limit into which no step fits.
            NonFiniteError: NaN or infinity in a loss, which names the iteration, in a picture or in an answer.
            StorageError: a checkpoint that cannot be written.

        Every error after the search of starts, also one of the classifier's own code, has ``last_good``: the soft
        tokens [n_tokens, d] that validated best. In a later one of several ``modes`` it has ``finished``: a list with
        the first explanation, and in its ``others`` those after it.

        Source: DiffExplainer (arXiv 2404.02618), equations 4 and 5; see ``methods.diffexplainer``.
        """
        chosen, count = options_from(options, _OTHER_OPTIONS), whole_number("modes", modes)
        if count < 1:
            raise wrong_value("modes", "a whole number of at least 1", count)
        check_bars(callback, progress)
        self._follow()
        with self._frozen(target):
            self._settle()
            bound = as_target(target).bind(self.classifier)
            check_prompt(self.pipeline, chosen)
            sampler = self._shared_sampler(num_inference_steps, guidance_scale)
            fitting = Fitting(sampler, self.pipeline, self.classifier, bound, self._sampler_options)
            asked = {"images_per_step": AUTO} if is_auto(options) else None
            chosen = fitting.with_pictures(chosen, checkpoint) if asked else chosen
            fitting.reserve(chosen)
            text = self._text(chosen.prefix, sampler)
            run = (self.pipeline, sampler, self.classifier, bound, chosen.prefix, self.seed, text)
            problem = Problem(*run, limited=fitting.has_limit_of_caller)
            with bars_beside(callback, progress, bound.describe()) as report:
                found = explain_target(problem, chosen, checkpoint, report, asked)
                explain_otherwise(problem, chosen, found, count, checkpoint, report, asked)
            return found

    @names_nearest(Auditing.__annotations__)
    @torch.inference_mode(False)
    def audit(
        self,
        targets: object = "all",
        concepts: object = None,
        pictures: int = 400,
        explain: bool | Mapping[str, Explanation] = False,
        minimal_effect: float = 0.5,
        level: float = 0.05,
        images: object = None,
        interventions: object = None,
        **options: Unpack[Auditing],
    ) -> Audit:
        """Find which concepts a classifier answers to, by a randomised trial through the prompt; see ``run_audit``.

        Args:
            targets: "all" for every class, or labels, indices, "layer:unit" or other targets.
            concepts: ``Concepts``, a dict of groups, a ``Taxonomy``, a list of words, a file, or None for the tiny
                world's attributes.
            pictures: of the pool at most, at least 24; 0 with images and interventions draws nothing.
            explain: True to explain every target first, or target name to its explanation: what it found is tried in
                fresh pictures, see ``Audit.found``.
            minimal_effect: effect in centred logits up to which nothing is a finding.
            level: rate of false findings, and error of the intervals.
            images: pictures of the user's own, which concepts are pasted into: PIL images, pixels [N, 3, H, W] in
                [0, 1], or a folder of pictures or of one folder for each label; they are scaled to the pipeline's size.
                What they say is in ``Audit.photographs``; needs the extra ``photographs``.
            interventions: names to functions of a picture [3, H, W] in [0, 1], such as one that adds a watermark. Every
                picture of ``images``, or of the pool, is answered with and without; rows "intervention:NAME", and as
                null "placebo:NAME, mirrored" and "placebo:NAME, blank".
            **options: see ``api.auditing.Auditing``.

        Returns:
            Rows, verdicts and settings.

        Raises:
            TypeError: an argument of the wrong kind, or an option that does not exist.
            ValueError: an argument out of range, concepts that the pipeline cannot say, the pool of another pipeline.
            NonFiniteError: a picture or an answer with NaN or infinity; what was drawn before is kept.
            StorageError: the pool cannot be written.
        """
        self._follow()
        changes = Intervening.of(interventions, options.get("clusters"))
        chosen = Chosen.of(pictures, minimal_effect, level, explain, options)
        run = self._frozen(targets, interventions, options)
        with bars_beside(chosen.callback, options.get("progress"), "audit") as report, run:
            if not chosen.draws:
                return changes.only(self.pipeline, self.classifier, images, targets, chosen.options, report)
            own = Picturing.of(images, options.get("labels"), options.get("segmenter"), self.pipeline)
            self._settle()
            steps, guidance = options.get("num_inference_steps"), options.get("guidance_scale")
            sampler, chosen = self._sampler(steps, guidance), replace(chosen, callback=report)
            search = partial(
                self.explain, num_inference_steps=steps, guidance_scale=guidance, callback=report, progress=False
            )
            asked = (self.pipeline, sampler, self.classifier, self.seed, targets, concepts)
            audit = run_audit(*asked, chosen, explain, search, own, changes, self._sampler_options)
        return replace(audit, _editing=self.attribute)

    def _settle(self) -> None:
        """Settle the classifier's kind of output before any other value depends on it or is recorded."""
        size, device, dtype = self.pipeline.image_size, self.pipeline.device, self.pipeline.dtype
        self.classifier.settle(torch.zeros(1, 3, *size, device=device, dtype=dtype))

    def _sampler(self, steps: int | None, guidance: float | None) -> DifferentiableSampler:
        """Return a sampler that reserves nothing for others."""
        sampler = self._shared_sampler(steps, guidance)
        if sampler.plans_memory:
            sampler.reserve(None)
        return sampler

    def _shared_sampler(self, steps: int | None, guidance: float | None) -> DifferentiableSampler:
        usual = self.pipeline.usual_sampling
        count = usual.steps if steps is None else whole_number("num_inference_steps", steps)
        scale = usual.guidance_scale if guidance is None else check_guidance(guidance)
        parts = (self.pipeline, self.pipeline.unet, self.pipeline.vae)
        if parts != self._read or (self._current is not None and self._current[1].edited):
            self._forget()
            self._read = parts
        # The key contains the schedule, because the caller may have changed the scheduler.
        key = (Schedule.from_scheduler(self.pipeline.scheduler, count), scale)
        if self._current is None or self._current[0] != key:
            self._current = None  # the plan of a sampler does not count packed weights and recordings of others
            options = self._sampler_options | {"num_inference_steps": count, "guidance_scale": scale}
            self._current = key, DifferentiableSampler.from_pipe(self.pipeline, **options)
        return self._current[1]

    def _calls(self) -> SingleCalls:
        """Return the denoiser and decoder of a sampler, whose steps do not matter for single calls."""
        same = self._read == (self.pipeline, self.pipeline.unet, self.pipeline.vae)
        return (self._current[1] if self._current and same else self._sampler(None, None)).single_calls(closely=False)

    def _text(self, prefix: str, sampler: DifferentiableSampler) -> Graphed:
        """Return the text encoder for soft tokens; all targets with the same prefix share its recording."""
        if prefix not in self._texts:
            self._texts[prefix] = graphed_text(self.pipeline, prefix, allowed=sampler.records_calls)
        return self._texts[prefix]

    def _forget(self) -> None:
        self._current = None
        self._texts.clear()

    def _frozen(self, *functions: object) -> AbstractContextManager[None]:
        return undisturbed((*checked_together(self.pipeline.modules), *self.classifier.modules), *functions)


def _components(pipeline: object) -> list[object]:
    """Return the components of a diffusers pipeline that an explanation uses, None for those that it does not have."""
    return [getattr(pipeline, name, None) for name in _COMPONENTS]
