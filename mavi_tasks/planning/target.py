"""What is the same for all requests of one model: family, parameters, price, the start of their keys."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from hashlib import sha256
from typing import Any

import orjson

from mavi_tasks import estimate
from mavi_tasks.estimate import FrameSampling, UnknownMedia
from mavi_tasks.job import Job, ModelSpec
from mavi_tasks.media import DeliveryPlan, Media, MediaOptions, Unit, equal_frames, route_for
from mavi_tasks.media.types import Refusal
from mavi_tasks.pricing.book import Price, PriceBook
from mavi_tasks.providers import Family, Part, PromptRequest, WireOptions, family_of

FIXED_BYTES = 256  # what families add to a prompt: roles, "Answer with JSON only ..."
KEY_VERSION = 1  # raise it when a change alters what is sent to models


@dataclass(frozen=True)
class ModelTarget:
    """One model of a job. Values only; what changes while it runs belongs to dispatch."""

    model: str
    family: Family
    params: Mapping[str, Any]
    system: str | None
    schema: Mapping[str, Any] | None
    frames: int | None
    fps: float | None
    equalise: bool
    options: MediaOptions
    spelling: WireOptions
    price: Price | None
    gateway: str
    schema_chars: int  # the answer schema counts as input
    wrapping_bytes: (
        int  # all that goes with a prompt in any request, at most: schema, parameters, fixed texts
    )
    _key_start: Any = field(repr=False, compare=False)

    @property
    def max_tokens(self) -> int:
        """The most output tokens one call can bill: of all its choices, thinking included."""
        return self.family.most_output(self.params)

    @cached_property
    def sampling(self) -> FrameSampling:
        """How videos become frames for this model, as `route` decides it."""
        frames = self.frames
        if self.equalise and frames is None and self.fps is None:
            frames = self.options.default_frames
        image = self.family.routes.get("image")
        max_images = image.max_items if image is not None else None
        return FrameSampling(frames, self.fps, self.options.max_frames, max_images, self.options.frame_px)

    @cached_property
    def unknown(self) -> UnknownMedia:
        """What a budget assumes for media behind a URL."""
        return UnknownMedia(self.options.max_url_image_px, self.options.max_video_s)

    def key(self, prompt: str, media_items: Iterable[Media], repeat: int = 1) -> str:
        """The request key: sha256 over all that decides the answer; a media's identity for its URL.

        repeat: from the second time on that the same is asked, each time has a key of its own.
        """
        digest = self._key_start.copy()
        digest.update(prompt.encode())
        for media in media_items:
            digest.update(f"\0{media.kind}\0{media.identity}".encode())
        if repeat > 1:
            digest.update(f"\0repeat\0{repeat}".encode())
        return str(digest.hexdigest())

    def route(self, media_items: Sequence[Unit], *, force_inline: bool = False) -> DeliveryPlan | Refusal:
        """How these media reach this model, or why they cannot."""
        return route_for(
            media_items,
            self.family,
            frames=self.frames,
            fps=self.fps,
            equalise=self.equalise,
            options=self.options,
            force_inline=force_inline,
        )

    def body(self, prompt: str, parts: tuple[Part, ...]) -> bytes:
        """The wire body, as JSON."""
        ask = PromptRequest(self.model, prompt, parts, self.system, self.params, self.schema, self.spelling)
        return orjson.dumps(self.family.body(ask))

    def max_cost_pico(self, input_tokens: int) -> int | None:
        """The most that one call can cost, in pico-dollars; None when no price is known."""
        return None if self.price is None else self.price.max_cost_pico(input_tokens, self.max_tokens)


def targets(job: Job, book: PriceBook, *, gateway: str, options: MediaOptions, on: date) -> list[ModelTarget]:
    """One target for each model of the job, in its order."""
    families = [family_of(spec.model) for spec in job.models]
    shared = equal_frames(families, options.default_frames) if job.equalise == "frames" else None
    return [_target(job, spec, book, gateway, options, on, shared) for spec in job.models]


def _target(
    job: Job,
    spec: ModelSpec,
    book: PriceBook,
    gateway: str,
    options: MediaOptions,
    on: date,
    shared_frames: int | None,
) -> ModelTarget:
    params = job.effective_params(spec)
    schema_chars = len(orjson.dumps(job.answer_schema)) if job.answer_schema is not None else 0
    frames = spec.frames if spec.frames is not None or spec.fps is not None else shared_frames
    start = {
        "v": KEY_VERSION,
        "gateway": gateway,
        "model": spec.model,
        "system": job.system,
        "params": params,
        "schema": job.answer_schema,
        "frames": frames,
        "fps": spec.fps,
        "equalise": job.equalise,
        "max_image_px": options.max_image_px,
    }
    return ModelTarget(
        model=spec.model,
        family=family_of(spec.model),
        params=params,
        system=job.system,
        schema=job.answer_schema,
        frames=frames,
        fps=spec.fps,
        equalise=job.equalise == "frames",
        options=options,
        spelling=WireOptions(base64=job.gateway.base64, nova_url=job.gateway.nova_url),
        price=book.price(spec.model, on),
        gateway=gateway,
        schema_chars=schema_chars,
        wrapping_bytes=FIXED_BYTES
        + estimate.text_bytes(job.system)
        + schema_chars
        + len(orjson.dumps(params)),
        _key_start=sha256(orjson.dumps(start, option=orjson.OPT_SORT_KEYS) + b"\0"),
    )
