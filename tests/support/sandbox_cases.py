"""Requests for the embedded gateway: builders for each family's format, refused and accepted requests."""

import base64
import io

from PIL import Image

KEY = "sk-mavi-test"
VIDEO_URL = "https://media.example/clip.mp4"
IMAGE_URL = "https://media.example/a.jpg"


def picture(width=64, height=48, form="JPEG", color="red", **more):
    stream = io.BytesIO()
    Image.new("RGB", (width, height), color).save(stream, form, **more)
    return stream.getvalue()


def b64(data):
    return base64.b64encode(data).decode()


JPEG = b64(picture())
PNG = b64(picture(form="PNG"))


def user(*parts):
    return [{"role": "user", "content": list(parts)}]


def t(text="What is this?"):
    return {"type": "text", "text": text}


def gemini(*parts, **more):
    return {"model": "gemini:gemini-2.5-flash", "messages": user(t(), *parts), **more}


def qwen(*parts, **more):
    return {"model": "qwen:qwen3-vl-plus", "messages": user({"text": "What?"}, *parts), **more}


def nova(*parts, **more):
    return {"model": "nova:us.amazon.nova-lite-v1:0", "messages": user(t(), *parts), **more}


def gpt(*parts, **more):
    return {"model": "gpt:gpt-4o", "messages": user(t(), *parts), **more}


def meta(**metadata):
    return {"extra_body": {"metadata": metadata}}


def file(uri=IMAGE_URL, mime="image/jpeg"):
    return {"type": "input_file", "file_uri": uri, "mime_type": mime}


def image(url=IMAGE_URL):
    return {"type": "image_url", "image_url": {"url": url}}


def video(url=VIDEO_URL):
    return {"type": "video_url", "video_url": url}


def send(client, sandbox, endpoint, body, **kwargs):
    url = f"{sandbox.base_url}{endpoint}/chat/completions"
    if isinstance(body, bytes):
        return client.post(url, content=body, headers={"Content-Type": "application/json"}, **kwargs)
    return client.post(url, json=body, **kwargs)


# endpoint, body, and what the message must name
UPPER = {"type": "OBJECT", "properties": {"a": {"type": "STRING"}}, "required": ["a"]}
LOWER = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "pet", "schema": LOWER}}
TOOL = {"toolSpec": {"name": "pet", "description": "a pet", "inputSchema": {"json": LOWER}}}
TEXT_ONLY = {"temperature": 0, "top_p": 1, "max_tokens": 5, "n": 1, "stream": False, "stop": None}

