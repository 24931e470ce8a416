"""Reads {"schemas": {name: schema}, "events": [event]} and writes which schemas are valid, and which events are."""

import json
import sys

from jsonschema import Draft202012Validator

given = json.load(sys.stdin)
for schema in given["schemas"].values():
    Draft202012Validator.check_schema(schema)
events = Draft202012Validator(given["schemas"]["event"])
json.dump({"valid": list(given["schemas"]), "events": [events.is_valid(event) for event in given["events"]]}, sys.stdout)
