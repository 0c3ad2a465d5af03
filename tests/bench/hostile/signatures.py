"""Signed URLs in every spelling that services use: nothing of a secret may be stored or shown.

Each spelling is taken as a manifest's media: what is stored of it, its item id, and the texts of errors about
it are looked at. One case more runs all of them against a sandbox and reads every file of the dataset.
"""

import base64
import itertools
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq

from mavi_tasks.manifest.resolve import name_of
from mavi_tasks.media import Media, MediaOptions, identify
from mavi_tasks.media.urls import shown
from tests.bench.hostile.case import Case
from tests.support.gateways import mavi, remote_sandbox, url_job

SECRET = "5ecRet0f7hEw0rk3r5Zx"
MD5 = "9044548ef1527deadafa49a890a377f0"
HOST = "https://cdn.example.com"
S3 = f"https://b.s3.amazonaws.com/a.jpg?X-Amz-Signature={SECRET}"
JWT = f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.{SECRET}"
NAMES = """
    X-Amz-Signature X-Amz-Security-Token X-Goog-Signature X-Oss-Signature q-signature Signature sig
    Policy AWSAccessKeyId token access_token id_token auth_token private_token auth_key authkey sign
    signature sign_key txSecret wsSecret secret key apikey api-key x-api-key subscription-key code
    tempauth rlkey st e hash h m md5 hmac s hdnts hdnea wmsAuthSign verify validfrom st_token
    oauth_token ticket sessionid jwt password passwd pwd pass share_token resourcekey se_token hm is ex
    cf_token vkey fskey __gda__ __token__ Cookie _sig x-expires
"""
SPELLINGS = {
    **{name: f"{HOST}/a.jpg?w=300&{name}={SECRET}" for name in NAMES.split()},
    "capitals": f"{HOST}/a.jpg?AUTH_KEY={SECRET}",
    "a name with an escape": f"{HOST}/a.jpg?auth%5Fkey={SECRET}",
    "a query without a name": f"{HOST}/a.jpg?{SECRET}",
    "an empty value": f"{HOST}/a.jpg?{SECRET}=",
    "an empty name": f"{HOST}/a.jpg?={SECRET}",
    "two question marks": f"{HOST}/a.jpg?w=3?token={SECRET}",
    "a semicolon": f"{HOST}/a.jpg?w=3;token={SECRET}",
    "an escaped ampersand in a harmless value": f"{HOST}/a.jpg?v=1%26sig%3D{SECRET}",
    "escaped twice": f"{HOST}/a.jpg?v=1%2526sig%253D{SECRET}",
    "a URL in a value": f"{HOST}/a.jpg?url={quote(S3, safe='')}",
    "a URL in a harmless value": f"{HOST}/a.jpg?file={quote(S3, safe='')}",
    "a URL in a value, in base64": f"{HOST}/a.jpg?u={base64.urlsafe_b64encode(S3.encode()).decode()}",
    "a fragment": f"{HOST}/a.jpg#{SECRET}",
    "a fragment with a name": f"{HOST}/a.jpg#access_token={SECRET}",
    "a fragment after a query": f"{HOST}/a.jpg?w=3#t=3&token={SECRET}",
    "user and password": f"https://user:{SECRET}@cdn.example.com/a.jpg",
    "a user alone": f"https://{SECRET}@cdn.example.com/a.jpg",
    "a password with an at": f"https://user:a@{SECRET}@cdn.example.com/a.jpg",
    "a password with a slash": f"https://user:a/{SECRET}@cdn.example.com/a.jpg",
    "a password with a question mark": f"https://user:a?{SECRET}@cdn.example.com/a.jpg",
    "a password with a number sign": f"https://user:a#{SECRET}@cdn.example.com/a.jpg",
    "capital scheme": f"HTTPS://user:{SECRET}@cdn.example.com/a.jpg?token={SECRET}",
    "a bucket's login": f"s3://key:{SECRET}@bucket/a.jpg",
    "Cloudinary": f"https://res.cloudinary.com/demo/image/upload/s--{SECRET[:8]}--/w_300/a.jpg",
    "Cloudinary, long": f"https://res.cloudinary.com/demo/image/authenticated/s--{SECRET}--/a.jpg",
    "Cloudinary, fetched": f"https://res.cloudinary.com/demo/image/fetch/{quote(S3, safe='')}",
    "a URL in the path": f"{HOST}/resize/https://user:{SECRET}@b.example/a.jpg",
    "a URL in the path, in base64": f"{HOST}/x/{base64.urlsafe_b64encode(S3.encode()).decode()}/a.jpg",
    "Akamai": f"{HOST}/hdnts=exp=1700000000~acl=/*~hmac={SECRET}/a.mp4",
    "Vimeo": f"https://vod.example.net/exp=1700000000~acl=%2F1%2F%2A~hmac={SECRET}/a.mp4",
    "Bunny": f"{HOST}/bcdn_token={SECRET}&expires=1700000000/a.mp4",
    "Alibaba type B": f"{HOST}/201508150800/{MD5}/a.mp4",
    "Alibaba type C": f"{HOST}/{MD5}/55CE8100/a.mp4",
    "jsessionid": f"{HOST}/a.jpg;jsessionid={SECRET}",
    "a token in the path": f"{HOST}/download/token/{SECRET}/a.jpg",
    "a JSON Web Token in the path": f"https://videodelivery.example/{JWT}/a.mp4",
    "a JSON Web Token in a value": f"{HOST}/a.jpg?id={JWT}",
    "Telegram": f"https://api.telegram.org/file/bot123456789:AAE{SECRET}xyzzy01234/photos/a.jpg",
    "signed by Azure": f"https://a.blob.core.windows.net/c/a.jpg?sv=2023&sp=r&sig={SECRET}%3D",
    "Discord": f"https://cdn.discordapp.com/attachments/1/2/a.png?ex=65&is=65&hm={SECRET}&",
}  # fmt: skip
SECRETS = (SECRET, SECRET[:8], MD5)
ANY = MediaOptions(default_kind="image")


