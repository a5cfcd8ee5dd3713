"""Validate answers against a schema of an OpenAPI document: print what is wrong, a line each."""

import json
import sys

import jsonschema_rs

given = json.load(sys.stdin)
schema = {"$ref": f"#/components/schemas/{given['schema']}"}
schema["components"] = given["document"]["components"]
validator = jsonschema_rs.validator_for(schema)
for number, answer in enumerate(given["answers"]):
    for error in validator.iter_errors(answer):
        print(number, error.instance_path, error.message)
