"""Which column of a manifest holds what, as a job names it."""

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from mavi_tasks.common.field_types import Text
from mavi_tasks.common.strict_model import StrictModel


class Columns(StrictModel):
    """Which column of the manifest holds what. All other columns are template variables, and so is
    `cluster`.

    A column that is named must exist. A default name need not: without `item_id` the media's reference is the
    id, without `prompt` the job's templates apply, and without `truth` no answer is expected. media None: the
    items have no media.
    """

    media: Text | None = Field(default="media_url", description="The media; null = items without media")
    id: Text = Field(
        default="item_id", description="What names the item; without it, the media's reference does"
    )
    prompt: Text = Field(default="prompt", description="The item's own prompt, sent as it stands")
    truth: Text = Field(default="truth", description="The expected answer; never shown to a model")
    cluster: Text | None = Field(
        default=None,
        description="What rows belong together: clips of one video count as one draw; null = the media",
    )

    @model_serializer(mode="wrap")
    def _only_named(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only the columns that were named: these must exist, a default one need not."""
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}

    def named(self, field: str) -> bool:
        """Whether the user named this column, so that it must exist."""
        return field in self.model_fields_set
