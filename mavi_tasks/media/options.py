"""What may be done with media: the section `media` of a job, as the media stage reads it."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mavi_tasks.common.field_types import BaseUrl, PositiveInt, Seconds, Text, one_of, wrong
from mavi_tasks.common.strict_model import StrictModel
from mavi_tasks.media.types import MB, Kind

_KindOption = Annotated[Kind, BeforeValidator(one_of("image", "video"))]


def _allow_null(schema: dict[str, Any]) -> None:
    """In the JSON Schema of a job, every option but true and false may be null, which is the default."""
    for option in schema["properties"].values():
        if option.get("type") in ("integer", "number"):
            kind = {key: option.pop(key) for key in list(option) if key not in ("title", "description")}
            del kind["default"]
            option |= {"anyOf": [kind, {"type": "null"}], "default": None}


class MediaOptions(StrictModel):
    """What may be done with media; null = the default of the media stage."""

    model_config = ConfigDict(json_schema_extra=_allow_null)

    base_url: BaseUrl | None = Field(default=None, description="Where the files under `root` are public")
    root: Text | None = Field(default=None, description="The folder that base_url stands for")
    download: bool = Field(
        default=False, description="May remote media be read here, to inline or sample them?"
    )
    allow_http: bool = Field(default=False, description="Downloads over plain http")
    allow_private: bool = Field(default=False, description="Downloads from private networks")
    allow_private_urls: bool = Field(default=False, description="Send private URLs: the gateway is local too")
    max_download_bytes: PositiveInt = Field(default=200 * MB, description="Of one file; more is refused")
    download_timeout_s: Seconds = Field(
        default=60.0, description="For one whole download, redirects included"
    )
    default_kind: _KindOption | None = Field(default=None, description="Of a URL whose name does not show it")
    max_image_px: PositiveInt = Field(
        default=8000,  # nova takes no more, the others shrink it themselves
        description="Longest side; larger images are shrunk",
    )
    max_url_image_px: PositiveInt = Field(
        default=8000, description="Longest side of an image behind a URL, as a budget assumes it"
    )
    default_frames: PositiveInt = Field(
        default=8, description="Of a video, when equalise asks for frames and no model sets a number"
    )
    frame_px: PositiveInt = Field(default=1024, description="Longest side of a frame")
    max_frames: PositiveInt = Field(default=64, description="The most that fps may ask of one video")
    max_video_s: Seconds = Field(
        default=3 * 3600.0,
        description="Longer videos are refused; a budget assumes this length of one behind a URL",
    )
    decode_timeout_s: Seconds = Field(default=30.0, description="For one media")
    sign_ttl_s: PositiveInt = Field(default=3600, description="How long a presigned URL lasts")

    @model_validator(mode="before")
    @classmethod
    def _null_is_default(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: option for name, option in value.items() if option is not None or name not in _NULLABLE}

    @model_validator(mode="after")
    def _mapped(self) -> Self:
        if self.base_url is not None and self.root is None:
            raise wrong("needs root beside base_url: the local folder that is public there")
        return self

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The options as the user wrote them: a new default does not change the hash of a job."""
        unset = _NULLABLE - self.model_fields_set
        return {name: None if name in unset else value for name, value in handler(self).items()}


_NULLABLE: Final = frozenset(
    name for name, field in MediaOptions.model_fields.items() if not isinstance(field.default, bool)
)
DEFAULTS: Final = MediaOptions()
