"""`mavi price`: the exact cost of one request."""

import argparse

from mavi_tasks.cli.arguments import day, tokens
from mavi_tasks.common.screen import print_json, say


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument(
        "--input", type=tokens, required=True, metavar="N", help="input tokens of one request"
    )
    parser.add_argument("--output", type=tokens, required=True, metavar="N", help="output tokens")
    parser.add_argument("--on", type=day, metavar="DATE", help="the price in force on this day")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def command(args: argparse.Namespace) -> int:
    from mavi_tasks.api.analysis import request_cost
    from mavi_tasks.common.money import exact_text

    cost = request_cost(args.model, args.input, args.output, args.on)
    assert cost.total_pico is not None
    row = {
        "model": args.model,
        "input_tokens": args.input,
        "output_tokens": args.output,
        "cost_usd": exact_text(cost.total_pico),
        "price_id": cost.price_id,
    }
    if args.json:
        print_json(row)
    else:
        say(f"{args.model}: {args.input} in + {args.output} out = ${row['cost_usd']} ({cost.price_id})")
    return 0
