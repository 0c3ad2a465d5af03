"""What every command prints the same way."""

import json


def print_json(value: object) -> None:
    """One line of JSON on stdout: what `--json` promises."""
    print(json.dumps(value, ensure_ascii=False))