REFUSED = [
    # models
    ("/vu", {"messages": user(t())}, "model: required"),
    ("/vu", gemini(model="gemini-2.5-flash"), "model: 'gemini-2.5-flash' must start"),
    ("/vu", gemini(model="claude:opus"), "model: 'claude:opus' must start"),
    ("/vu", gemini(model="gemini:gemini-9"), "model: model not found"),
    ("/vu", gemini(model=7), "model: 7"),
    ("/vu", gpt(), "model: gpt:gpt-4o is not served at /vu"),
    # top level
    ("/vu", b"{", "request body: not JSON"),
    ("/vu", b'{"model": NaN}', "request body: not JSON"),
    ("/vu", b"[1]", "request body: [1]"),
    ("/vu", {"model": "gemini:gemini-2.5-flash"}, "messages: required"),
    ("/vu", gemini(max_completion_tokens=5), "max_completion_tokens: unknown"),
    ("/vu", gemini(response_format={"type": "json_object"}), "response_format: unknown"),
    ("/iu", gpt(extra_body={}), "extra_body: unknown"),
    ("/iu", gpt(detail="low"), "detail: unknown"),
    # parameters
    ("/vu", gemini(temperature=2.1), "temperature: 2.1"),
    ("/vu", gemini(temperature="0"), "temperature: '0'"),
    ("/vu", gemini(temperature=True), "temperature: True"),
    ("/vu", gemini(temperature=None), "temperature: None"),
    ("/vu", gemini(top_p=1.5), "top_p: 1.5"),
    ("/vu", gemini(frequency_penalty=-3), "frequency_penalty: -3"),
    ("/vu", gemini(presence_penalty=2.5), "presence_penalty: 2.5"),
    ("/vu", gemini(max_tokens=0), "max_tokens: 0"),
    ("/vu", gemini(max_tokens=1.0), "max_tokens: 1.0"),
    ("/vu", gemini(max_tokens=100_000), "max_tokens: 100000"),
    ("/vu", qwen(model="qwen:qwen-vl-max", max_tokens=8193), "max_tokens: 8193"),
    ("/vu", gemini(n=0), "n: 0"),
    ("/vu", gemini(stream=True), "stream: "),
    ("/vu", gemini(stream="false"), "stream: 'false'"),
    ("/vu", gemini(stop=["a", 1]), "stop: ['a', 1]"),
    # messages
    ("/vu", gemini(messages=[]), "messages: []"),
    ("/vu", gemini(messages="hi"), "messages: 'hi'"),
    ("/vu", gemini(messages=["hi"]), "messages[0]: 'hi'"),
    ("/vu", gemini(messages=[{"role": "system", "content": "x"}]), "messages: no message has the role user"),
    ("/vu", gemini(messages=[{"role": "tool", "content": "x"}]), "messages[0].role: 'tool'"),
    ("/vu", qwen(messages=[{"role": "assistant", "content": "x"}]), "messages[0].role: 'assistant'"),
    ("/vu", gemini(messages=[{"role": "user"}]), "messages[0].content: required"),
    ("/vu", gemini(messages=[{"role": "user", "content": [t()], "name": "x"}]), "messages[0].name: unknown"),
    ("/vu", gemini(messages=[{"role": "user", "content": "hi"}]), "Model input cannot be empty"),
    ("/vu", gemini(messages=[{"role": "user", "content": []}]), "messages[0].content: []"),
    ("/vu", gemini(t("")), "messages[0].content[1].text: ''"),
    (
        "/iu",
        gpt(messages=[{"role": "system", "content": [image()]}]),
        "messages[0].content[0].image_url.url: only",
    ),
    # gemini's parts and options
    ("/vu", gemini({"text": "hi"}), "content[1].type: required"),
    ("/vu", gemini(image()), "content[1].type: 'image_url'"),
    ("/vu", gemini({"type": "input_file", "file_uri": IMAGE_URL}), "content[1].mime_type: required"),
    ("/vu", gemini({**file(), "fps": 1}), "content[1].fps: unknown"),
    ("/vu", gemini(file(mime="application/pdf")), "content[1].mime_type: 'application/pdf'"),
    ("/vu", gemini(file(mime="image/gif")), "content[1].file_uri: image/gif is not taken"),
    ("/vu", gemini(file("gs://bucket/a.jpg")), "content[1].file_uri: neither"),
    ("/vu", gemini(file("https:///a.jpg")), "content[1].file_uri: 'https:///a.jpg'"),
    ("/vu", gemini(file(JPEG, "image/png")), "content[1].file_uri: says image/png, its bytes are image/jpeg"),
    ("/vu", gemini(file(f"data:image/png;base64,{PNG}")), "content[1].file_uri: the data URL says image/png"),
    ("/vu", gemini(file(JPEG[:-2])), "content[1].file_uri: neither an http(s) URL nor valid base64"),
    ("/vu", gemini(file(b64(b"\xff\xd8\xff nothing"))), "content[1].file_uri: the image cannot be decoded"),
    ("/vu", gemini(file(b64(b"plain text"))), "content[1].file_uri: the base64 text is no known image"),
    ("/vu", gemini(file(b64(b"\0\0\0\x18ftypisom"), "video/mp4")), "base64 video is not supported"),
    ("/iu", gemini(file(VIDEO_URL, "video/mp4")), "content[1].mime_type: video is taken at /vu"),
    ("/vu", gemini(*[file(VIDEO_URL, "video/mp4")] * 11), "messages: 11 videos"),
    ("/vu", gemini(extra_body={"thinking_config": {}}), "extra_body.thinking_config: unknown"),
    ("/vu", gemini(**meta(thinking_budget=1)), "extra_body.metadata.thinking_budget: unknown"),
    ("/vu", gemini(**meta(thinking_config={"thinking_budget": "1"})), "thinking_config.thinking_budget: '1'"),
    ("/vu", gemini(**meta(response_mime_type="text/x")), "metadata.response_mime_type: 'text/x'"),
    ("/vu", gemini(**meta(responseSchema=UPPER)), "metadata.responseSchema: needs response_mime_type"),
    (
        "/vu",
        gemini(**meta(response_mime_type="application/json", responseSchema=LOWER)),
        "responseSchema.type: 'object'",
    ),
    (
        "/vu",
        gemini(
            **meta(response_mime_type="json_schema", responseSchema={**UPPER, "additionalProperties": False})
        ),
        "responseSchema.additionalProperties: not a word",
    ),
    # qwen's parts and options
    ("/vu", qwen(t()), "content[1].type: unknown"),
    ("/vu", qwen({"image": IMAGE_URL, "text": "x"}), "content[1]: keys image, text"),
    ("/vu", qwen({"audio": IMAGE_URL}), "content[1]: keys audio"),
    ("/iu", qwen({"video": VIDEO_URL}), "content[1]: keys video"),
    ("/vu", qwen({"video": b64(b"\0\0\0\x18ftypisom")}), "content[1].video: video must be an http(s) URL"),
    ("/vu", qwen({"image": {"url": IMAGE_URL}}), "content[1].image: {'url'"),
    ("/vu", qwen({"image": "A" * 10_000_004}), "content[1].image: 10000004 base64 characters"),
    ("/vu", qwen(*[{"video": VIDEO_URL}] * 65), "messages: 65 videos"),
    ("/vu", qwen(**meta(thinking_config={})), "extra_body.metadata.thinking_config: unknown"),
    ("/vu", qwen(**meta(enable_thinking=1)), "extra_body.metadata.enable_thinking: 1"),
    (
        "/vu",
        qwen(**meta(response_format={"type": "json_object"})),
        "metadata.response_format.json_schema: required",
    ),
    ("/vu", qwen(**meta(response_format={**JSON_SCHEMA, "strict": True})), "response_format.strict: unknown"),
    # nova's parts and options
    ("/vu", nova(image()), "content[1].type: 'image_url'"),
    ("/iu", nova(video()), "content[1].type: 'video_url'"),
    ("/vu", nova({"type": "video_url", "video_url": 3}), "content[1].video_url: 3"),
    ("/vu", nova(video({"url": VIDEO_URL, "fps": 2})), "content[1].video_url.fps: unknown"),
    ("/vu", nova(video(), video()), "messages: 2 videos"),
    ("/vu", nova(video(JPEG)), "content[1].video_url: image/jpeg is not taken as video"),
    ("/iu", nova(*[image(JPEG)] * 6), "messages: 6 base64 images"),
    ("/vu", nova(**meta(responseSchema=UPPER)), "extra_body.metadata.responseSchema: unknown"),
    ("/vu", nova(**meta(toolConfig={"tools": [TOOL], "toolChoice": {}})), "toolConfig.toolChoice: unknown"),
    ("/vu", nova(**meta(toolConfig={"tools": []})), "metadata.toolConfig.tools: []"),
    # gpt's parts and options
    ("/iu", gpt({"type": "image_url", "image_url": IMAGE_URL}), "content[1].image_url: 'https://media"),
    (
        "/iu",
        gpt({"type": "image_url", "image_url": {"url": IMAGE_URL, "detail": "low"}}),
        "image_url.detail: unknown",
    ),
    (
        "/iu",
        gpt(image(VIDEO_URL), response_format={"type": "json_object"}),
        "response_format: json_object needs",
    ),
    ("/iu", gpt(response_format={"type": "json_schema"}), "response_format.type: 'json_schema'"),
    ("/iu", gpt(image(b64(picture(form="BMP")))), "content[1].image_url.url: image/bmp is not taken"),
    (
        "/iu",
        gpt(image(b64(picture(form="GIF", save_all=True, append_images=[Image.new("RGB", (64, 48))])))),
        "content[1].image_url.url: an animated image",
    ),
]


TAKEN = [
    ("/vu", gemini(file())),
    ("/iu", gemini(file(JPEG))),
    ("/vu", gemini(file(f"data:image/jpeg;base64,{JPEG}"))),
    ("/vu", gemini(file(VIDEO_URL, "video/mp4"), **TEXT_ONLY)),
    ("/vu", gemini(**meta(thinking_config={"thinking_budget": 0}))),
    ("/iu", gemini(messages=[{"role": "user", "content": "hi"}])),
    ("/vu", qwen({"image": IMAGE_URL}, {"video": VIDEO_URL}, stop=["END"])),
    ("/vu", qwen(messages=[{"role": "system", "content": "x"}, {"role": "user", "content": "hi"}])),
    ("/vu", qwen(**meta(enable_thinking=True, thinking_budget=60))),
    ("/vu", nova(video())),
    ("/vu", nova(video({"url": VIDEO_URL}))),
    ("/iu", nova(image(JPEG), {"type": "image_url", "image_url": IMAGE_URL})),
    ("/vu", nova(model="nova:amazon.nova-lite-v1:0")),
    ("/iu", gpt(image(), image(f"data:image/png;base64,{PNG}"))),
]
