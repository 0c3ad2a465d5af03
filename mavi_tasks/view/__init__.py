"""`mavi view`: a local web app over datasets.

index.py     what of every result fits in memory: codes of its answer's fields, no texts
values.py    an answer -> a short text for each of its fields
filters.py   what a URL asks for -> the items, in order
rows.py      whole rows, read by row group when an item is opened
payloads.py  what the pages get as JSON
media.py     media by item: local files, thumbnails, presigned URLs
access.py    who may ask: hosts, origins, tokens, headers
app.py       the routes
server.py    the index kept up to date, and the server on its port
static/      the page: HTML, CSS and JavaScript as they are, no build step
"""
