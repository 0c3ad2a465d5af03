"""Media: from a reference in a manifest to the parts of a request, or to a refusal with a reason.

    identify(ref)          -> Media | Refusal         what it is; local files are read once, remote ones never
    known(refs)            -> the same for many, as far as nothing must be read
    route_for(media, ...)  -> DeliveryPlan | Refusal  how a family gets it; reads nothing, fit for planning
    MediaLoader            reads and encodes off the event loop, once per media, bounded in memory

| code | means |
|---|---|
| media_missing | there is no such file or object, or it cannot be read |
| media_not_a_file | a folder, pipe, socket or device |
| media_empty | 0 bytes |
| media_changed | it changed while it was read, or after the run was planned |
| media_scheme | neither a path nor http(s), s3, gs, data |
| media_bad_url | a URL or data URL that cannot be read |
| media_kind_unknown | neither image nor video by its content, or a URL that does not say which |
| media_format | a known format that this family does not take and that cannot be converted here |
| media_broken | it cannot be decoded: damaged, cut short, or without frames |
| media_too_large | too many bytes or pixels |
| media_too_long | a video longer than `max_video_s` |
| media_timeout | decoding took longer than `decode_timeout_s` |
| media_not_taken | the family does not take this kind of media |
| text_not_taken | the item has no media, and the family needs one |
| media_mixed | kinds that no single request of this family carries |
| media_too_many | more media or frames than one request takes |
| media_private_url | a private URL, which the gateway cannot fetch |
| video_needs_frames | a video for a family of images: set `frames: 8` |
| video_needs_url | a local video for a family that takes videos by URL only |
| video_needs_extra | frames need `pip install 'mavi-tasks[video]'` |
| s3_needs_extra | the file system for s3:// or gs:// is not installed |
| sign_failed | no presigned URL could be made (credentials, or a store that cannot sign) |
| download_off | a remote media must be read here, but `media.download` is off |
| download_insecure | plain http, but `media.allow_http` is off |
| download_private | an address in a private network, but `media.allow_private` is off |
| download_failed | the server did not give it: status, redirects, connection, time |
"""

from mavi_tasks.media.identify import identify, known
from mavi_tasks.media.loader import LoaderStopped, MediaLoader, PreparedMedia
from mavi_tasks.media.options import DEFAULTS, MediaOptions
from mavi_tasks.media.probe_cache import Probe, ProbeCache
from mavi_tasks.media.routing import equal_frames, public_url, route_for
from mavi_tasks.media.types import (
    Delivery,
    DeliveryPlan,
    DeliveryStep,
    Encoded,
    Media,
    MediaCapabilities,
    Refusal,
    Unit,
)

__all__ = [
    "DEFAULTS",
    "Delivery",
    "DeliveryPlan",
    "DeliveryStep",
    "Encoded",
    "LoaderStopped",
    "Media",
    "MediaCapabilities",
    "MediaLoader",
    "MediaOptions",
    "PreparedMedia",
    "Probe",
    "ProbeCache",
    "Refusal",
    "Unit",
    "equal_frames",
    "identify",
    "known",
    "public_url",
    "route_for",
]
