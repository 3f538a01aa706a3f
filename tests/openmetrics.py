#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Read OpenMetrics text on standard input as strictly as the standard's own parser does.

Exits 1 with the fault, 3 without python3-prometheus-client.
"""
import sys

try:
    from prometheus_client.openmetrics.parser import text_string_to_metric_families
except ImportError:
    print("python3-prometheus-client is not installed", file=sys.stderr)
    sys.exit(3)


def main():
    seen = set()
    try:
        for family in text_string_to_metric_families(sys.stdin.buffer.read().decode()):
            for sample in family.samples:
                series = (sample.name, frozenset(sample.labels.items()))
                if series in seen:
                    raise ValueError(f"{series} is there twice")
                seen.add(series)
    except ValueError as fault:
        print(f"not OpenMetrics: {fault}", file=sys.stderr)
        sys.exit(1)
    print(len(seen))


if __name__ == "__main__":
    main()