def leaks(text: str) -> bool:
    return any(secret.lower() in text.lower() for secret in SECRETS) or SECRET[8:] in text


def spelling(url: str) -> str | None:
    media = identify(url, ANY)
    texts = {"shown": shown(url), "the item id": name_of(url), "the item id by its end": ""}
    texts["the item id by its end"] = name_of(url.removeprefix(f"{HOST}/"), url)
    if isinstance(media, Media):
        texts["stored"] = media.uri
        if media.source.lower() != quote(url, safe="%/:=&?~#+!$,;'@()*[]").lower():
            return f"sent as {media.source}"
    else:
        texts["the reason"] = media.reason
    return next((f"{name}: {text}" for name, text in texts.items() if leaks(text)), None)


def different(folder: Path) -> str | None:
    """Two media that differ in a hidden part stay two; known signatures are left out, and leave no mark."""
    urls = [url.replace(SECRET, other) for url in SPELLINGS.values() for other in (SECRET, SECRET[::-1])]
    known = [media for url in urls if isinstance(media := identify(url, ANY), Media)]
    # User and password, and signatures that are known by name, tell no media from another.
    gone = {"X-Amz", "X-Goog", "X-Oss"}
    for one, other in itertools.pairwise(known):
        if (
            one.uri == other.uri
            and one.source != other.source
            and "hidden-" in one.uri
            and not any(word in one.source for word in gone)
        ):
            return f"{one.source} and {other.source} are both stored as {one.uri}"
    return None


def whole_run(folder: Path) -> str | None:
    """All spellings in one manifest: every file of the dataset is read, and a second run pays for nothing."""
    manifest = folder / "m.csv"
    urls = [url for url in SPELLINGS.values() if "/user:a" not in url]
    manifest.write_text("media_url,media_kind\n" + "".join(f'"{url}",image\n' for url in urls))
    with remote_sandbox() as sandbox:
        job = url_job(folder, 1, sandbox.base_url, manifest=str(manifest))
        done = mavi("run", job)
        again = mavi("run", job, "--json")
    if leaks(done.out + done.err):
        return "a secret was printed"
    if again.json["already_answered"] < 80:
        return f"only {again.json['already_answered']} answers were found again"
    return next((f"{name} holds a secret" for name, text in texts_of(folder / "out") if leaks(text)), None)


def texts_of(out: Path):
    """Every file of a dataset as text; Parquet is read, because it is compressed."""
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        text = str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""
        yield path.name, path.name + text + path.read_bytes().decode("utf-8", "replace")


CASES = [
    *(Case(name, lambda _, url=url: spelling(url)) for name, url in SPELLINGS.items()),
    Case("different media stay different", different),
    Case("a whole run", whole_run, longest_s=120),
]
