"""Spend as FOCUS rows (FinOps Open Cost and Usage Specification), so that finance tools can read it.

Version 1.2, dataset Cost and Usage (https://focus.finops.org/focus-specification/v1-2). One row per day,
gateway, job and model. Left out, because nothing here knows them or because they would be guesses:
ListUnitPrice and ContractedUnitPrice (a row holds input and output tokens, which have different prices),
SkuPriceId, region, resource, commitment discount, capacity reservation, tag and invoice number columns.
Own columns carry the prefix `x_`, as the specification asks.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from mavi_tasks.common.money import usd
from mavi_tasks.costs.arrow_columns import midnight_us, zone_of
from mavi_tasks.costs.cost_report import CostReport, Group
from mavi_tasks.errors import InputError
from mavi_tasks.schema import INSTANT

VERSION = "1.2"
MONEY = pa.decimal128(38, 12)
SCHEMA = pa.schema(
    [
        ("BilledCost", MONEY),
        ("BillingAccountId", pa.string()),
        ("BillingAccountName", pa.string()),
        ("BillingCurrency", pa.string()),
        ("BillingPeriodEnd", INSTANT),
        ("BillingPeriodStart", INSTANT),
        ("ChargeCategory", pa.string()),
        ("ChargeClass", pa.string()),
        ("ChargeDescription", pa.string()),
        ("ChargeFrequency", pa.string()),
        ("ChargePeriodEnd", INSTANT),
        ("ChargePeriodStart", INSTANT),
        ("ConsumedQuantity", pa.decimal128(38, 0)),
        ("ConsumedUnit", pa.string()),
        ("ContractedCost", MONEY),
        ("EffectiveCost", MONEY),
        ("InvoiceIssuerName", pa.string()),
        ("ListCost", MONEY),
        ("PricingCategory", pa.string()),
        ("PricingQuantity", pa.decimal128(38, 6)),
        ("PricingUnit", pa.string()),
        ("ProviderName", pa.string()),
        ("PublisherName", pa.string()),
        ("ServiceCategory", pa.string()),
        ("ServiceName", pa.string()),
        ("ServiceSubcategory", pa.string()),
        ("SkuId", pa.string()),
        ("SkuMeter", pa.string()),
        ("SubAccountId", pa.string()),
        ("SubAccountName", pa.string()),
        ("x_Calls", pa.int64()),
        ("x_ExposureInDoubt", MONEY),
        ("x_FocusVersion", pa.string()),
        ("x_InputTokens", pa.int64()),
        ("x_InvalidCost", MONEY),
        ("x_OutputTokens", pa.int64()),
        ("x_RetriedCost", MONEY),
        ("x_TimeZone", pa.string()),
        ("x_UnpricedCalls", pa.int64()),
        ("x_UsefulCost", MONEY),
    ],
    metadata={"focus_version": VERSION, "focus_dataset": "Cost and Usage"},
)


def focus_table(report: CostReport) -> pa.Table:
    """The report's spend as FOCUS rows; BilledCost adds up to the report's total, to the last digit.

    The gateway is provider, invoice issuer and billing account; the model's family is the publisher, the job
    the sub account. Charge periods are the days of the reporting zone, written in UTC. Costs are the recorded
    ones: no discount is known, so list, contracted, effective and billed cost are equal.
    Raises InputError when there is nothing but sandbox calls, which nobody charges for.
    """
    if report.is_sandbox:
        raise InputError("FOCUS rows are charges, and these datasets hold only sandbox calls")
    return pa.Table.from_pylist(list(_rows(report)), schema=SCHEMA)


def _rows(report: CostReport) -> Iterator[Mapping[str, Any]]:
    for group in report.grouped("day", "gateway", "job", "model"):
        yield {**_when(group.keys[0], report.tz), **_what(group), **_cost(group), "x_TimeZone": report.tz}


def _when(day: str, tz: str) -> Mapping[str, datetime]:
    at = date.fromisoformat(day)
    first = at.replace(day=1)
    following = date(first.year + first.month // 12, first.month % 12 + 1, 1)
    return {
        "ChargePeriodStart": _start(at.toordinal(), tz),
        "ChargePeriodEnd": _start(at.toordinal() + 1, tz),
        "BillingPeriodStart": _start(first.toordinal(), tz),
        "BillingPeriodEnd": _start(following.toordinal(), tz),
    }


def _start(day: int, tz: str) -> datetime:
    return datetime.fromtimestamp(midnight_us(day, zone_of(tz)) / 1_000_000, UTC)


def _what(group: Group) -> Mapping[str, Any]:
    _, gateway, job, model = group.keys
    return {
        "BillingAccountId": gateway,
        "BillingAccountName": gateway,
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargeDescription": f"{model} by {gateway}: {group.spend.calls} calls of job {job}",
        "ChargeFrequency": "Usage-Based",
        "InvoiceIssuerName": gateway,
        "PricingCategory": "Standard",
        "ProviderName": gateway,
        "PublisherName": model.partition(":")[0],
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Vision model completions",
        "ServiceSubcategory": "Generative AI",
        "SkuId": model,
        "SkuMeter": "Input and Output Tokens",
        "SubAccountId": job,
        "SubAccountName": job,
        "x_FocusVersion": VERSION,
    }


def _cost(group: Group) -> Mapping[str, Any]:
    spend = group.spend
    billed = usd(spend.cost_pico)
    tokens = spend.input_tokens + spend.output_tokens
    return {
        "BilledCost": billed,
        "ContractedCost": billed,
        "EffectiveCost": billed,
        "ListCost": billed,
        "ConsumedQuantity": Decimal(tokens),
        "ConsumedUnit": "Tokens",
        "PricingQuantity": Decimal(tokens).scaleb(-6),
        "PricingUnit": "1000000 Tokens",
        "x_Calls": spend.calls,
        "x_ExposureInDoubt": usd(spend.exposure_pico),
        "x_InputTokens": spend.input_tokens,
        "x_InvalidCost": usd(spend.invalid_pico),
        "x_OutputTokens": spend.output_tokens,
        "x_RetriedCost": usd(spend.retried_pico),
        "x_UnpricedCalls": spend.unpriced_calls,
        "x_UsefulCost": usd(spend.useful_pico),
    }
