#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Validate JSON on standard input against a schema.

    validate.py [--closed] SCHEMA    e.g. bqlstat doctor --json | validate.py docs/schema/doctor.json

--closed: members that the schema does not know are faults, too. The schemas themselves leave room,
since members may be added; the tests do not. Exits 1 with a line for each fault, 3 without jsonschema.
"""
import json
import sys

try:
    import jsonschema
except ImportError:
    print("python3-jsonschema is not installed", file=sys.stderr)
    sys.exit(3)


def close(schema):
    """Forbid, in every object with named members, all others."""
    if isinstance(schema, list):
        for item in schema:
            close(item)
    elif isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            schema["additionalProperties"] = False
        for item in schema.values():
            close(item)


def main():
    closed = "--closed" in sys.argv
    names = [a for a in sys.argv[1:] if a != "--closed"]
    if len(names) != 1:
        sys.exit(__doc__)
    with open(names[0]) as f:
        schema = json.load(f)
    jsonschema.Draft202012Validator.check_schema(schema)
    if closed:
        close(schema)
    faults = list(jsonschema.Draft202012Validator(schema).iter_errors(json.load(sys.stdin)))
    for fault in faults:
        # Of several possible forms: what is wrong with the one that fits best.
        while fault.context:
            fault = jsonschema.exceptions.best_match(fault.context)
        print(fault.json_path + ": " + fault.message[:300], file=sys.stderr)
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
