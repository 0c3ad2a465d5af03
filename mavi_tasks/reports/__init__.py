"""Pages people open in a browser: one self-contained HTML file each, no network, no server.

page.py is the shell every page shares, words.py says numbers, charts.py draws them; each page is a module.
"""
