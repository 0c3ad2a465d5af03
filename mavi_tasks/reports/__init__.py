"""Pages people open in a browser: one self-contained HTML file each, no network, no server.

html/page.py is the shell of every page, svg_charts.py draws, common/format.py writes numbers; each page is a
module.
"""
